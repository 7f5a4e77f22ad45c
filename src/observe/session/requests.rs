//! Requests: which wait, which run, and how long those that ran took.

use std::collections::{BTreeMap, VecDeque};

use crate::base::event::{Finish, RequestStep, Step};

/// Ended requests that are kept, the last ones.
const ENDED_MAX: usize = 64;

/// Bytes of text that are kept of one request; the end of a longer one is left out.
const TEXT_BYTES_MAX: usize = 1 << 16;

/// Times of tokens that are kept of one request.
const TOKENS_MAX: usize = 1 << 16;

/// Requests that run or wait and are kept.
const OPEN_MAX: usize = 4096;

/// Times to the first token, and between tokens, that are kept.
const TIMES_MAX: usize = 4096;

/// A request that waits or runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunningRequest {
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// When it came.
    pub queued_ns: u64,
    /// When it got a sequence, and which.
    pub started: Option<(u64, u16)>,
    /// When each token was there, counted from its start.
    pub token_ns: Vec<u64>,
    /// Tokens so far.
    pub tokens: u64,
    /// When the last token was there.
    pub last_ns: u64,
    /// Its text so far.
    pub text: String,
}

/// A request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedRequest {
    /// Its number.
    pub id: u64,
    /// As it was.
    pub request: RunningRequest,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of its answer.
    pub generated_tokens: u32,
    /// When it ended.
    pub ended_ns: u64,
}

/// All requests.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// Those that wait or run, by number.
    pub open: BTreeMap<u64, RunningRequest>,
    /// The last ones that ended, oldest first.
    pub ended: VecDeque<EndedRequest>,
    /// How many have ended.
    pub ended_count: u64,
    /// The last times from a request's start to its first token, in nanoseconds.
    pub first_token_ns: VecDeque<u64>,
    /// The last times from one token to the next of the same request, in nanoseconds.
    pub inter_token_ns: VecDeque<u64>,
}

impl Requests {
    pub(super) fn step(&mut self, event: &RequestStep) {
        if let Step::Ended { finish, generated_tokens } = event.step {
            let request = self.open.remove(&event.request).unwrap_or_default();
            self.ended_count += 1;
            if self.ended.len() == ENDED_MAX {
                self.ended.pop_front();
            }
            let (id, ended_ns) = (event.request, event.at_ns);
            self.ended.push_back(EndedRequest { id, request, finish, generated_tokens, ended_ns });
            return;
        }
        if self.open.len() >= OPEN_MAX && !self.open.contains_key(&event.request) {
            return;
        }
        let request = self.open.entry(event.request).or_default();
        match &event.step {
            Step::Queued { prompt_tokens } => {
                request.prompt_tokens = *prompt_tokens;
                request.queued_ns = event.at_ns;
            }
            Step::Started { slot } => request.started = Some((event.at_ns, *slot)),
            Step::Token => {
                let start_ns = request.started.map_or(event.at_ns, |s| s.0);
                let (times, ns) = match request.tokens {
                    0 => (&mut self.first_token_ns, event.at_ns.saturating_sub(start_ns)),
                    _ => (&mut self.inter_token_ns, event.at_ns.saturating_sub(request.last_ns)),
                };
                if times.len() == TIMES_MAX {
                    times.pop_front();
                }
                times.push_back(ns);
                request.tokens += 1;
                request.last_ns = event.at_ns;
                if request.token_ns.len() < TOKENS_MAX {
                    request.token_ns.push(event.at_ns.saturating_sub(start_ns));
                }
            }
            Step::Text(text) => {
                if request.text.len() + text.len() <= TEXT_BYTES_MAX {
                    request.text.push_str(text);
                }
            }
            Step::Ended { .. } => {}
        }
    }

    /// Requests that wait for a sequence.
    pub fn queued(&self) -> usize {
        self.open.values().filter(|r| r.started.is_none()).count()
    }

    /// Requests that have one.
    pub fn running(&self) -> impl Iterator<Item = (u64, &RunningRequest)> {
        self.open.iter().filter(|(_, r)| r.started.is_some()).map(|(id, r)| (*id, r))
    }
}
