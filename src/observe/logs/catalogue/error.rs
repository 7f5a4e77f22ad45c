//! What can be wrong with a file of patterns.

use std::fmt;

/// Why a file of patterns was refused. The message names the file and the pattern.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Not TOML, or not of this form.
    #[error("{file}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// What the reader of TOML says, with the place.
        message: String,
    },
    /// A pattern breaks a rule that one can see without trying it.
    #[error("{file}: pattern {id:?} {reason}")]
    Pattern {
        /// The file.
        file: String,
        /// The pattern.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sample is not matched as it should be.
    #[error("{file}: pattern {id:?}, sample {number}: {reason}")]
    Sample {
        /// The file.
        file: String,
        /// The pattern.
        id: String,
        /// Which sample, from 1.
        number: usize,
        /// What is wrong with it.
        reason: Box<SampleFault>,
    },
}

impl CatalogueError {
    /// What the author of the file can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "compare with a file that came with the program",
            Self::Pattern { .. } => "every pattern needs an id of its own, a matcher and a sample",
            Self::Sample { .. } => {
                "make the pattern so exact that it matches all its samples and no other's"
            }
        }
    }
}

/// What is wrong with a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SampleFault {
    /// Nothing matches it.
    NoMatch,
    /// These match it instead of, or besides, its own pattern.
    Others(Vec<String>),
    /// A field has another value than the sample says.
    Field {
        /// The field.
        name: String,
        /// What the sample says.
        wanted: String,
        /// What the pattern took.
        found: Option<String>,
    },
}

impl fmt::Display for SampleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMatch => f.write_str("no pattern matches it"),
            Self::Others(ids) => write!(f, "matched by {}", ids.join(", ")),
            Self::Field { name, wanted, found } => {
                write!(f, "field {name:?} should be {wanted:?} and is {found:?}")
            }
        }
    }
}
