//! What one llama-server tells of its work: its own, or one that Ollama or a router has started.
//!
//! `/slots` counts as activity there and wakes a server that has put its model away, so of one that may
//! do so it is asked only while it works. `/metrics` does neither; reading it begins a new window for
//! the server's gauges, of which nothing here makes use where it also tells totals.

use crate::base::clock::now_ns;
use crate::base::counter::{Counter, Subject};
use crate::base::event::AbsentReason;
use crate::observe::attach::http::{Client, ErrorKind, HttpError};
use crate::observe::attach::llama_server::{LlamaServer, Slot};
use crate::observe::attach::prometheus::Exposition;
use crate::observe::telemetry::{Readings, Unread};

use super::rate::{Growth, OwnRate, Slots};

/// A path that is off is asked for again after so long: the server may have been started anew.
const RETRY_NS: u64 = 10_000_000_000;

/// One llama-server.
pub(super) struct Endpoint {
    pub(super) server: LlamaServer,
    /// Who started it, for what to do about a path that is off.
    of_ollama: bool,
    /// Whether it puts its model away when nobody asks it for a while.
    pub(super) sleeps: Sleeps,
    /// The model that it has, as a person names it.
    model: String,
    /// The number of its first slot, once its slots were described.
    described_from: Option<u16>,
    slots: Slots,
    slots_off: Option<u64>,
    metrics_off: Option<u64>,
    prompt_rate: OwnRate,
    decode_rate: OwnRate,
    /// Tokens that its slots were seen to write.
    seen_tokens: u64,
}

/// Whether a llama-server puts its model away when nobody asks it for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleeps {
    /// It does not.
    Never,
    /// Its command line cannot be seen.
    Perhaps,
    /// It does.
    Surely,
}

/// What it told at one reading, to be added up with others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) slots: Option<u64>,
    pub(super) busy: Option<f64>,
    pub(super) queued: Option<f64>,
    pub(super) prompt_tokens: Option<f64>,
    pub(super) decoded_tokens: Option<f64>,
    pub(super) prompt_rate: Option<f64>,
    pub(super) decode_rate: Option<f64>,
    pub(super) kv_used: Option<f64>,
}

impl Endpoint {
    pub(super) fn new(client: Client) -> Self {
        Self {
            server: LlamaServer::new(client),
            of_ollama: false,
            sleeps: Sleeps::Never,
            model: String::new(),
            described_from: None,
            slots: Slots::default(),
            slots_off: None,
            metrics_off: None,
            prompt_rate: OwnRate::default(),
            decode_rate: OwnRate::default(),
            seen_tokens: 0,
        }
    }

    /// One that Ollama has started.
    pub(super) fn of_ollama(client: Client) -> Self {
        Self { of_ollama: true, ..Self::new(client) }
    }

    /// Names the model that it has, which may be known only some time after it was started.
    pub(super) fn has_model(&mut self, name: &str) {
        if self.model != name {
            self.model = name.to_string();
            self.described_from = None;
        }
    }

    /// Reads what it does. Its slots are numbered from `first_slot`.
    pub(super) fn read(&mut self, first_slot: u16, to: &mut Readings) -> Told {
        let mut told = Told::default();
        if let Some(metrics) = self.metrics(to) {
            self.take_metrics(&metrics, &mut told);
        }
        let is_idle = told.busy == Some(0.0);
        let asks = match self.sleeps {
            Sleeps::Never => true,
            Sleeps::Perhaps => !is_idle,
            Sleeps::Surely => told.busy.is_some() && !is_idle,
        };
        if !asks {
            for slot in 0..if is_idle { self.slots.count() } else { 0 } {
                if let Some(number) = first_slot.checked_add(slot) {
                    to.sample(Subject::Slot(number), Counter::SlotsBusy, 0.0);
                }
            }
        } else if let Some(slots) = self.slots(first_slot, to) {
            self.take_slots(&slots, first_slot, to, &mut told);
        }
        told
    }

