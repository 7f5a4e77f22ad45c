//! Writes GGUF files: the header from metadata and tensor specs, then the tensors' data as a
//! stream, so that no more of a model needs to be in memory than the piece being written.
//!
//! Metadata and tensors are written in the order they were added. Each tensor begins at a multiple
//! of the alignment and the last one is padded too, as ggml does it. A finished file always reads
//! back; a file that could not be finished never appears under its name.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::{ErrorKind, GgufError};
use super::header::read_alignment;
use super::metadata::Metadata;
use super::reader::Field;
use super::tensor_info::tensor_bytes;
use super::value::{Value, put_str};
use super::{MAGIC, MAX_ARRAY_DEPTH, MAX_KEY_BYTES, MAX_NAME_BYTES};
use crate::engine::tensor::DType;

/// What the writer calls its output in errors when it has no path.
const UNNAMED: &str = "(new GGUF file)";

/// A tensor to be written: name, type, shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name.
    pub name: String,
    /// The type of the elements.
    pub dtype: DType,
    /// Elements per dimension in ggml's order, `ne[0]` fastest; 1 from `n_dims` on.
    pub ne: [usize; 4],
    /// How many dimensions to state, 1 to 4.
    pub n_dims: usize,
    /// Bytes of data, which follow from type and shape.
    pub bytes: u64,
}

/// What will be written: add metadata and tensors, then [`start`](Self::start) or
/// [`create`](Self::create).
#[derive(Clone, Debug)]
pub struct GgufWriter {
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorSpec>,
    names: HashSet<String>,
}

impl GgufWriter {
    /// A file of version 3 with this metadata and no tensors yet. The key `general.alignment` sets
    /// the alignment.
    pub fn new(metadata: Metadata) -> Self {
        Self { version: 3, metadata, tensors: Vec::new(), names: HashSet::new() }
    }

    /// Writes version 2 instead, which differs in nothing but the number.
    #[must_use]
    pub fn version_2(mut self) -> Self {
        self.version = 2;
        self
    }

    /// Adds a tensor. `ne` has 1 to 4 dimensions in ggml's order, `ne[0]` fastest.
    pub fn add_tensor(&mut self, name: &str, dtype: DType, ne: &[usize]) -> Result<(), GgufError> {
        let error = |part, kind| GgufError::field(UNNAMED, Field::Tensor(part, name), kind);
        // ggml keeps names with a terminator in 64 bytes and refuses files with longer ones.
        let (len, max) = (name.len() as u64, MAX_NAME_BYTES - 1);
        if len > max {
            return Err(error("name", ErrorKind::TooLong { len, max }));
        }
        if !(1..=4).contains(&ne.len()) {
            let found = ne.len().try_into().unwrap_or(u32::MAX);
            return Err(error("dimensions", ErrorKind::DimCount { found }));
        }
        let mut full = [1; 4];
        full[..ne.len()].copy_from_slice(ne);
        let bytes = tensor_bytes(dtype, full.map(|n| n as u64))
            .map_err(|kind| error("dimensions", kind))?;
        if !self.names.insert(name.to_owned()) {
            return Err(error("name", ErrorKind::DuplicateTensor));
        }
        let (name, n_dims) = (name.to_owned(), ne.len());
        self.tensors.push(TensorSpec { name, dtype, ne: full, n_dims, bytes });
        Ok(())
    }

    /// The tensors added so far.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Writes the header, padded to where the data begins, and returns the stream that takes the
    /// data. Small writes follow, so `out` should be buffered.
    pub fn start<W: Write>(self, out: W) -> Result<TensorStream<W>, GgufError> {
        self.start_named(UNNAMED, out)
    }

    /// Starts a file at `path`. Until [`TensorStream::commit`] it is called `PATH.part`, and it is
    /// deleted when the stream is dropped before that.
    pub fn create(self, path: &Path) -> Result<TensorStream<PartFile>, GgufError> {
        let file = PartFile::create(path)?;
        self.start_named(&path.display().to_string(), file)
    }

    fn start_named<W: Write>(self, file: &str, mut out: W) -> Result<TensorStream<W>, GgufError> {
        let alignment = read_alignment(&self.metadata)?;
        let header = self.encode_header(file, alignment)?;
        out.write_all(&header).map_err(|e| GgufError::file(file, ErrorKind::Io(e)))?;
        let mut stream = TensorStream {
            out,
            file: file.to_owned(),
            alignment,
            tensors: self.tensors,
            next: 0,
            written: 0,
        };
        stream.pad(header.len() as u64)?;
        Ok(stream)
    }

    fn encode_header(&self, file: &str, alignment: u64) -> Result<Vec<u8>, GgufError> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in self.metadata.iter() {
            check_pair(key, value).map_err(|k| GgufError::field(file, Field::Key(key), k))?;
            put_str(key, &mut out);
            out.extend_from_slice(&value.value_type().id().to_le_bytes());
            value.encode(&mut out);
        }
        let mut offset = 0u64;
        for spec in &self.tensors {
            put_str(&spec.name, &mut out);
            out.extend_from_slice(&(spec.n_dims as u32).to_le_bytes());
            for n in &spec.ne[..spec.n_dims] {
                out.extend_from_slice(&(*n as u64).to_le_bytes());
            }
            out.extend_from_slice(&spec.dtype.ggml_id().to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
            let end = offset.checked_add(spec.bytes);
            offset =
                end.and_then(|end| end.checked_next_multiple_of(alignment)).ok_or_else(|| {
                    let kind = ErrorKind::SizeOverflow { ne: spec.ne.map(|n| n as u64) };
                    GgufError::field(file, Field::Tensor("offset", &spec.name), kind)
                })?;
        }
        Ok(out)
    }
}

