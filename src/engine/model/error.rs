//! Why a file cannot be bound as a model.

use std::fmt;

use crate::engine::gguf::GgufError;
use crate::engine::tensor::DType;

use super::Arch;

/// A file that is readable as GGUF but is not a model that the engine can run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A metadata key is missing or has the wrong type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// `general.architecture` names none of [`Arch::ALL`].
    #[error("architecture {found:?} is not supported; supported are {}", Arch::list())]
    UnknownArch {
        /// What the file says, cut to a readable length.
        found: String,
    },
    /// A metadata value that has the right type but makes no sense.
    #[error("metadata key \"{key}\": {problem}")]
    Invalid {
        /// The key, or the key whose default the fault comes from.
        key: String,
        /// The value found and what is wrong with it.
        problem: String,
    },
    /// A tensor that the architecture needs is not in the file.
    #[error("tensor \"{name}\" is missing; expected shape {expected}")]
    MissingTensor {
        /// The name it should have.
        name: String,
        /// The shape it should have.
        expected: Shape,
    },
    /// A tensor has another shape than the metadata says.
    #[error("tensor \"{name}\": expected shape {expected}, found {found}")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape that follows from the metadata.
        expected: Shape,
        /// The shape in the file.
        found: Shape,
    },
    /// A tensor has a type that the engine cannot use in this place.
    #[error("tensor \"{name}\": expected {expected}, found type {found}")]
    TensorType {
        /// The tensor.
        name: String,
        /// What would do.
        expected: &'static str,
        /// The type in the file.
        found: DType,
    },
    /// A variant of a known architecture that the engine does not compute.
    #[error("{arch} models with {feature} are not supported")]
    Unsupported {
        /// The architecture.
        arch: Arch,
        /// What the file asks for.
        feature: String,
    },
}

impl ModelError {
    /// What the person can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Metadata(error) => error.hint(),
            Self::UnknownArch { .. } | Self::Unsupported { .. } => {
                Some("watch it in another engine instead: `gpuwhy attach` needs no model support")
            }
            Self::Invalid { .. } | Self::MissingTensor { .. } | Self::Shape { .. } => {
                Some("the file may be damaged or made by a faulty tool; convert the model again")
            }
            Self::TensorType { .. } => {
                Some("convert the model again with norms and biases kept in F32")
            }
        }
    }
}

/// Extents in ggml's order for messages: `(4096, 128256)`, trailing ones left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape(pub [usize; 4]);

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1);
        let extents: Vec<String> = self.0[..used].iter().map(ToString::to_string).collect();
        write!(f, "({})", extents.join(", "))
    }
}
