//! Models with random weights in the shape of a published one, for profiling hardware without
//! downloading anything.
//!
//! A model is made once and kept in the cache folder under a name that tells shape, quantisation
//! and [`VERSION`]. A kept file counts only when its metadata and tensors are exactly those that
//! would be written now, so that an edited shape is never served with yesterday's numbers. What
//! such a model says is noise; what it costs is what the published model costs.

mod layout;
mod vocab;
mod weights;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::shapes::{Shape, shape};
use super::{SYNTH, StoreOptions, StoreProgress, file_type};
use crate::engine::gguf::{DEFAULT_ALIGNMENT, Gguf, Metadata, TensorInfo, TensorSpec};
use crate::engine::model::Blueprint;
use crate::engine::model::hparams::cut;
use crate::engine::tensor::FileType;

use layout::{Layout, lay_out};

/// Goes up when the numbers in the files change, so that older files are made again.
const VERSION: u32 = 1;

/// Bytes that are made and written at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Bytes that must be free beyond those of the tensors: the header, and a little for others.
const SPARE_BYTES: u64 = 64 << 20;

/// Which model with random weights.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SynthSpec {
    /// The name of the shape, see [`super::shapes()`].
    pub shape: String,
    /// The quantisation mix.
    pub file_type: FileType,
}

impl SynthSpec {
    /// Reads `SHAPE:QUANT`. Whether there is such a shape depends on the options and is checked
    /// later.
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let Some((shape, quant)) = text.rsplit_once(':').filter(|(shape, _)| !shape.is_empty())
        else {
            let arg = cut(&format!("{SYNTH}{text}"));
            let problem = "random weights are named synth:SHAPE:QUANT".to_owned();
            return Err(StoreError::Argument { arg, problem });
        };
        Ok(Self { shape: shape.to_owned(), file_type: file_type(quant)? })
    }
}

impl fmt::Display for SynthSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SYNTH}{}:{}", self.shape, self.file_type.name())
    }
}

impl Shape {
    /// The metadata and tensors of a model of this shape, without making it. Offsets count from
    /// where the data would begin.
    ///
    /// # Errors
    /// When the vocabulary is too small for one to be made up.
    pub fn header(&self, file_type: FileType) -> Result<(Metadata, Vec<TensorInfo>), StoreError> {
        let Layout { writer, metadata, .. } = lay_out(self, file_type)?;
        let mut end = 0;
        let tensors = writer.tensors().iter().map(|spec| {
            let offset = end;
            end += padded_bytes(spec);
            let TensorSpec { name, dtype, ne, n_dims, bytes } = spec.clone();
            TensorInfo { name, dtype, ne, n_dims, offset, bytes, file: 0 }
        });
        let tensors = tensors.collect();
        Ok((metadata, tensors))
    }

    /// The blueprint of a model of this shape, without making it: enough to plan with.
    ///
    /// # Errors
    /// When the shape's numbers and the tensors that they call for do not make a model.
    pub fn blueprint(&self, file_type: FileType) -> Result<Blueprint, StoreError> {
        let (metadata, tensors) = self.header(file_type)?;
        Blueprint::bind(&metadata, &tensors)
            .map_err(|source| StoreError::Unbindable { name: self.name.clone(), source })
    }
}

/// Where [`super::open`] keeps the model, made or not.
///
/// # Errors
/// When there is no cache folder.
pub fn synth_path(spec: &SynthSpec, options: &StoreOptions) -> Result<PathBuf, StoreError> {
    let dir = options.cache_dir.as_ref().ok_or(StoreError::NoCacheDir)?;
    // The name of a user's shape is a file name, so it holds no separators.
    Ok(dir.join(format!("synth-{}-{}-v{VERSION}.gguf", spec.shape, spec.file_type.name())))
}

