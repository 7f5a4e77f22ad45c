//! A file that grows: reads what is added, goes on in the new file when the old one is put away,
//! and begins anew when it is cut.
//!
//! It does not wait: the caller asks again. Invariant: no byte is given twice and none is left out
//! that was in the file when it was put away.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Step;

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Follow {
    path: PathBuf,
    file: File,
    identity: Identity,
    place: u64,
}

impl Follow {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let identity = Identity::of(&file.metadata()?);
        Ok(Self { path: path.to_path_buf(), file, identity, place: 0 })
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Step> {
        let read = self.file.read(buffer)?;
        if read > 0 {
            self.place += read as u64;
            return Ok(Step::Bytes(read));
        }
        if self.file.metadata()?.len() < self.place {
            self.file.seek(SeekFrom::Start(0))?;
            self.place = 0;
            return Ok(Step::Rotated);
        }
        let now = match fs::metadata(&self.path) {
            Ok(now) => now,
            // Between putting away the old file and making the new one there is none.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Step::Idle),
            Err(e) => return Err(e),
        };
        if Identity::of(&now) == self.identity {
            return Ok(Step::Idle);
        }
        // What was added to the old file before it was put away comes first.
        let read = self.file.read(buffer)?;
        if read > 0 {
            self.place += read as u64;
            return Ok(Step::Bytes(read));
        }
        *self = Self::open(&self.path)?;
        Ok(Step::Rotated)
    }
}

/// What tells one file from another of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self(metadata.dev(), metadata.ino())
    }

    /// The time of making; a system that does not tell has only the length to go by.
    #[cfg(not(unix))]
    fn of(metadata: &Metadata) -> Self {
        let made = metadata.created().ok();
        let since = made.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        Self(0, since.map_or(0, |d| d.as_nanos() as u64))
    }
}
