//! Requests to a server: totals and spreads of all, and the first and the last ones whole.

use super::line::LineId;

/// One request, or one generation of a command-line program. What several lines tell of the same
/// request (slot, timings, access line) is merged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// `/api/generate`.
    pub endpoint: Option<String>,
    /// HTTP status.
    pub status: Option<u16>,
    /// From arrival to the last byte.
    pub duration_ns: Option<u64>,
    /// Tokens of the prompt that were computed (not those found in a cache).
    pub prompt_tokens: Option<u64>,
    /// Tokens of the prompt that were found in a cache.
    pub cached_tokens: Option<u64>,
    /// Prompt tokens per second.
    pub prompt_tokens_per_s: Option<f64>,
    /// Time in which it was not computed: it waited for its turn, for a load, for the client. What is
    /// left of `duration_ns` after prompt and decode.
    pub wait_ns: Option<u64>,
    /// Tokens generated.
    pub decode_tokens: Option<u64>,
    /// Generated tokens per second.
    pub decode_tokens_per_s: Option<f64>,
    /// Tokens that its slot held when it ended: prompt, cached or not, and answer; where told.
    pub held_tokens: Option<u64>,
    /// Time of sampling, where told.
    pub sampling_ns: Option<u64>,
    /// How often a graph could be used again, where told.
    pub graphs_reused: Option<u64>,
    /// Whether the prompt was cut, or generation ended at the context's limit.
    pub truncated: Option<bool>,
    /// Tokens of the prompt before it was cut, and the limit.
    pub truncated_from_to: Option<(u64, u64)>,
    /// How many times the context was shifted during it.
    pub shifts: u64,
    /// The server's slot that computed it, where told.
    pub slot: Option<u32>,
    /// Which of the session's loads served it: an index into all loads, counted from 0.
    pub load: Option<usize>,
    /// Its first line.
    pub line: LineId,
}

/// Smallest, mean, largest and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// How many values.
    pub count: u64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their sum.
    pub sum: f64,
}

impl Spread {
    /// Takes one more value in.
    pub fn add(&mut self, value: f64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = if self.count == 0 { value } else { self.max.max(value) };
        self.sum += value;
        self.count += 1;
    }

    /// The mean; `None` when there was no value.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Totals over all requests of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// All requests that computed something (generate, chat, embed, completion).
    pub count: u64,
    /// Those that ended with a status of 500 or more.
    pub failed: u64,
    /// Those whose prompt was cut.
    pub truncated: u64,
    /// Those with at least one context shift.
    pub shifted: u64,
    /// Context shifts.
    pub shifts: u64,
    /// Those that waited, in seconds (see [`Request::wait_ns`]).
    pub wait_s: Spread,
    /// Durations in seconds.
    pub duration_s: Spread,
    /// Prompt speeds, tokens per second.
    pub prompt_tokens_per_s: Spread,
    /// Decode speeds, tokens per second.
    pub decode_tokens_per_s: Spread,
    /// Requests that waited for their turn, each time the server told (vLLM).
    pub waiting: Spread,
    /// Share of the KV cache in use while requests waited, from 0 to 1 (vLLM).
    pub kv_used_waiting: Spread,
    /// The line in which most of them waited.
    pub waiting_line: Option<LineId>,
    /// Requests of other kinds (`/api/tags`, `/health`).
    pub other: u64,
}

/// All requests of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requests {
    /// Totals.
    pub all: Summary,
    /// The first ones, at most [`Requests::KEPT`].
    pub first: Vec<Request>,
    /// The last ones that are not among the first, at most [`Requests::KEPT`].
    pub last: Vec<Request>,
}

impl Requests {
    /// So many are kept at either end.
    pub const KEPT: usize = 256;

    /// Those that were kept, in order.
    pub fn kept(&self) -> impl Iterator<Item = &Request> {
        self.first.iter().chain(&self.last)
    }
}