/// Refuses what the reader would refuse.
fn check_pair(key: &str, value: &Value) -> Result<(), ErrorKind> {
    let (len, max) = (key.len() as u64, MAX_KEY_BYTES);
    if len > max {
        return Err(ErrorKind::TooLong { len, max });
    }
    match value {
        Value::Array(array) if array.depth() > MAX_ARRAY_DEPTH => Err(ErrorKind::TooDeep),
        _ => Ok(()),
    }
}

/// Takes the tensors' data, in the order they were added.
#[derive(Debug)]
pub struct TensorStream<W: Write> {
    out: W,
    file: String,
    alignment: u64,
    tensors: Vec<TensorSpec>,
    /// Index of the tensor whose data comes next.
    next: usize,
    /// How many of its bytes have come.
    written: u64,
}

impl<W: Write> TensorStream<W> {
    /// The tensor whose data, or the rest of it, comes next; `None` when all is written.
    pub fn expects(&self) -> Option<&TensorSpec> {
        self.tensors.get(self.next)
    }

    /// Writes all data of the next tensor.
    pub fn write_tensor(&mut self, name: &str, data: &[u8]) -> Result<(), GgufError> {
        let expected = self.check_turn(name)?;
        let found = self.written + data.len() as u64;
        if found != expected {
            return Err(self.data_error(name, ErrorKind::TensorBytes { expected, found }));
        }
        self.write_piece(name, data)
    }

    /// Writes some data of the next tensor; the following call continues where this one ends.
    pub fn write_piece(&mut self, name: &str, piece: &[u8]) -> Result<(), GgufError> {
        let expected = self.check_turn(name)?;
        let found = self.written + piece.len() as u64;
        if found > expected {
            return Err(self.data_error(name, ErrorKind::TensorBytes { expected, found }));
        }
        self.out.write_all(piece).map_err(|e| GgufError::file(&self.file, ErrorKind::Io(e)))?;
        self.written = found;
        if found == expected {
            self.pad(expected)?;
            self.next += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Checks that every tensor is complete, flushes, and hands the output back.
    pub fn finish(mut self) -> Result<W, GgufError> {
        if let Some(TensorSpec { name, bytes, .. }) = self.expects() {
            let kind = ErrorKind::TensorBytes { expected: *bytes, found: self.written };
            return Err(self.data_error(name, kind));
        }
        self.out.flush().map_err(|e| GgufError::file(&self.file, ErrorKind::Io(e)))?;
        Ok(self.out)
    }

    /// The size of the next tensor, when its name is this.
    fn check_turn(&self, name: &str) -> Result<u64, GgufError> {
        let later = self.tensors.iter().skip(self.next).any(|spec| spec.name == name);
        match self.expects() {
            Some(spec) if spec.name == name => Ok(spec.bytes),
            Some(spec) if later => {
                let kind = ErrorKind::TensorOrder { found: name.to_owned() };
                Err(self.data_error(&spec.name, kind))
            }
            _ => Err(self.data_error(name, ErrorKind::ExtraTensor)),
        }
    }

    fn data_error(&self, name: &str, kind: ErrorKind) -> GgufError {
        GgufError::field(&self.file, Field::Tensor("data", name), kind)
    }

    /// Pads what is `len` bytes long to the alignment.
    fn pad(&mut self, len: u64) -> Result<(), GgufError> {
        let padding = len.next_multiple_of(self.alignment) - len;
        io::copy(&mut io::Read::take(io::repeat(0), padding), &mut self.out)
            .map(drop)
            .map_err(|e| GgufError::file(&self.file, ErrorKind::Io(e)))
    }
}

impl TensorStream<PartFile> {
    /// Finishes the file and gives it its name.
    pub fn commit(self) -> Result<(), GgufError> {
        self.finish()?.commit()
    }
}

/// A file that is called `PATH.part` until it is whole.
///
/// It is locked while it is written, so that two processes that make the same model do not write
/// into one file; a part left behind by a process that died holds no lock and is replaced.
#[derive(Debug)]
pub struct PartFile {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    committed: bool,
}

impl PartFile {
    /// Starts a file that will be called `path`.
    pub fn create(path: &Path) -> Result<Self, GgufError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let io = |error| GgufError::io(&part, error);
        let file = match Self::open_new(&part) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                // Deleted, not truncated: should its writer have just finished, the file already
                // has its final name, and truncating would destroy it.
                let _stale = lock(File::open(&part).map_err(io)?, &part)?;
                match fs::remove_file(&part) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
                    _ => Self::open_new(&part),
                }
            }
            other => other,
        };
        let file = lock(file.map_err(io)?, &part)?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { path: path.to_owned(), part, file, committed: false })
    }

    fn open_new(part: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(part)
    }

    /// Makes sure the bytes are on the disk and gives the file its name, replacing any file that
    /// has it.
    pub fn commit(mut self) -> Result<(), GgufError> {
        let io = |error| GgufError::io(&self.part, error);
        self.file.flush().map_err(io)?;
        self.file.get_ref().sync_all().map_err(io)?;
        fs::rename(&self.part, &self.path).map_err(|error| GgufError::io(&self.path, error))?;
        self.committed = true;
        Ok(())
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be reported from here, and a part left behind does no harm.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn lock(file: File, part: &Path) -> Result<File, GgufError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(GgufError::file(&part.display().to_string(), ErrorKind::Locked))
        }
        // Some network file systems have no locks; the name alone has to do there.
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(GgufError::io(part, error)),
    }
}
