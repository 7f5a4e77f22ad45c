//! A model file in memory by mapping: pages are read when touched and shared between processes.
//!
//! Mapping is a choice with a price. Nothing is copied, loading is instant, and a model larger
//! than memory still opens; but the file stays the one on disk. When another process truncates it
//! while it is mapped, touching a page past the new end kills this process with SIGBUS, and when
//! another process rewrites it, the weights change under way. ggml makes the same choice. The
//! length that the header is checked against is the mapping's own, so a file that is merely too
//! short is an ordinary error; [`MappedFile::is_unchanged`] lets a caller look again later.

use std::fmt;
use std::fs::{self, File};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;

use super::error::{ErrorKind, GgufError};

/// A file, mapped read-only from end to end. Dereferences to its bytes.
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
    modified: Option<SystemTime>,
}

impl MappedFile {
    /// Maps a file.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |error| GgufError::io(path, error);
        // Asked before opening, because opening a pipe would wait for its other end.
        if !fs::metadata(path).map_err(io)?.is_file() {
            return Err(GgufError::file(&path.display().to_string(), ErrorKind::NotAFile));
        }
        let file = File::open(path).map_err(io)?;
        let modified = file.metadata().map_err(io)?.modified().ok();
        // SAFETY: The mapping is read-only and private to this struct, which hands out slices only
        // for as long as it lives. What the type system cannot promise is that no other process
        // truncates or rewrites the file meanwhile; the module's documentation says what happens
        // then and why the risk is taken. Every value read from the mapping is validated as
        // untrusted, and all byte patterns are valid `u8`.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { path: path.to_owned(), map, modified })
    }

    /// The path, as given when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the system to begin reading these bytes of the file into memory, and does not wait. A
    /// hint: nothing happens where the system does not know it.
    ///
    /// # Panics
    ///
    /// When the range leaves the file.
    pub fn will_need(&self, range: Range<usize>) {
        assert!(range.end <= self.map.len(), "bytes {range:?} of {}", self.map.len());
        #[cfg(unix)]
        if !range.is_empty() {
            // What the system does not take is read when it is touched.
            let _ = self.map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        }
    }

    /// Returns when the byte at this offset is in memory.
    ///
    /// # Panics
    ///
    /// When the offset is outside the file.
    pub fn wait_for(&self, offset: usize) {
        std::hint::black_box(self.map[offset]);
    }

    /// True while the file at the path has the length and the modification time it had when it was
    /// mapped. When false, the weights can no longer be trusted.
    pub fn is_unchanged(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|now| {
            now.len() == self.map.len() as u64 && now.modified().ok() == self.modified
        })
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedFile")
            .field("path", &self.path)
            .field("len", &self.map.len())
            .finish_non_exhaustive()
    }
}
