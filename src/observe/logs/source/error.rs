//! Why a log could not be read.

use std::io;
use std::path::PathBuf;

/// Why a source could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file could not be opened.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A folder was named.
    #[error("{} is a folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// Reading failed on the way.
    #[error("cannot read {name} to its end: {error}")]
    Read {
        /// The source.
        name: String,
        /// What the system, or the decompressor, says.
        error: io::Error,
    },
    /// The program that reads the source is not there.
    #[error("cannot run {program}: {error}")]
    Start {
        /// The program.
        program: String,
        /// What the system says.
        error: io::Error,
    },
    /// The program that reads the source ended with an error.
    #[error("{program} says: {message}")]
    Failed {
        /// The program.
        program: String,
        /// The last line that it wrote.
        message: String,
    },
}

impl SourceError {
    /// What the person can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                "run as a user who may read it, or copy the log and give the copy"
            }
            Self::File { .. } => {
                "give the path of the log, - for standard input, journald:UNIT or docker:NAME"
            }
            Self::Folder { .. } => "name the files in it",
            Self::Read { .. } => "give the part of the log that can be read as a file of its own",
            Self::Start { .. } => "save the log to a file where that program is, and give the file",
            Self::Failed { .. } => {
                "check the name, and whether you may read it (sudo, or the group adm or docker)"
            }
        }
    }
}