/// Opens the model, making it first when it has not been made.
pub(super) fn open(
    spec: &SynthSpec,
    options: &StoreOptions,
    progress: &mut dyn FnMut(StoreProgress<'_>),
) -> Result<Gguf, StoreError> {
    let shape = shape(&spec.shape, options)?;
    let spec = SynthSpec { shape: shape.name.clone(), file_type: spec.file_type };
    let path = synth_path(&spec, options)?;
    if let Some(kept) = kept(&path, &lay_out(&shape, spec.file_type)?) {
        return Ok(kept);
    }
    synthesize(&shape, spec.file_type, &path, progress)?;
    Ok(Gguf::open(&path)?)
}

/// The file at `path`, when it is what `layout` describes.
fn kept(path: &Path, layout: &Layout) -> Option<Gguf> {
    let file = Gguf::open(path).ok()?;
    let specs = layout.writer.tensors();
    let same = file.metadata() == &layout.metadata
        && file.tensors().len() == specs.len()
        && file.tensors().iter().zip(specs).all(|(info, spec)| {
            info.name == spec.name && info.dtype == spec.dtype && info.ne == spec.ne
        });
    same.then_some(file)
}

/// Writes a model with random weights to `path`, the same bytes for the same shape and file type.
/// Until it is whole it is called `PATH.part`; no more than a few MiB of it are in memory at once.
///
/// # Errors
/// When the shape cannot be bound, when there is too little space, when another process is writing
/// the same file, and when writing fails.
pub fn synthesize(
    shape: &Shape,
    file_type: FileType,
    path: &Path,
    progress: &mut dyn FnMut(StoreProgress<'_>),
) -> Result<(), StoreError> {
    shape.blueprint(file_type)?;
    let Layout { writer, fills, .. } = lay_out(shape, file_type)?;
    let total_bytes = writer.tensors().iter().map(padded_bytes).sum();
    make_room(path, total_bytes)?;
    let what = SynthSpec { shape: shape.name.clone(), file_type }.to_string();
    let mut done_bytes = 0;
    let mut report = |done_bytes| progress(StoreProgress { what: &what, done_bytes, total_bytes });
    report(0);
    let specs = writer.tensors().to_vec();
    let mut stream = writer.create(path)?;
    let mut source = weights::Source::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    for (spec, fill) in specs.iter().zip(&fills) {
        let n_rows = spec.ne[1..].iter().product();
        let tensor = (spec.name.as_str(), spec.dtype, spec.ne[0], n_rows);
        source.fill(tensor, fill, &mut buffer, |piece| {
            stream.write_piece(&spec.name, piece)?;
            report(done_bytes + piece.len() as u64);
            done_bytes += piece.len() as u64;
            Ok::<_, StoreError>(())
        })?;
    }
    stream.commit()?;
    report(total_bytes);
    Ok(())
}

/// Bytes of a tensor with the padding after it.
fn padded_bytes(spec: &TensorSpec) -> u64 {
    spec.bytes.next_multiple_of(DEFAULT_ALIGNMENT)
}

/// Makes the folder of `path` and checks that `bytes` fit into it.
fn make_room(path: &Path, bytes: u64) -> Result<(), StoreError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    fs::create_dir_all(dir).map_err(|e| StoreError::io(dir, e))?;
    let free = fs4::available_space(dir).map_err(|e| StoreError::io(dir, e))?;
    let needed = bytes.saturating_add(SPARE_BYTES);
    if needed > free {
        return Err(StoreError::NoSpace { path: path.to_owned(), needed, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_before_a_byte_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/x.gguf");
        let error = make_room(&path, 1 << 60).unwrap_err();
        assert!(matches!(error, StoreError::NoSpace { .. }));
        assert!(error.to_string().contains("needs 1073741824.1 GiB, but only "), "{error}");
        assert!(error.hint().unwrap().contains("GPUWHY_CACHE"));
        assert!(make_room(&path, 1).is_ok());
    }

    #[test]
    fn the_cache_file_tells_what_it_is() {
        let spec = SynthSpec { shape: "qwen2.5-0.5b".into(), file_type: FileType::Q4_K_M };
        let options = StoreOptions { cache_dir: Some("c".into()), ..StoreOptions::default() };
        let path = synth_path(&spec, &options).unwrap();
        assert_eq!(path, Path::new("c/synth-qwen2.5-0.5b-Q4_K_M-v1.gguf"));
        let nowhere = synth_path(&spec, &StoreOptions::default()).unwrap_err();
        assert!(matches!(nowhere, StoreError::NoCacheDir));
    }
}
