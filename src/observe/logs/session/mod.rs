//! What a log told, in one form for all engines and versions: the facts that rules ask.
//!
//! Everything is optional, because a pasted log may start and end anywhere. Sizes are bytes, times
//! nanoseconds. Invariant: the memory of a session is bounded; what is left out is counted.

mod device;
mod line;
mod load;
mod memory;
mod references;
mod request;

use std::collections::BTreeMap;

pub use device::{Device, LibraryKind};
pub use line::{LineCounts, LineId, LineText, Lines, Seen};
pub use load::{
    Buffer, BufferKind, Estimate, FlashAttention, Graph, KvCache, Layers, Load, LoadOutcome, Model,
    Requested, Role,
};
pub use memory::{BreakdownRow, Fit, FitDevice, GpuFree, HostMemory};
pub use request::{Request, Requests, Spread, Summary};

/// Which program wrote the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Nothing in the log tells.
    #[default]
    Unknown,
    /// Ollama, with whichever runner.
    Ollama,
    /// llama.cpp: `llama-server`, `llama-cli` or a binding of the library.
    LlamaCpp,
    /// vLLM.
    Vllm,
    /// This program.
    Gpuwhy,
}

/// Which generation of lines the log is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Ollama to 0.12.10: the server estimates, `msg=offload`.
    OllamaA,
    /// Ollama 0.12.11 to 0.29: the runner reports, `msg="model weights"`.
    OllamaB,
    /// Ollama from 0.30 on: a `llama-server` child.
    OllamaC,
    /// llama.cpp alone.
    LlamaCpp,
}

impl Dialect {
    /// As the report names it: `A`, `B`, `C`, `llama.cpp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OllamaA => "A",
            Self::OllamaB => "B",
            Self::OllamaC => "C",
            Self::LlamaCpp => "llama.cpp",
        }
    }
}

/// A released version, `0.12.11`; llama.cpp counts builds, `b4567` is `(4567, 0, 0)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32, pub u32);

/// One setting of the server's environment, as the server printed it when it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its value; empty when the variable is not set.
    pub value: String,
    /// The line that told it last.
    pub line: LineId,
}

/// A line that is a fact by itself: an error, a warning, a message that a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it says: the `notice` of its pattern, like `cuda-driver-too-old`.
    pub id: String,
    /// What the pattern captured, first occurrence.
    pub fields: BTreeMap<String, String>,
    /// The first occurrence.
    pub first: LineId,
    /// The last occurrence.
    pub last: LineId,
    /// How often it was seen.
    pub count: u64,
    /// Number of loads that had begun before the first occurrence.
    pub loads_before: usize,
}

impl Notice {
    /// A field as a whole number; one that no machine has is none.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.fields.get(field)?.trim().parse().ok().filter(|n| *n < 1 << 44)
    }
}

/// Everything that a log told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogSession {
    /// Which program wrote it.
    pub engine: Engine,
    /// Its version as it printed it; `0.0.0` is a build of one's own.
    pub version: Option<Seen<String>>,
    /// Which generation of lines, by the lines themselves.
    pub dialect: Option<Dialect>,
    /// Operating system as far as paths and messages tell: `linux`, `windows`, `macos`.
    pub os: Option<Seen<String>>,
    /// GPUs that were found, in the order of the log, each once; the CPU is not among them.
    pub devices: Vec<Device>,
    /// The line in which the server said that it computes on the CPU alone (`library=cpu`).
    pub cpu_only_inference: Option<LineId>,
    /// Memory of the host, as last told.
    pub host: Option<HostMemory>,
    /// Whether what stands around the lines shows that they came out of a container.
    pub in_container: bool,
    /// Whether lines came out of the system's journal, where a service of the machine writes.
    pub in_journal: bool,
    /// Threads that llama.cpp computes with, and processors that it sees.
    pub threads_and_cores: Option<Seen<(u64, u64)>>,
    /// Backend libraries that a runner loaded: `CUDA`, `CPU`, `ROCm`, with the file where told.
    pub backends: BTreeMap<String, Seen<String>>,
    /// Runner variants or library folders that the server listed (`cpu_avx2`, `cuda_v12`).
    pub libraries: Vec<Seen<String>>,
    /// Settings by name (`OLLAMA_NUM_PARALLEL`), from the last server start in the log.
    pub settings: BTreeMap<String, Setting>,
    /// Loads of a model in their order: the first and the last ones, see `loads_left_out`.
    pub loads: Vec<Load>,
    /// Loads in the middle of a long log that were counted but not kept.
    pub loads_left_out: u64,
    /// Requests: totals, and the first and last ones.
    pub requests: Requests,
    /// Notices by id.
    pub notices: BTreeMap<String, Notice>,
    /// Texts of the lines that anything above refers to.
    pub lines: Lines,
    /// How many lines there were, and how many of them were understood.
    pub counts: LineCounts,
}

impl LogSession {
    /// The notice with this id, if the log had it.
    pub fn notice(&self, id: &str) -> Option<&Notice> {
        self.notices.get(id)
    }

    /// A setting that is set: present with a value that is not empty.
    pub fn setting(&self, name: &str) -> Option<&Setting> {
        self.settings.get(name).filter(|s| !s.value.is_empty())
    }

    /// The version as three numbers, where it is a released one.
    pub fn version_number(&self) -> Option<Version> {
        let text = self.version.as_ref()?.value.trim_start_matches(['v', 'b']);
        let numbers = text.split(['-', '+', ' ']).next().unwrap_or_default();
        let mut parts = numbers.split('.').map(|p| p.parse().ok());
        let first = parts.next()??;
        let rest = [parts.next().flatten(), parts.next().flatten()];
        Some(Version(first, rest[0].unwrap_or(0), rest[1].unwrap_or(0)))
    }

    /// The last load of a model that answers, which is the state that the log ends in.
    pub fn last_load(&self) -> Option<&Load> {
        self.loads.iter().rev().find(|l| l.role == Role::Main)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_numbers() {
        let of = |text: &str| {
            let version = Some(Seen { value: text.to_string(), line: LineId(1) });
            LogSession { version, ..LogSession::default() }.version_number()
        };
        assert_eq!(of("0.12.11"), Some(Version(0, 12, 11)));
        assert_eq!(of("0.5.11-dev"), Some(Version(0, 5, 11)));
        assert_eq!(of("0.5.7-0-ga420a45-dirty"), Some(Version(0, 5, 7)));
        assert_eq!(of("b4567"), Some(Version(4567, 0, 0)));
        assert_eq!(of("git"), None);
    }
}
