//! How near generation comes to what the memory of the GPUs allows.

use crate::observe::logs::{BufferKind, LineId, Role};

use super::products::memory_speed;
use super::{LoadFacts, Placement};

/// Speed of generation next to the speed of the memory that holds the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemorySpeed {
    /// Tokens per second: the median of the requests.
    pub tokens_per_s: f64,
    /// Tokens per second if weights were read as fast as the GPUs' memory can be read.
    pub tokens_per_s_max: f64,
    /// Weights on GPUs, which every token reads.
    pub weights_bytes: u64,
    /// How many requests tell it.
    pub count: usize,
    /// The line of a request.
    pub line: LineId,
}

impl MemorySpeed {
    /// The part of the memory's speed that was reached.
    pub fn share(&self) -> f64 {
        self.tokens_per_s / self.tokens_per_s_max
    }
}

/// Shorter answers measure nothing.
const DECODE_TOKENS_MIN: u64 = 32;

impl LoadFacts<'_> {
    /// For a dense model that is wholly on GPUs of known speed, without a draft model: then a token
    /// reads every weight once, GPU after GPU. `None` when the log does not tell that it is so.
    pub fn memory_speed_used(&self) -> Option<MemorySpeed> {
        let load = self.load;
        let dense = load.model.n_expert == Some(0);
        let drafts = load.requested.other.iter().any(|o| {
            ["-md", "--model-draft", "--spec-type"].iter().any(|f| o.value.starts_with(f))
        });
        let drafted = self.log.loads.iter().any(|l| l.role == Role::Draft);
        if !dense || drafts || drafted || self.placement() != Some(Placement::Whole) {
            return None;
        }
        let mut seconds = 0.0;
        let mut weights_bytes = 0;
        for name in self.gpus_with_weights() {
            let known = self.log.devices.iter().find(|d| d.name.as_deref() == Some(name));
            let only = (self.log.devices.len() == 1).then(|| self.log.devices.first()).flatten();
            let bytes_per_s = memory_speed(known.or(only)?)? as f64 * 1e9;
            let model =
                load.buffers.iter().filter(|b| b.kind == BufferKind::Model && b.device == name);
            let bytes: u64 = model.map(|b| b.bytes).sum();
            weights_bytes += bytes;
            seconds += bytes as f64 / bytes_per_s;
        }
        let measured = self.log.requests.kept().filter(|r| {
            r.load.is_none_or(|l| l == load.index) && r.decode_tokens >= Some(DECODE_TOKENS_MIN)
        });
        let mut speeds: Vec<(f64, LineId)> =
            measured.filter_map(|r| Some((r.decode_tokens_per_s?, r.line))).collect();
        speeds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (tokens_per_s, line) = *speeds.get(speeds.len() / 2)?;
        (seconds > 0.0 && tokens_per_s > 0.0).then_some(MemorySpeed {
            tokens_per_s,
            tokens_per_s_max: 1.0 / seconds,
            weights_bytes,
            count: speeds.len(),
            line,
        })
    }
}
