//! Typed statements derived from a session, each with its evidence: what rules ask.
//!
//! Facts are computed from the session when asked, never by a rule for itself when two rules need
//! them. Nothing here depends on the dialect of a log, and nothing here judges.

pub(crate) mod cut;
mod depth;
mod gpu;
pub(crate) mod lately;
mod memory;
mod oom;
mod placement;
mod products;
mod shortfall;
mod speed;

use crate::observe::inspect::Inspection;
use crate::observe::logs::{Dialect, Engine, Load, LogSession, Notice, Role, Setting, Version};
use crate::observe::session::Session;

pub use depth::DepthLine;
pub use gpu::Host;
pub(crate) use gpu::is_software;
pub(crate) use memory::{CTX_MODEST, Q8_0_OF_F16};
pub use memory::{Sizes, WhatIf};
pub use oom::{Oom, OomCause, OomPart};
pub use placement::{Placement, Share};
pub(crate) use products::{memory_bytes, memory_speed};
pub use shortfall::{Cause, Shortfall};
pub use speed::MemorySpeed;

/// Builds of llama.cpp from about here on place what fits; the exact one does not matter, because a
/// fix names both ways.
const BUILD_THAT_FITS: u32 = 7400;

/// The facts of one observation.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What a log told.
    pub log: &'a LogSession,
    /// What was watched, where somebody watched.
    pub live: Option<&'a Session>,
    /// The machine, where somebody looked at it.
    pub machine: Option<&'a Inspection>,
}

/// The facts of one load.
#[derive(Clone, Copy, Debug)]
pub struct LoadFacts<'a> {
    /// The session that it is part of.
    pub log: &'a LogSession,
    /// The load.
    pub load: &'a Load,
}

impl<'a> Facts<'a> {
    /// The facts of a log.
    pub fn of_log(log: &'a LogSession) -> Self {
        Self { log, live: None, machine: None }
    }

    /// The facts of a session, its log included as of the last [`crate::observe::session::Followed::settle`].
    pub fn of_session(session: &'a Session) -> Self {
        Self { log: session.log.told(), live: Some(session), machine: None }
    }

    /// Every load of a model that answers that was kept, in order. Where a draft model is, says
    /// nothing of it.
    pub fn loads(&self) -> impl DoubleEndedIterator<Item = LoadFacts<'a>> + use<'a> {
        self.loads_for(Role::Main)
    }

    /// Every load of a draft model that was kept, in order.
    pub fn drafts(&self) -> impl DoubleEndedIterator<Item = LoadFacts<'a>> + use<'a> {
        self.loads_for(Role::Draft)
    }

    fn loads_for(&self, role: Role) -> impl DoubleEndedIterator<Item = LoadFacts<'a>> + use<'a> {
        let log = self.log;
        let loads = log.loads.iter().filter(move |load| load.role == role);
        loads.map(move |load| LoadFacts { log, load })
    }

