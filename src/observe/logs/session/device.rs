//! A GPU as a log tells it.

use super::line::LineId;

/// What drives a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LibraryKind {
    /// NVIDIA's.
    Cuda,
    /// AMD's, also called HIP.
    Rocm,
    /// Apple's.
    Metal,
    /// Vulkan.
    Vulkan,
    /// Intel's oneAPI.
    Sycl,
    /// None: a device of this program that has another one's memory and computes on the CPU.
    Virtual,
}

impl LibraryKind {
    /// From a word of a log, of any case: `cuda`, `CUDA0`, `ROCm1`, `HIP`.
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let known = [
            ("cuda", Self::Cuda),
            ("rocm", Self::Rocm),
            ("hip", Self::Rocm),
            ("metal", Self::Metal),
            ("mtl", Self::Metal),
            ("vulkan", Self::Vulkan),
            ("sycl", Self::Sycl),
            ("oneapi", Self::Sycl),
            ("virtual", Self::Virtual),
        ];
        known.iter().find(|(name, _)| word.starts_with(name)).map(|k| k.1)
    }

    /// As ggml names devices of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cuda => "CUDA",
            Self::Rocm => "ROCm",
            Self::Metal => "Metal",
            Self::Vulkan => "Vulkan",
            Self::Sycl => "SYCL",
            Self::Virtual => "Virtual",
        }
    }
}

/// A GPU as a log tells it; several lines about the same one are merged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Device {
    /// As ggml names it, `CUDA0`, where told or where it follows from its number.
    pub name: Option<String>,
    /// `GPU-…` or whatever the server uses as an id.
    pub id: Option<String>,
    /// Its number among the devices of its library.
    pub index: Option<u32>,
    /// What drives it.
    pub library: Option<LibraryKind>,
    /// The product: `NVIDIA GeForce RTX 3090`.
    pub description: Option<String>,
    /// Compute capability `8.6`, or `gfx1103`.
    pub compute: Option<String>,
    /// CUDA or ROCm version of the driver, as printed.
    pub driver: Option<String>,
    /// All of its memory.
    pub total_bytes: Option<u64>,
    /// Free memory when the server or the load first looked.
    pub free_bytes: Option<u64>,
    /// Whether it shares the host's memory.
    pub integrated: Option<bool>,
    /// The first line that told of it.
    pub line: LineId,
}