    fn metrics(&mut self, to: &mut Readings) -> Option<Exposition> {
        if is_left_alone(self.metrics_off, to.at_ns()) {
            return None;
        }
        self.metrics_off = None;
        match self.server.metrics() {
            Ok(metrics) => Some(metrics),
            Err(error) => {
                if is_off(&error) {
                    self.metrics_off = Some(to.at_ns());
                }
                let (what, hint) = ("queue and tokens", "start llama-server with --metrics");
                let why = self.why("/metrics", what, hint, &error);
                to.absent(Some(Subject::Server), Some(Counter::RequestsQueued), why);
                None
            }
        }
    }

    fn slots(&mut self, first_slot: u16, to: &mut Readings) -> Option<Vec<Slot>> {
        if is_left_alone(self.slots_off, to.at_ns()) {
            return None;
        }
        self.slots_off = None;
        let first = Some(Subject::Slot(first_slot));
        match self.server.slots() {
            Ok(slots) => {
                to.present(first);
                Some(slots)
            }
            Err(error) => {
                if is_off(&error) {
                    self.slots_off = Some(to.at_ns());
                }
                let hint = "start llama-server without --no-slots; builds before 2025 need --slots";
                to.absent(first, None, self.why("/slots", "what each slot does", hint, &error));
                None
            }
        }
    }

    /// Why a path told nothing.
    fn why(&self, path: &str, what: &str, hint: &str, error: &HttpError) -> Unread {
        match error.kind {
            ErrorKind::Unauthorized => Unread::new(
                AbsentReason::NoPermission,
                format!("{path} wants a key"),
                "give the server's key with --api-key",
            ),
            _ if !is_off(error) => Unread::new(
                AbsentReason::Unreadable,
                format!("{path} did not answer: {}", error.what),
                "a server in the middle of a long prompt answers after it",
            ),
            _ if self.of_ollama => Unread::new(
                AbsentReason::NotSupported,
                format!("{what}: Ollama has its llama-server answer no {path}"),
                "its log tells of each request",
            ),
            _ => Unread::new(AbsentReason::NotSupported, format!("{what}: {path} is off"), hint),
        }
    }

    fn take_metrics(&mut self, metrics: &Exposition, told: &mut Told) {
        let sum = |name: &str| metrics.sum(&format!("llamacpp:{name}"));
        told.busy = sum("requests_processing");
        told.queued = sum("requests_deferred");
        told.kv_used = sum("kv_cache_usage_ratio");
        told.prompt_tokens = sum("prompt_tokens_total");
        told.decoded_tokens = sum("tokens_predicted_total");
        let gauge = |name: &str| sum(name).filter(|rate| *rate > 0.0);
        let mut rate = |of: fn(&mut Self) -> &mut OwnRate, tokens, seconds: &str, name: &str| match (
            tokens,
            sum(seconds),
        ) {
            (Some(tokens), Some(seconds)) => of(self).next(tokens, seconds),
            _ => gauge(name),
        };
        told.prompt_rate = rate(
            |e| &mut e.prompt_rate,
            told.prompt_tokens,
            "prompt_seconds_total",
            "prompt_tokens_seconds",
        );
        told.decode_rate = rate(
            |e| &mut e.decode_rate,
            told.decoded_tokens,
            "tokens_predicted_seconds_total",
            "predicted_tokens_seconds",
        );
    }