    /// The last load, which is the state that the log ends in.
    pub fn last_load(&self) -> Option<LoadFacts<'a>> {
        self.loads().next_back()
    }

    /// The load that has layers on the CPU for want of memory, with the causes: the last one, unless
    /// the same model was loaded whole after it.
    pub fn short_load(&self) -> Option<(LoadFacts<'a>, Shortfall)> {
        for (back, load) in self.loads().rev().enumerate() {
            let Some(shortfall) = load.shortfall() else { continue };
            let whole = |later: &LoadFacts| later.placement() == Some(Placement::Whole);
            let mut later = self.loads().rev().take(back);
            if !later.any(|later| whole(&later) && later.same_model(&load)) {
                return Some((load, shortfall));
            }
        }
        None
    }

    /// The notice with this id, if the log had it.
    pub fn notice(&self, id: &str) -> Option<&'a Notice> {
        self.log.notice(id)
    }

    /// The first of these notices that the log had.
    pub fn any_notice(&self, ids: &[&str]) -> Option<&'a Notice> {
        ids.iter().find_map(|id| self.log.notice(id))
    }

    /// A setting of the server that has a value.
    pub fn setting(&self, name: &str) -> Option<&'a Setting> {
        self.log.setting(name)
    }

    /// A setting that is a number above zero; Ollama writes 0 for "not set" in many of them. One that
    /// no machine could follow is no number.
    pub fn setting_number(&self, name: &str) -> Option<u64> {
        self.setting(name)?.value.trim().parse().ok().filter(|n| (1..1 << 44).contains(n))
    }

    /// A switch of the server, in the spellings that Go's `ParseBool` takes.
    pub fn setting_switch(&self, name: &str) -> Option<bool> {
        match self.setting(name)?.value.trim().to_ascii_lowercase().as_str() {
            "1" | "t" | "true" | "on" => Some(true),
            "0" | "f" | "false" | "off" => Some(false),
            _ => None,
        }
    }

    /// Whether the log is Ollama's, of any generation.
    pub fn is_ollama(&self) -> bool {
        self.log.engine == Engine::Ollama
    }

    /// The released version of the engine; `None` for a build of one's own (0.0.0) as well.
    pub fn version(&self) -> Option<Version> {
        self.log.version_number().filter(|v| *v != Version(0, 0, 0))
    }

    /// Whether Ollama is certainly at least this version: by its number, else by its lines.
    pub fn ollama_since(&self, since: Version) -> Option<bool> {
        if !self.is_ollama() {
            return None;
        }
        if let Some(version) = self.version() {
            return Some(version >= since);
        }
        // A generation of lines bounds the version from below and from above.
        let (low, high) = match self.log.dialect? {
            Dialect::OllamaA => (Version(0, 0, 1), Version(0, 12, 10)),
            Dialect::OllamaB => (Version(0, 12, 11), Version(0, 29, u32::MAX)),
            Dialect::OllamaC => (Version(0, 30, 0), Version(u32::MAX, 0, 0)),
            Dialect::LlamaCpp => return None,
        };
        match (low >= since, high < since) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// Whether this llama.cpp places as many layers as fit by itself (`-ngl auto`, `-fitt`), as builds
    /// since the end of 2025 do: by what it does, its number, or the names of its functions.
    pub fn fits_by_itself(&self) -> Option<bool> {
        if self.log.loads.iter().any(|l| l.fit.is_some()) {
            return Some(true);
        }
        if let Some(Version(build, ..)) = self.version().filter(|v| v.0 >= 1000) {
            return Some(build >= BUILD_THAT_FITS);
        }
        let mut texts = self.log.loads.iter().filter_map(|l| self.log.lines.get(l.layers?.line));
        let old = |text: &str| text.contains("llm_load_") || text.contains("model_load_internal");
        texts.any(|line| old(line.text)).then_some(false)
    }

    /// Whether the log runs on this system, as far as it tells: `linux`, `windows`, `macos`.
    pub fn runs_on(&self, os: &str) -> Option<bool> {
        self.log.os.as_ref().map(|seen| seen.value == os)
    }
}

impl<'a> LoadFacts<'a> {
    /// The facts of the log that it is part of.
    pub fn facts(&self) -> Facts<'a> {
        Facts::of_log(self.log)
    }

    /// Whether two loads are of the same model: by path, else by name, else by its shape. `false`
    /// when nothing tells.
    pub fn same_model(&self, other: &LoadFacts) -> bool {
        let (a, b) = (&self.load.model, &other.load.model);
        let layers = |l: &LoadFacts| l.share().map(|(share, _)| share.total);
        match ((&a.path, &b.path), (&a.name, &b.name)) {
            ((Some(a), Some(b)), _) | (_, (Some(a), Some(b))) => a == b,
            _ => layers(self).is_some() && layers(self) == layers(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::logs::{LineId, Seen};

    #[test]
    fn a_version_is_known_by_number_or_bounded_by_the_lines() {
        let mut log = LogSession { engine: Engine::Ollama, ..LogSession::default() };
        let since = Version(0, 12, 0);
        assert_eq!(Facts::of_log(&log).ollama_since(since), None);
        log.dialect = Some(Dialect::OllamaB);
        assert_eq!(Facts::of_log(&log).ollama_since(since), Some(true));
        assert_eq!(Facts::of_log(&log).ollama_since(Version(0, 30, 0)), Some(false));
        assert_eq!(Facts::of_log(&log).ollama_since(Version(0, 15, 5)), None);
        log.version = Some(Seen { value: "0.15.6".into(), line: LineId(1) });
        assert_eq!(Facts::of_log(&log).ollama_since(Version(0, 15, 5)), Some(true));
    }

    #[test]
    fn switches_and_numbers_follow_the_server() {
        let mut log = LogSession::default();
        let mut set = |name: &str, value: &str| {
            let setting = Setting { value: value.into(), line: LineId(1) };
            log.settings.insert(name.into(), setting);
        };
        set("OLLAMA_FLASH_ATTENTION", "true");
        set("OLLAMA_NUM_PARALLEL", "0");
        set("OLLAMA_CONTEXT_LENGTH", "8192");
        let facts = Facts::of_log(&log);
        assert_eq!(facts.setting_switch("OLLAMA_FLASH_ATTENTION"), Some(true));
        assert_eq!(facts.setting_switch("OLLAMA_SCHED_SPREAD"), None);
        assert_eq!(facts.setting_number("OLLAMA_NUM_PARALLEL"), None);
        assert_eq!(facts.setting_number("OLLAMA_CONTEXT_LENGTH"), Some(8192));
    }
}
