//! Finished loads and requests: the first and the last ones whole, the middle counted.

use std::collections::{BTreeSet, VecDeque};

use super::super::session::{LineId, Load, LogSession, Request, Requests, Summary};

/// So many loads are kept at either end.
const LOADS_KEPT: usize = 128;
/// Texts of lines are looked through when they are more than this.
const LINES_BYTES: usize = 4 << 20;

/// Finished loads and requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    /// Loads that began so far.
    begun: usize,
    loads_first: Vec<Load>,
    loads_last: VecDeque<Load>,
    loads_left_out: u64,
    requests_first: Vec<Request>,
    requests_last: VecDeque<Request>,
    all: Summary,
    lines_bytes_max: usize,
}

impl Store {
    /// How many loads have begun.
    pub(super) fn begun(&self) -> usize {
        self.begun
    }

    /// The number of the load that begins now.
    pub(super) fn next_load(&mut self) -> usize {
        self.begun += 1;
        self.begun - 1
    }

    /// Takes a load that has ended, or that no line belongs to any more.
    pub(super) fn load(&mut self, load: Load) {
        if self.loads_first.len() < LOADS_KEPT {
            self.loads_first.push(load);
            return;
        }
        if self.loads_last.len() == LOADS_KEPT {
            self.loads_last.pop_front();
            self.loads_left_out += 1;
        }
        self.loads_last.push_back(load);
    }

    /// The finished loads, the last first.
    pub(super) fn loads_mut(&mut self) -> impl Iterator<Item = &mut Load> {
        self.loads_last.iter_mut().rev().chain(self.loads_first.iter_mut().rev())
    }

    /// Takes a finished request.
    pub(super) fn request(&mut self, request: Request) {
        let all = &mut self.all;
        all.count += 1;
        all.failed += u64::from(request.status.is_some_and(|s| s >= 500));
        all.truncated += u64::from(request.truncated == Some(true));
        all.shifted += u64::from(request.shifts > 0);
        all.shifts += request.shifts;
        if let Some(ns) = request.duration_ns {
            all.duration_s.add(ns as f64 / 1e9);
        }
        if let Some(ns) = request.wait_ns {
            all.wait_s.add(ns as f64 / 1e9);
        }
        if let Some(speed) = request.prompt_tokens_per_s {
            all.prompt_tokens_per_s.add(speed);
        }
        if let Some(speed) = request.decode_tokens_per_s {
            all.decode_tokens_per_s.add(speed);
        }
        if self.requests_first.len() < Requests::KEPT {
            self.requests_first.push(request);
            return;
        }
        if self.requests_last.len() == Requests::KEPT {
            self.requests_last.pop_front();
        }
        self.requests_last.push_back(request);
    }

    /// What a server tells of all its requests together, now and then: speeds of each that runs,
    /// how many wait, and the share of the cache in use.
    pub(super) fn throughput(
        &mut self,
        speeds: [Option<f64>; 2],
        waiting: u64,
        kv: f64,
        line: LineId,
    ) {
        let all = &mut self.all;
        let [prompt, decode] = speeds.map(|s| s.filter(|s| s.is_finite() && *s > 0.0));
        if let Some(speed) = prompt {
            all.prompt_tokens_per_s.add(speed);
        }
        if let Some(speed) = decode {
            all.decode_tokens_per_s.add(speed);
        }
        if waiting as f64 > all.waiting.max {
            all.waiting_line = Some(line);
        }
        all.waiting.add(waiting as f64);
        if waiting > 0 {
            all.kv_used_waiting.add(kv.clamp(0.0, 1.0));
        }
    }

    /// Counts a request that computes nothing.
    pub(super) fn other_request(&mut self) {
        self.all.other += 1;
    }

    /// Whether the texts of lines should be looked through.
    pub(super) fn lines_are_many(&self, bytes: usize) -> bool {
        bytes > self.lines_bytes_max.max(LINES_BYTES)
    }

    /// So many bytes are left; with twice as many it is worth to look again.
    pub(super) fn lines_were_retained(&mut self, bytes: usize) {
        self.lines_bytes_max = 2 * bytes;
    }

    /// Adds the lines that it refers to.
    pub(super) fn refer(&self, lines: &mut BTreeSet<LineId>) {
        for load in self.loads_first.iter().chain(&self.loads_last) {
            load.refer(lines);
        }
        for request in self.requests_first.iter().chain(&self.requests_last) {
            request.refer(lines);
        }
    }

    /// Moves everything into the session.
    pub(super) fn finish(self, session: &mut LogSession) {
        session.loads = self.loads_first;
        session.loads.extend(self.loads_last);
        session.loads.sort_by_key(|load| load.index);
        session.loads_left_out = self.loads_left_out;
        session.requests =
            Requests { all: self.all, first: self.requests_first, last: self.requests_last.into() };
    }
}
