//! Which program wrote a log, in which version and generation, on which system.
//!
//! A fragment has to do: one slog line of Ollama is enough, and a path of Ollama's store has to be
//! when there is nothing else, although llama.cpp can load such a file too.

use super::super::record::Record;
use super::super::session::{Dialect, Engine, LineId, LogSession, Seen, Version};
use super::kind::Kind;
use super::value::kept;

/// What speaks for which program.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    /// A line that only Ollama's server or runner writes.
    ollama: bool,
    /// A line that only a program of llama.cpp writes: its command-line tools, its logger.
    llama_cpp: bool,
    /// A line of the library, whoever carries it.
    library: bool,
    /// A line of llama-server, stand-alone or as Ollama's child, or of a tool.
    server: bool,
    /// A model from Ollama's store.
    ollama_store: bool,
    vllm: bool,
    gpuwhy: bool,
    /// Lines of Ollama's generations.
    a: bool,
    b: bool,
    c: bool,
    /// Words of llama.cpp that only a generation's builds print.
    words: Option<Dialect>,
    /// Lines whose text was looked at.
    looked: u32,
    /// The earliest time in the log.
    first_ns: Option<i64>,
}

/// What so many lines did not tell, later ones of the same log will not.
const LOOKS_MAX: u32 = 50_000;

/// 2025-11-13, before which generation B was not released.
const B_RELEASED_NS: i64 = 1_762_992_000_000_000_000;

impl Identity {
    /// Looks at a line for what it says about the program; cheap, because every line comes here.
    pub(super) fn note(&mut self, session: &mut LogSession, record: &Record<'_>) {
        use Kind as K;
        if record.kind == K::SystemInfo {
            let number = |name: &str| record.fields.number(name);
            let both = number("threads").zip(number("cores"));
            let seen = both.map(|value| Seen { value, line: record.line });
            session.threads_and_cores = seen.or(session.threads_and_cores);
        }
        match record.kind {
            K::Access | K::ServerConfig | K::EarlyEstimate | K::Libraries => self.ollama = true,
            K::Estimate | K::EarlyRequired => self.a = true,
            K::LoadPlan | K::LoadRequest | K::MemoryTree | K::EngineModel => self.b = true,
            K::VllmEngine
            | K::VllmKvCache
            | K::VllmThroughput
            | K::VllmVersion
            | K::VllmWeights => self.vllm = true,
            K::Notice if record.pattern.id.starts_with("vllm-") => self.vllm = true,
            K::GpuwhyVersion => self.gpuwhy = true,
            K::CliStart => self.llama_cpp = true,
            K::TimingDecode | K::TimingPrompt => self.llama_cpp |= tool_timing(record.text),
            K::Build
            | K::SystemInfo
            | K::SlotStarted
            | K::SlotPrompt
            | K::SlotReleased
            | K::ServerSlots
            | K::SlotProgress
            | K::SlotTimingDecode
            | K::ServerReady => self.server = true,
            K::ModelFile
            | K::ModelInfo
            | K::LayersOffloaded
            | K::ContextParameter
            | K::BufferModel
            | K::BufferKv
            | K::BufferCompute
            | K::GraphSplits
            | K::DevicesFound
            | K::DeviceNumber
            | K::DumpNode => self.library = true,
            K::Notice | K::KvSize => self.library |= of_library(record.text),
            _ => {}
        }
        if !(self.ollama && (self.a || self.b || self.c)) || session.os.is_none() {
            self.note_text(session, record.text, record.line);
        }
        self.llama_cpp |= record.elapsed_ns.is_some();
        self.first_ns = self.first_ns.or(record.at_ns);
        if self.words.is_none() {
            self.words = words(record);
        }
    }

    /// A line that no pattern knows; only while nothing better was seen.
    pub(super) fn note_unknown(&mut self, session: &mut LogSession, text: &str, line: LineId) {
        if !self.ollama {
            self.note_text(session, text, line);
        }
    }

