//! What is different between two observations: a fast run and a slow one, before and after an
//! upgrade.
//!
//! Compares what decides speed, in the order in which one thing leads to the next: versions,
//! devices, settings, what was asked, what was granted, how the graph was cut, how fast it went. It
//! states differences and draws no conclusion; the rules do that.

use std::collections::BTreeSet;

use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, Device, Load, LogSession, Seen, Spread};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which part: `engine`, `devices`, `settings`, `asked`, `granted`, `graph`, `speed`.
    pub area: &'static str,
    /// What: `OLLAMA_NUM_PARALLEL`, `layers on GPU`.
    pub what: String,
    /// In the first observation; `-` where it says nothing.
    pub before: String,
    /// In the second.
    pub after: String,
}

/// Speeds closer than this are taken for the same: runs differ by as much without a cause.
const SPEED_DIFFERENCE_MIN: f64 = 0.05;

/// All differences between two sessions, comparing the last load of each.
pub fn changes(before: &LogSession, after: &LogSession) -> Vec<Change> {
    let mut all = Changes::default();
    all.engine(before, after);
    all.devices(before, after);
    all.settings(before, after);
    if let (Some(a), Some(b)) = (before.last_load(), after.last_load()) {
        all.asked(a, b);
        all.granted(a, b);
        all.graph(a, b);
    }
    let (a, b) = (&before.requests.all, &after.requests.all);
    all.compare("speed", "requests that failed", Some(a.failed), Some(b.failed));
    all.compare("speed", "requests with a cut prompt", Some(a.truncated), Some(b.truncated));
    all.speed("prompt", &a.prompt_tokens_per_s, &b.prompt_tokens_per_s);
    all.speed("generation", &a.decode_tokens_per_s, &b.decode_tokens_per_s);
    all.0
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn compare<T: ToString + PartialEq>(
        &mut self,
        area: &'static str,
        what: impl Into<String>,
        before: Option<T>,
        after: Option<T>,
    ) {
        if before == after {
            return;
        }
        let text = |v: Option<T>| v.map_or_else(|| "-".to_string(), |v| v.to_string());
        let (before, after) = (text(before), text(after));
        self.0.push(Change { area, what: what.into(), before, after });
    }

    fn engine(&mut self, a: &LogSession, b: &LogSession) {
        let engine = |s: &LogSession| Some(format!("{:?}", s.engine));
        self.compare("engine", "engine", engine(a), engine(b));
        let version = |s: &LogSession| s.version.as_ref().map(|v| v.value.clone());
        self.compare("engine", "version", version(a), version(b));
        let backends = |s: &LogSession| {
            let names: Vec<&str> = s.backends.keys().map(String::as_str).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        self.compare("engine", "backends loaded", backends(a), backends(b));
    }

    fn devices(&mut self, a: &LogSession, b: &LogSession) {
        let names = |s: &LogSession| {
            let name =
                |d: &Device| d.description.clone().or_else(|| d.name.clone()).unwrap_or_default();
            Some(s.devices.iter().map(name).collect::<Vec<_>>().join(", "))
        };
        self.compare("devices", "GPUs", names(a), names(b));
        if a.devices.len() != b.devices.len() {
            return;
        }
        for (x, y) in a.devices.iter().zip(&b.devices) {
            let name = y.name.clone().or_else(|| y.description.clone()).unwrap_or_default();
            self.compare("devices", format!("{name} driver"), x.driver.clone(), y.driver.clone());
            let library = |d: &Device| d.library.map(|l| l.name().to_string());
            self.compare("devices", format!("{name} library"), library(x), library(y));
            self.bytes("devices", &format!("{name} free memory"), x.free_bytes, y.free_bytes);
        }
    }

    fn settings(&mut self, a: &LogSession, b: &LogSession) {
        if a.settings.is_empty() || b.settings.is_empty() {
            return; // one of them does not show its settings
        }
        let names: BTreeSet<&String> = a.settings.keys().chain(b.settings.keys()).collect();
        for name in names {
            let value = |s: &LogSession| s.setting(name).map(|s| s.value.clone());
            self.compare("settings", name.as_str(), value(a), value(b));
        }
    }

    fn asked(&mut self, a: &Load, b: &Load) {
        let model = |l: &Load| l.model.name.clone().or_else(|| l.model.path.clone());
        self.compare("asked", "model", model(a), model(b));
        let file_type = |l: &Load| l.model.file_type.clone();
        self.compare("asked", "file type", file_type(a), file_type(b));
        let (x, y) = (&a.requested, &b.requested);
        let number = |v: Option<Seen<u64>>| v.map(|v| v.value);
        let layers = |v: Option<Seen<i64>>| v.map(|v| v.value);
        self.compare("asked", "layers to offload", layers(x.gpu_layers), layers(y.gpu_layers));
        self.compare("asked", "batch", number(x.batch), number(y.batch));
        self.compare("asked", "threads", number(x.threads), number(y.threads));
        let text = |v: &Option<Seen<String>>| v.as_ref().map(|v| v.value.clone());
        self.compare("asked", "type of keys", text(&x.kv_type_k), text(&y.kv_type_k));
        self.compare("asked", "type of values", text(&x.kv_type_v), text(&y.kv_type_v));
        self.compare("asked", "split mode", text(&x.split_mode), text(&y.split_mode));
        let overrides = |l: &Load| {
            let all: Vec<&str> = l.requested.overrides.iter().map(|o| o.value.as_str()).collect();
            (!all.is_empty()).then(|| all.join(" "))
        };
        self.compare("asked", "overrides", overrides(a), overrides(b));
    }

    fn granted(&mut self, a: &Load, b: &Load) {
        let context = |l: &Load| l.n_ctx.or(l.requested.ctx).map(|n| n.value);
        self.compare("granted", "context", context(a), context(b));
        let slots = |l: &Load| l.n_seq_max.or(l.requested.parallel).map(|n| n.value);
        self.compare("granted", "slots", slots(a), slots(b));
        let layers = |l: &Load| l.layers.map(|l| format!("{}/{}", l.offloaded, l.total));
        self.compare("granted", "layers on GPU", layers(a), layers(b));
        let flash = |l: &Load| l.flash_attention.map(|f| format!("{:?}", f.value).to_lowercase());
        self.compare("granted", "flash attention", flash(a), flash(b));
        let kinds = [
            (BufferKind::Model, "weights"),
            (BufferKind::Kv, "KV cache"),
            (BufferKind::Compute, "compute buffers"),
        ];
        for (kind, what) in kinds {
            for (host, place) in [(false, "GPU"), (true, "CPU")] {
                let sum = |l: &Load| {
                    let any = l.buffers.iter().any(|b| b.kind == kind);
                    any.then(|| l.buffer_bytes(kind, |b| b.is_host() == host))
                };
                self.bytes("granted", &format!("{what} on {place}"), sum(a), sum(b));
            }
        }
    }

    fn graph(&mut self, a: &Load, b: &Load) {
        let (x, y) = (a.graph.unwrap_or_default(), b.graph.unwrap_or_default());
        let parts = [
            ("nodes of a prompt", x.nodes_prompt, y.nodes_prompt),
            ("splits of a prompt", x.splits_prompt, y.splits_prompt),
            ("splits of a token", x.splits_decode, y.splits_decode),
            ("copies for pipelining", x.copies, y.copies),
        ];
        for (what, before, after) in parts {
            self.compare("graph", what, before, after);
        }
    }

    /// Sizes that round to the same text are the same.
    fn bytes(&mut self, area: &'static str, what: &str, a: Option<u64>, b: Option<u64>) {
        let text = |v: Option<u64>| v.map(|v| Bytes(v).to_string());
        self.compare(area, what, text(a), text(b));
    }

    fn speed(&mut self, what: &str, a: &Spread, b: &Spread) {
        let (Some(x), Some(y)) = (a.mean(), b.mean()) else { return };
        if x <= 0.0 || (y / x - 1.0).abs() < SPEED_DIFFERENCE_MIN {
            return;
        }
        let after = format!("{y:.1} tokens/s ({:.2} times)", y / x);
        let before = format!("{x:.1} tokens/s");
        self.0.push(Change { area: "speed", what: what.to_string(), before, after });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::logs::{Layers, LineId, Setting};

    fn session(layers: u64, parallel: &str, speed: f64) -> LogSession {
        let mut session = LogSession::default();
        let setting = Setting { value: parallel.to_string(), line: LineId(1) };
        session.settings.insert("OLLAMA_NUM_PARALLEL".to_string(), setting);
        let layers = Some(Layers { offloaded: layers, total: 33, line: LineId(2) });
        let mut load = Load { layers, ..Load::default() };
        load.requested.threads = Some(Seen { value: 8, line: LineId(2) });
        session.loads.push(load);
        session.requests.all.decode_tokens_per_s.add(speed);
        session
    }

    #[test]
    fn the_same_has_no_changes() {
        let one = session(33, "1", 40.0);
        assert_eq!(changes(&one, &session(33, "1", 41.0)), vec![]);
    }

    #[test]
    fn what_changed_is_told_in_order() {
        let found = changes(&session(33, "1", 40.0), &session(20, "4", 10.0));
        let told: Vec<_> = found.iter().map(|c| (c.area, c.what.as_str())).collect();
        assert_eq!(
            told,
            [
                ("settings", "OLLAMA_NUM_PARALLEL"),
                ("granted", "layers on GPU"),
                ("speed", "generation")
            ]
        );
        assert_eq!((found[1].before.as_str(), found[1].after.as_str()), ("33/33", "20/33"));
        assert_eq!(found[2].after, "10.0 tokens/s (0.25 times)");
    }
}
