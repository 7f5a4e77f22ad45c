//! Sessions in files: recorded while they happen, read again later, exported for other programs.
//!
//! A file is a header and frames that are only ever appended, each with its length and checksum. So
//! whatever ends a recording, a crash or a full disk, what was written before can be read. Nothing here
//! knows what events mean to a person. Invariants: recording never blocks who emits events, and
//! reading trusts no length.

pub mod export;
mod format;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::io;

pub use format::{About, VERSION};
pub use reader::{Cut, Recording};
pub use writer::{Recorder, RecorderState, Storage};

/// Why a recording cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be opened, read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("this is no recording of gpuwhy")]
    NotARecording,
    /// It was written by another version.
    #[error("the recording has version {found}, and this program reads version {VERSION}")]
    Version {
        /// The file's.
        found: u32,
    },
}

impl RecordError {
    /// What a person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Some("name another file; recordings are not overwritten")
            }
            Self::Io(_) => None,
            Self::NotARecording => Some("recordings are made with `--record FILE`"),
            Self::Version { found } if *found > VERSION => Some("use a newer gpuwhy to read it"),
            Self::Version { .. } => Some("use the gpuwhy that recorded it"),
        }
    }
}
