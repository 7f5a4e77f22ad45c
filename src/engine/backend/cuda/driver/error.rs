//! What the driver can answer beside success, and why there may be none to ask.

/// Why no NVIDIA GPU can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaUnavailable {
    /// There is no driver.
    #[error("no NVIDIA driver: {name} was not found")]
    NoLibrary {
        /// The library that was looked for.
        name: &'static str,
    },
    /// The library is there, but it is not whole.
    #[error("the NVIDIA driver cannot be used: {problem}")]
    BrokenLibrary {
        /// What the loader said, or what the library lacks.
        problem: String,
    },
    /// The driver is older than what the kernels need.
    #[error("the NVIDIA driver is too old: it offers CUDA {}.{}, {}.{} is needed",
        version / 1000, version % 1000 / 10, needed / 1000, needed % 1000 / 10)]
    TooOld {
        /// What it offers, as it counts: 11040 is 11.4.
        version: i32,
        /// What is needed, counted likewise.
        needed: i32,
    },
    /// The driver works, but it sees no GPU.
    #[error("the NVIDIA driver finds no GPU")]
    NoDevice,
    /// The driver does not start.
    #[error("the NVIDIA driver does not start: {0}")]
    Initialise(CudaError),
}

impl CudaUnavailable {
    /// What the person can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoLibrary { .. } => {
                "install NVIDIA's driver, 525 or newer; in a container, start it with --gpus all"
            }
            Self::BrokenLibrary { .. } => {
                "reinstall NVIDIA's driver: its library and its kernel module must be of one version"
            }
            Self::TooOld { .. } => "update NVIDIA's driver to 525 or newer",
            Self::NoDevice => {
                "see what nvidia-smi says, and whether CUDA_VISIBLE_DEVICES hides the GPU"
            }
            Self::Initialise(_) => {
                "see what nvidia-smi says; after an update of the driver the machine, or its kernel \
                 module, must be started anew"
            }
        }
    }
}

/// A call of the driver that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} answered {}{}: {}", name, if name.is_empty() { code.to_string() } else { String::new() },
    if text.is_empty() { "the driver says no more" } else { text })]
pub struct CudaError {
    /// The function of the driver.
    pub call: &'static str,
    /// Its answer.
    pub code: u32,
    /// The answer's name.
    pub name: String,
    /// What the driver says about it.
    pub text: String,
}

/// What sort of failure an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::backend::cuda) enum Failure {
    /// The memory is not there.
    OutOfMemory,
    /// The GPU no longer answers, or its memory is damaged.
    Lost,
    /// A kernel went wrong on the GPU; everything in this process's context is gone.
    Kernel,
    /// Anything else.
    Other,
}

impl CudaError {
    /// True when the device had not the memory.
    pub fn is_out_of_memory(&self) -> bool {
        self.failure() == Failure::OutOfMemory
    }

    pub(in crate::engine::backend::cuda) fn failure(&self) -> Failure {
        match self.code {
            2 => Failure::OutOfMemory,
            // Unavailable, no device, invalid device, uncorrectable memory and link errors,
            // contained errors, an external device's error, unknown (what a GPU that fell off its
            // bus answers).
            46 | 100 | 101 | 214 | 220 | 721 | 911 | 999 => Failure::Lost,
            // Illegal address, launch that ran too long, assertion, hardware stack, illegal
            // instruction, misaligned address, invalid address space and counter, launch failure.
            700 | 702 | 710 | 714..=719 => Failure::Kernel,
            _ => Failure::Other,
        }
    }

    /// What the person can do.
    pub fn hint(&self) -> &'static str {
        match self.failure() {
            Failure::OutOfMemory => {
                "free memory on the GPU (nvidia-smi shows who uses it), or lower -ngl, -c or -ub"
            }
            Failure::Lost => {
                "the GPU no longer answers: look for Xid in the kernel's log (dmesg), then reset \
                 the GPU or restart the machine"
            }
            Failure::Kernel => {
                "a kernel failed on the GPU, and nothing can run there until the program is \
                 started anew; gpuwhy selftest says whether the GPU computes correctly"
            }
            Failure::Other => "see what nvidia-smi says",
        }
    }
}