    /// Sources of slog lines, paths.
    fn note_text(&mut self, session: &mut LogSession, text: &str, line: LineId) {
        if self.looked >= LOOKS_MAX {
            return;
        }
        self.looked += 1;
        if let Some((_, source)) = text.split_once("source=") {
            let file = source.split(':').next().unwrap_or_default();
            if file.rsplit_once('.').is_some_and(|(_, extension)| extension == "go") {
                self.ollama = true;
                match file {
                    "llama_server.go" => self.c = true,
                    "device.go" => self.b = true,
                    "memory.go" | "payload.go" | "payload_common.go" | "amd_linux.go"
                    | "amd_windows.go" | "gpu.go" | "dyn_ext_server.go" => self.a = true,
                    _ => {}
                }
            }
        }
        // Lines before slog, and those of its server in early 2024.
        let early = text
            .split_once(".go:")
            .is_some_and(|(file, _)| file.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        self.ollama |= early || (text.contains("[update_slots]") && text.contains(" tid=\""));
        self.a |= early;
        self.ollama_store |= text.contains("blobs/sha256-") || text.contains("blobs\\sha256-");
        if session.os.is_none() {
            session.os = system(text).map(|os| Seen { value: os.into(), line });
        }
    }

    /// A line that tells a version.
    pub(super) fn version(&mut self, session: &mut LogSession, record: &Record<'_>) {
        let line = record.line;
        if let Some(version) = record.fields.get("version") {
            session.version = Some(Seen { value: kept(version), line });
        }
        if let Some(build) = record.fields.get("build")
            && !self.ollama
        {
            session.version = Some(Seen { value: format!("b{}", kept(build)), line });
        }
        if record.kind == Kind::Listening {
            self.ollama = true;
        }
    }

    /// Decides.
    pub(super) fn finish(self, session: &mut LogSession) {
        let llama_cpp = self.llama_cpp || self.server;
        session.engine = if self.gpuwhy {
            Engine::Gpuwhy
        } else if self.vllm {
            Engine::Vllm
        } else if self.ollama || self.a || self.b || self.c {
            Engine::Ollama
        } else if llama_cpp {
            // A fragment of Ollama's child looks like llama-server, but for the elapsed time.
            let child = self.ollama_store && !self.llama_cpp;
            if child { Engine::Ollama } else { Engine::LlamaCpp }
        } else if self.ollama_store {
            Engine::Ollama
        } else if self.library {
            Engine::LlamaCpp
        } else {
            Engine::Unknown
        };
        session.dialect = match session.engine {
            Engine::Ollama => self.generation(session),
            Engine::LlamaCpp | Engine::Gpuwhy => Some(Dialect::LlamaCpp),
            Engine::Unknown | Engine::Vllm => None,
        };
    }

    /// The generation of Ollama: by its version where told (0.0.0 is a build of one's own), else by
    /// the lines.
    fn generation(&self, session: &LogSession) -> Option<Dialect> {
        match session.version_number() {
            Some(Version(0, 0, 0)) | None => {}
            Some(version) if version < Version(0, 12, 11) => return Some(Dialect::OllamaA),
            Some(version) if version < Version(0, 30, 0) => return Some(Dialect::OllamaB),
            Some(_) => return Some(Dialect::OllamaC),
        }
        // Nobody ran what was not released; and versions shortly before 0.12.11 wrote the lines of
        // both, so that the estimate goes before the engine's figures.
        let before_b = self.first_ns.is_some_and(|ns| ns > 0 && ns < B_RELEASED_NS);
        if self.c {
            Some(Dialect::OllamaC)
        } else if self.a || before_b {
            Some(Dialect::OllamaA)
        } else if self.b {
            Some(Dialect::OllamaB)
        } else if self.server && !self.llama_cpp {
            Some(Dialect::OllamaC)
        } else {
            self.words
        }
    }
}

/// What llama.cpp calls its functions and parameters dates the build that Ollama carries.
fn words(record: &Record<'_>) -> Option<Dialect> {
    let text = record.text;
    let any = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
    match record.kind {
        Kind::ReserveStart | Kind::ReserveTook | Kind::GraphSummary => Some(Dialect::OllamaC),
        Kind::ContextParameter if any(&["n_ctx_seq", "kv_unified"]) => Some(Dialect::OllamaB),
        Kind::ContextParameter | Kind::LayersOffloaded | Kind::BufferModel | Kind::ModelInfo
            if any(&["n_ctx_per_seq", "llm_load_", "llama_new_context", "model_load_internal"]) =>
        {
            Some(Dialect::OllamaA)
        }
        _ => None,
    }
}

/// Whether a function of llama.cpp's library printed the line.
fn of_library(text: &str) -> bool {
    let text = text.trim_start();
    ["llama_", "llm_load", "ggml_"].iter().any(|name| text.starts_with(name))
}

/// Timings that the command-line tools print, and Ollama's runners do not.
fn tool_timing(text: &str) -> bool {
    ["llama_print_timings", "llama_perf_", "common_perf_print"].iter().any(|f| text.contains(f))
}

/// The operating system, by paths and names of libraries.
fn system(text: &str) -> Option<&'static str> {
    let windows = [":\\Users\\", ":\\\\Users\\", "C:/Users/", ".dll", "AppData", ":\\Program"];
    let macos = ["ggml_metal_", "/Users/", ".dylib", "MTL0", "library=Metal", "library=metal"];
    let linux = ["/usr/share/ollama", "/usr/local/", "/usr/lib/", "/home/", ".so", "/root/.ollama"];
    let has = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
    if has(&windows) || drive(text) {
        Some("windows")
    } else if has(&macos) {
        Some("macos")
    } else if has(&linux) {
        Some("linux")
    } else {
        None
    }
}

/// A path that begins with the letter of a drive, `O:\models`.
fn drive(text: &str) -> bool {
    text.as_bytes().windows(3).any(|w| w[0].is_ascii_uppercase() && w[1] == b':' && w[2] == b'\\')
}