    fn take_slots(&mut self, slots: &[Slot], first: u16, to: &mut Readings, told: &mut Told) {
        let at_ns = now_ns();
        let growth = self.slots.grow(at_ns, slots);
        for (i, (slot, growth)) in slots.iter().zip(&growth).enumerate() {
            let Some(number) = u16::try_from(i).ok().and_then(|i| first.checked_add(i)) else {
                break;
            };
            let subject = Subject::Slot(number);
            if self.described_from != Some(first) {
                to.forget(subject);
                let model = vec![("model".to_string(), self.model.clone())];
                to.describe(subject, format!("slot {number}"), model);
            }
            let busy = f64::from(u8::from(slot.is_busy));
            to.sample_at(at_ns, subject, Counter::SlotsBusy, busy);
            for (counter, value) in [
                (Counter::SlotContext, slot.context_tokens),
                (Counter::SlotPrompt, slot.prompt_tokens),
                (Counter::SlotDecoded, slot.decoded_tokens),
            ] {
                if let Some(value) = value {
                    to.sample_at(at_ns, subject, counter, value as f64);
                }
            }
            if let Some(rate) = growth.rate() {
                to.sample_at(at_ns, subject, Counter::DecodeRate, rate);
            }
        }
        self.described_from = Some(first);
        told.slots = Some(slots.len() as u64);
        told.busy = Some(slots.iter().filter(|slot| slot.is_busy).count() as f64);
        self.seen_tokens += growth.iter().map(|g| g.tokens).sum::<u64>();
        // Only what the server does not tell itself is taken from its slots.
        if told.decoded_tokens.is_none() && slots.iter().any(|s| s.decoded_tokens.is_some()) {
            told.decoded_tokens = Some(self.seen_tokens as f64);
            told.decode_rate = mean_rate(&growth);
        }
    }
}

/// Tokens per second of one request, over the slots that wrote.
fn mean_rate(growth: &[Growth]) -> Option<f64> {
    let wrote: Vec<&Growth> = growth.iter().filter(|g| g.rate().is_some()).collect();
    let seconds: f64 = wrote.iter().filter_map(|g| g.seconds).sum();
    let tokens: u64 = wrote.iter().map(|g| g.tokens).sum();
    (seconds > 0.0).then(|| tokens as f64 / seconds)
}

/// Whether a path was off a moment ago.
pub(super) fn is_left_alone(off: Option<u64>, now_ns: u64) -> bool {
    off.is_some_and(|at_ns| now_ns.saturating_sub(at_ns) < RETRY_NS)
}

/// Whether an error means that the path will not answer, rather than not now.
pub(super) fn is_off(error: &HttpError) -> bool {
    matches!(
        error.kind,
        ErrorKind::NotFound
            | ErrorKind::Status(_)
            | ErrorKind::Protocol
            | ErrorKind::TooLarge
            | ErrorKind::Unauthorized
    )
}

impl Told {
    /// Adds what another one told. What only some tell is the sum of these; of speeds, which are those
    /// of one request, the mean.
    pub(super) fn sum(all: &[Self]) -> Self {
        let added = |of: fn(&Self) -> Option<f64>| -> Option<f64> {
            all.iter().filter_map(of).reduce(|a, b| a + b)
        };
        let mean = |of: fn(&Self) -> Option<f64>| {
            let count = all.iter().filter_map(of).count();
            added(of).map(|sum| sum / count as f64)
        };
        Self {
            slots: all.iter().filter_map(|t| t.slots).reduce(|a, b| a + b),
            busy: added(|t| t.busy),
            queued: added(|t| t.queued),
            prompt_tokens: added(|t| t.prompt_tokens),
            decoded_tokens: added(|t| t.decoded_tokens),
            prompt_rate: mean(|t| t.prompt_rate),
            decode_rate: mean(|t| t.decode_rate),
            kv_used: mean(|t| t.kv_used),
        }
    }

    /// Makes samples of it.
    pub(super) fn sample(&self, to: &mut Readings) {
        for (counter, value) in [
            (Counter::SlotsTotal, self.slots.map(|n| n as f64)),
            (Counter::SlotsBusy, self.busy),
            (Counter::RequestsQueued, self.queued),
            (Counter::PromptTokens, self.prompt_tokens),
            (Counter::DecodedTokens, self.decoded_tokens),
            (Counter::PromptRate, self.prompt_rate),
            (Counter::DecodeRate, self.decode_rate),
            (Counter::KvUsed, self.kv_used),
        ] {
            if let Some(value) = value {
                to.sample(Subject::Server, counter, value);
            }
        }
    }
}
