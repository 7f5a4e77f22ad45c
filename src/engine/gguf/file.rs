//! An open model: one file or all parts of a split one, as a single list of tensors.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::error::{ErrorKind, GgufError};
use super::header::{self, Header};
use super::mapped::MappedFile;
use super::metadata::Metadata;
use super::reader::Field;
use super::split::{self, Claim};
use super::tensor_info::TensorInfo;
use super::value::Value;

/// Where the bytes of a model live. Only mappings are sure to begin at a page; the others may
/// begin anywhere, so code that reads weights in place must not rely on alignment.
#[derive(Clone, Debug)]
pub enum Source {
    /// Mapped files, one per part. Whoever uses weights in place keeps a clone of its `Arc`.
    Maps(Vec<Arc<MappedFile>>),
    /// Bytes built into the program.
    Static(&'static [u8]),
    /// Bytes made at run time.
    Memory(Arc<[u8]>),
}

impl Source {
    /// The bytes of part `file`.
    fn bytes(&self, file: usize) -> &[u8] {
        match self {
            Source::Maps(maps) => &maps[file],
            Source::Static(bytes) => bytes,
            Source::Memory(bytes) => bytes,
        }
    }
}

/// An open model. All checks are done: sizes, places and names of tensors can be relied on.
pub struct Gguf {
    name: String,
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    source: Source,
}

impl Gguf {
    /// Opens a model file by mapping it. When it is a part of a split model, whichever, opens all
    /// parts; they lie in the same folder under names that [`part_name`](super::part_name) makes.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let (map, header) = open_part(path)?;
        let Some(claim) = Claim::read(&header.metadata)? else {
            let name = path.display().to_string();
            return Self::assemble(name, vec![header], Source::Maps(vec![Arc::new(map)]));
        };
        let paths = split::part_paths(path, &header.metadata, &claim)?;
        let mut named = Some((map, header));
        let (mut maps, mut headers) = (Vec::new(), Vec::new());
        for (no, part) in paths.iter().enumerate() {
            let already = if no as u64 == claim.no { named.take() } else { None };
            let (map, header) = match already {
                Some(opened) => opened,
                None => open_part(part)?,
            };
            maps.push(Arc::new(map));
            headers.push(header);
        }
        split::check_parts(&headers)?;
        Self::assemble(paths[0].display().to_string(), headers, Source::Maps(maps))
    }

    /// Reads a model that is built into the program.
    pub fn from_static(bytes: &'static [u8]) -> Result<Gguf, GgufError> {
        Self::unmapped("(built-in model)", bytes, Source::Static(bytes))
    }

    /// Reads a model from memory; `name` stands for the file in errors.
    pub fn from_bytes(name: &str, bytes: impl Into<Arc<[u8]>>) -> Result<Gguf, GgufError> {
        let bytes = bytes.into();
        Self::unmapped(name, &bytes.clone(), Source::Memory(bytes))
    }

    fn unmapped(name: &str, bytes: &[u8], source: Source) -> Result<Gguf, GgufError> {
        let header = header::parse(bytes, bytes.len() as u64, name)?;
        if let Some(claim) = Claim::read(&header.metadata)? {
            return Err(split::parts_out_of_reach(&header.metadata, &claim));
        }
        Self::assemble(name.to_owned(), vec![header], source)
    }

    /// Joins the headers of all parts, in order.
    fn assemble(name: String, headers: Vec<Header>, source: Source) -> Result<Gguf, GgufError> {
        let mut tensors = Vec::with_capacity(headers.iter().map(|h| h.tensors.len()).sum());
        let mut index = HashMap::with_capacity(tensors.capacity());
        let mut first = None;
        for (file, header) in headers.into_iter().enumerate() {
            for mut info in header.tensors {
                info.file = file;
                if index.insert(info.name.clone(), tensors.len()).is_some() {
                    let field = Field::Tensor("name", &info.name);
                    return Err(GgufError::field(
                        header.metadata.file(),
                        field,
                        ErrorKind::DuplicateTensor,
                    ));
                }
                tensors.push(info);
            }
            first.get_or_insert((header.version, header.metadata));
        }
        let (version, metadata) = first.unwrap_or_default();
        Ok(Gguf { name, version, metadata, tensors, index, source })
    }

    /// The file's name for messages: the path of the first part, or what the model was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The GGUF version of the first part: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata; of a split model, that of its first part, where converters put it.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The value under this metadata key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// All tensors, part by part, in the order of the files.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&at| &self.tensors[at])
    }

    /// The bytes of a tensor of this model: rows of blocks as its type lays them out, `ne[0]`
    /// fastest.
    ///
    /// # Panics
    ///
    /// When `info` comes from another model and does not fit this one.
    pub fn data(&self, info: &TensorInfo) -> &[u8] {
        &self.source.bytes(info.file)[info.offset as usize..][..info.bytes as usize]
    }

    /// Where the bytes live.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The mapped files, one per part, indexed by [`TensorInfo::file`]; empty when the model was
    /// not mapped.
    pub fn maps(&self) -> &[Arc<MappedFile>] {
        match &self.source {
            Source::Maps(maps) => maps,
            Source::Static(_) | Source::Memory(_) => &[],
        }
    }

    /// Bytes of all files together, headers and padding included.
    pub fn total_bytes(&self) -> u64 {
        match &self.source {
            Source::Maps(maps) => maps.iter().map(|map| map.len() as u64).sum(),
            Source::Static(_) | Source::Memory(_) => self.source.bytes(0).len() as u64,
        }
    }
}

/// Prints the outline only; a vocabulary is no reading matter.
impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("metadata", &self.metadata.len())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

fn open_part(path: &Path) -> Result<(MappedFile, Header), GgufError> {
    let map = MappedFile::open(path)?;
    let header = header::parse(&map, map.len() as u64, &path.display().to_string())?;
    Ok((map, header))
}
