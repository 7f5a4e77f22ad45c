//! A file that grows: reads what is added, goes on in the new file when the old one is put away,
//! and begins anew when it is cut.
//!
//! It does not wait: the caller asks again. Invariant: no byte is given twice, and none is left out
//! that was written to the old file before something was written to the new one.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Step;

/// Bytes at the beginning by which a file that was cut and is long again is told from the same
/// file: logs begin with a time or with what their program was started for.
const MARK_BYTES: usize = 128;
/// So often in a row a new file may be closed to us: whoever rotates logs makes a file first and
/// says then who may read it.
const REFUSALS_MAX: u32 = 50;

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Follow {
    path: PathBuf,
    file: File,
    identity: Identity,
    place: u64,
    /// How the file begins, as far as it was read.
    mark: Vec<u8>,
    /// All that was given may be added to, so that the beginning has to be looked at first.
    was_at_end: bool,
    /// The file was cut, and what its program writes may come after a hole.
    after_cut: bool,
    refusals: u32,
}

impl Follow {
    /// Follows a file from its beginning; `path` is where its successors will be.
    pub(super) fn of(file: File, path: &Path) -> io::Result<Self> {
        let identity = Identity::of(&file.metadata()?);
        let (mark, was_at_end, after_cut) = (Vec::new(), false, false);
        let path = path.to_path_buf();
        Ok(Self { path, file, identity, place: 0, mark, was_at_end, after_cut, refusals: 0 })
    }

    /// Leaves out all but the last `bytes`, and begins with a whole line.
    pub(super) fn skip_to_last(&mut self, bytes: u64) -> io::Result<()> {
        let Some(from) = self.file.metadata()?.len().checked_sub(bytes).filter(|at| *at > 0) else {
            return Ok(());
        };
        let mut mark = vec![0; MARK_BYTES.min(usize::try_from(from).unwrap_or(MARK_BYTES))];
        self.file.read_exact(&mut mark)?;
        // From the byte before: should that end a line, the next one is whole.
        let mut place = self.file.seek(SeekFrom::Start(from - 1))?;
        let mut piece = [0; 4096];
        loop {
            let read = self.file.read(&mut piece)?;
            let end = piece[..read].iter().position(|b| *b == b'\n');
            place += end.map_or(read, |at| at + 1) as u64;
            if end.is_some() || read == 0 {
                break;
            }
        }
        self.file.seek(SeekFrom::Start(place))?;
        (self.mark, self.place) = (mark, place);
        Ok(())
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Step> {
        if self.was_at_end && self.was_cut()? {
            self.begin_anew()?;
            return Ok(Step::Rotated);
        }
        if let Some(read) = self.more(buffer)? {
            return Ok(Step::Bytes(read));
        }
        self.was_at_end = true;
        let Some(new) = self.successor()? else { return Ok(Step::Idle) };
        // What was added to the old file before the new one was begun comes first.
        if let Some(read) = self.more(buffer)? {
            return Ok(Step::Bytes(read));
        }
        *self = new;
        Ok(Step::Rotated)
    }

    /// Reads on; `None` at the end.
    fn more(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let mut read = match self.file.read(buffer) {
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if self.place < MARK_BYTES as u64 {
                let missing = MARK_BYTES - self.mark.len();
                self.mark.extend_from_slice(&buffer[..read.min(missing)]);
            }
            self.place += read as u64;
            self.was_at_end = false;
            if self.after_cut {
                // A program that does not append goes on where it was, and leaves zeros before.
                let hole = buffer[..read].iter().take_while(|b| **b == 0).count();
                buffer.copy_within(hole..read, 0);
                read -= hole;
                if read == 0 {
                    continue;
                }
                self.after_cut = false;
            }
            return Ok(Some(read));
        }
    }

    /// Whether the file was cut: it is shorter than what was read, or begins with something else.
    fn was_cut(&mut self) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        if length <= self.place {
            return Ok(length < self.place);
        }
        let mut now = vec![0; self.mark.len()];
        self.file.seek(SeekFrom::Start(0))?;
        let same = match self.file.read_exact(&mut now) {
            Ok(()) => now == self.mark,
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => false,
            Err(e) => return Err(e),
        };
        self.file.seek(SeekFrom::Start(self.place))?;
        if !same && now.iter().all(|b| *b == 0) {
            // Cut and added to where the program was before, which is not before our place.
            self.mark = now;
            self.after_cut = true;
            return Ok(false);
        }
        Ok(!same)
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.mark.clear();
        (self.place, self.was_at_end, self.after_cut) = (0, false, true);
        Ok(())
    }

    /// The file that took the place of this one, once something is written to it. Until then the
    /// program may still write to the old one.
    fn successor(&mut self) -> io::Result<Option<Self>> {
        let found = fs::metadata(&self.path).and_then(|now| {
            let other = Identity::of(&now) != self.identity || now.len() < self.place;
            if other && now.len() > 0 {
                Self::of(File::open(&self.path)?, &self.path).map(Some)
            } else {
                Ok(None)
            }
        });
        match found {
            // Between putting away the old file and making the new one there is none.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == ErrorKind::PermissionDenied && self.refusals < REFUSALS_MAX => {
                self.refusals += 1;
                Ok(None)
            }
            found => {
                self.refusals = 0;
                found
            }
        }
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
