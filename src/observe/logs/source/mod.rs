//! Where a log comes from: files (gzip and Zstandard too), standard input, the journal, a
//! container, or the places where Ollama keeps it. Gives bytes and knows nothing of lines.
//!
//! Invariants: a source is never changed, and what is held of it is bounded.

mod error;
mod follow;
mod places;
mod tool;
mod unpack;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

pub use error::SourceError;
pub use places::{Host, default_sources};
pub use tool::Stopper;

use follow::Follow;
use tool::Tool;

/// How much of a log that is there already [`Source::follow_recent`] reads, of files
const RECENT_BYTES: u64 = 8 << 20;
/// and of what other programs read.
const RECENT_LINES: &str = "50000";

/// Where a log is, as a person writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `-`.
    Stdin,
    /// A path.
    File(PathBuf),
    /// `journald:UNIT`.
    Journald(String),
    /// `docker:NAME`: the name or id of a container.
    Docker(String),
}

impl Source {
    /// Reads an argument. A file that is there is a file, whatever its name.
    pub fn parse(argument: &str) -> Self {
        if argument == "-" {
            return Self::Stdin;
        }
        let path = Path::new(argument);
        match argument.split_once(':') {
            Some(("journald", unit)) if !unit.is_empty() && !path.exists() => {
                Self::Journald(unit.to_string())
            }
            Some(("docker", name)) if !name.is_empty() && !path.exists() => {
                Self::Docker(name.to_string())
            }
            _ => Self::File(path.to_path_buf()),
        }
    }

    /// As a report names it.
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_string(),
            Self::File(path) => path.display().to_string(),
            Self::Journald(unit) => format!("journald:{unit}"),
            Self::Docker(name) => format!("docker:{name}"),
        }
    }

    /// Opens it to follow it from a while ago: a server that has run for months has a log of which
    /// only the end is worth the time.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn follow_recent(&self) -> Result<Stream, SourceError> {
        let inner = match self {
            Self::Journald(unit) => Inner::Tool(Tool::journald(unit, Some(RECENT_LINES))?),
            Self::Docker(name) => Inner::Tool(Tool::docker(name, Some(RECENT_LINES))?),
            Self::Stdin | Self::File(_) => {
                let mut stream = self.open(true)?;
                if let Inner::Follow(follow) = &mut stream.inner {
                    let of_reading = |error| SourceError::Read { name: stream.name.clone(), error };
                    follow.skip_to_last(RECENT_BYTES).map_err(of_reading)?;
                }
                return Ok(stream);
            }
        };
        Ok(Stream { inner, name: self.name() })
    }

    /// Opens it. With `follow`, it does not end where its bytes end now.
    ///
    /// # Errors
    /// When the file cannot be opened or the program that reads it cannot be started.
    pub fn open(&self, follow: bool) -> Result<Stream, SourceError> {
        let file_error = |path: &Path, error| SourceError::File { path: path.into(), error };
        let all = follow.then_some("all");
        let inner = match self {
            Self::Stdin => Inner::Plain(unpack::unpacked(Box::new(std::io::stdin()))),
            Self::File(path) => {
                let file = File::open(path).map_err(|e| file_error(path, e))?;
                let metadata = file.metadata().map_err(|e| file_error(path, e))?;
                if metadata.is_dir() {
                    return Err(SourceError::Folder { path: path.clone() });
                }
                // A pipe with a name ends when its writer ends, and has no other place to go on.
                if follow && metadata.is_file() {
                    Inner::Follow(Follow::of(file, path).map_err(|e| file_error(path, e))?)
                } else {
                    Inner::Plain(unpack::unpacked(Box::new(file)))
                }
            }
            Self::Journald(unit) => Inner::Tool(Tool::journald(unit, all)?),
            Self::Docker(name) => Inner::Tool(Tool::docker(name, all)?),
        };
        Ok(Stream { inner, name: self.name() })
    }
}

/// An open source.
#[derive(Debug)]
pub struct Stream {
    inner: Inner,
    name: String,
}

#[derive(Debug)]
enum Inner {
    Plain(unpack::Unpacked),
    Follow(Follow),
    Tool(Tool),
}

/// What a source gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// The file was put away and a new one begins, or it was cut to begin anew.
    Rotated,
    /// Nothing more for now: ask again later.
    Idle,
    /// Nothing more will come.
    End,
}

impl Stream {
    /// What makes a [`Stream::read`] that waits for a program end.
    pub fn stopper(&self) -> Stopper {
        match &self.inner {
            Inner::Tool(tool) => tool.stopper(),
            Inner::Plain(_) | Inner::Follow(_) => Stopper::default(),
        }
    }

    /// Reads what there is. Only sources that a program reads (`journald:`, `docker:`) and standard
    /// input make the caller wait for bytes.
    ///
    /// # Errors
    /// When reading fails, or the program that reads the source says that it could not.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<Step, SourceError> {
        let read_error = |error| SourceError::Read { name: self.name.clone(), error };
        match &mut self.inner {
            Inner::Follow(follow) => follow.read(buffer).map_err(read_error),
            Inner::Tool(tool) => tool.read(buffer),
            Inner::Plain(reader) => loop {
                match reader.read(buffer) {
                    Ok(0) => return Ok(Step::End),
                    Ok(n) => return Ok(Step::Bytes(n)),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(read_error(e)),
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
