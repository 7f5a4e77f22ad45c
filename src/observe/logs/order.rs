//! The order of lines: some viewers show the newest first.
//!
//! Lines wait here until their times tell which way they run, which takes a few lines. Invariant:
//! what waits is bounded; a log that runs backward and is longer than the bound is turned around
//! piece by piece.

use super::envelope::Told;
use super::session::LineId;

/// A line that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) text: String,
    pub(super) told: Told,
    pub(super) line: LineId,
}

/// Which way the lines run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Undecided,
    Forward,
    Backward,
}

/// Decides which way the lines of one source run, and turns them around.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    way: Way,
    waiting: Vec<Waiting>,
    bytes: usize,
    later: u32,
    earlier: u32,
    last: [Option<i64>; 5],
}

/// Lines wait for a decision up to this many bytes.
const UNDECIDED_BYTES_MAX: usize = 256 << 10;
/// So many bytes are turned around at once.
const BACKWARD_BYTES_MAX: usize = 16 << 20;
/// What a line costs besides its text.
const LINE_BYTES: usize = 128;

impl Order {
    /// Whether lines need not wait.
    pub(super) fn is_forward(&self) -> bool {
        self.way == Way::Forward
    }

    /// Takes a line with its full time, where it has one; gives back the lines whose order is
    /// known now.
    pub(super) fn add(&mut self, waiting: Waiting, at_ns: Option<i64>) -> Vec<Waiting> {
        if self.way == Way::Undecided {
            let kv = kv_number(&waiting.text);
            let elapsed = waiting.told.elapsed_ns.and_then(|ns| i64::try_from(ns).ok());
            let stage = stage_number(&waiting.text);
            let clocks = [at_ns, elapsed, waiting.told.day_s.map(i64::from), kv, stage];
            self.vote(clocks);
        }
        self.bytes += waiting.text.len() + LINE_BYTES;
        self.waiting.push(waiting);
        match self.way {
            Way::Undecided if self.later >= 3 && self.later > 2 * self.earlier => self.settle(),
            Way::Undecided if self.earlier >= 6 && self.earlier > 4 * self.later => {
                self.way = Way::Backward;
                Vec::new()
            }
            Way::Undecided if self.bytes > UNDECIDED_BYTES_MAX => {
                self.way = self.majority();
                if self.way == Way::Forward { self.settle() } else { Vec::new() }
            }
            Way::Backward if self.bytes > BACKWARD_BYTES_MAX => self.turn(),
            _ => Vec::new(),
        }
    }

    /// No line comes any more: gives back what waits.
    pub(super) fn finish(&mut self) -> Vec<Waiting> {
        if self.way == Way::Undecided && self.majority() == Way::Forward {
            return self.settle();
        }
        self.turn()
    }

    fn vote(&mut self, clocks: [Option<i64>; 5]) {
        for (last, now) in self.last.iter_mut().zip(clocks) {
            if let Some(now) = now {
                match last.map(|last| now.cmp(&last)) {
                    Some(std::cmp::Ordering::Greater) => self.later += 1,
                    Some(std::cmp::Ordering::Less) => self.earlier += 1,
                    _ => {}
                }
                *last = Some(now);
            }
        }
    }

    fn majority(&self) -> Way {
        let backward = self.earlier >= 3 && self.earlier > 2 * self.later;
        if backward { Way::Backward } else { Way::Forward }
    }

    fn settle(&mut self) -> Vec<Waiting> {
        self.way = Way::Forward;
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    fn turn(&mut self) -> Vec<Waiting> {
        let mut all = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        all.reverse();
        all
    }
}

/// The stage of a load that a line belongs to: a load of one second has no times that differ.
fn stage_number(text: &str) -> Option<i64> {
    const STAGES: [&[&str]; 4] = [
        &["llama_model_loader: loaded"],
        &["print_info: arch ", "print_info: n_layer ", "llm_load_print_meta: arch "],
        &["load_tensors: offloaded", "llm_load_tensors: offloaded"],
        &["llama_context: graph splits", "llama_new_context_with_model: graph splits"],
    ];
    let at = STAGES.iter().position(|names| names.iter().any(|n| text.starts_with(n)))?;
    i64::try_from(at).ok()
}

/// `llama_model_loader: - kv  12: …`: numbers that run with the lines.
fn kv_number(text: &str) -> Option<i64> {
    let rest = text.strip_prefix("llama_model_loader: - kv ")?.trim_start_matches(' ');
    rest.split(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(times: &[i64]) -> Vec<u64> {
        let mut order = Order::default();
        let mut out = Vec::new();
        for (i, &time) in (0..).zip(times) {
            let waiting = Waiting { text: String::new(), told: Told::default(), line: LineId(i) };
            out.extend(order.add(waiting, (time >= 0).then_some(time)));
        }
        out.extend(order.finish());
        out.into_iter().map(|w| w.line.0).collect()
    }

    #[test]
    fn backward_lines_are_turned() {
        assert_eq!(run(&[9, 8, 8, 7, 6]), [4, 3, 2, 1, 0]);
        let many: Vec<i64> = (0..100).rev().collect();
        assert_eq!(run(&many), (0..100).rev().collect::<Vec<u64>>());
    }

    /// All of a load within one second, the newest line first.
    #[test]
    fn a_load_tells_the_way_without_times() {
        let texts = [
            "llama_model_loader: loaded meta data with 30 key-value pairs",
            "print_info: arch             = llama",
            "print_info: n_layer          = 32",
            "load_tensors: offloaded 33/33 layers to GPU",
            "llama_context: graph splits = 2",
        ];
        let run = |texts: &[&str]| {
            let mut order = Order::default();
            let mut out = Vec::new();
            for (i, text) in (0..).zip(texts) {
                let text = (*text).to_string();
                let waiting = Waiting { text, told: Told::default(), line: LineId(i) };
                out.extend(order.add(waiting, Some(7)));
            }
            out.extend(order.finish());
            out.into_iter().map(|w| w.text).collect::<Vec<_>>()
        };
        let backward: Vec<&str> = texts.iter().rev().copied().collect();
        assert_eq!(run(&backward), texts);
        assert_eq!(run(&texts), texts);
    }

    #[test]
    fn forward_lines_stay() {
        assert_eq!(run(&[1, 2, 2, 3, 1, 4, 5]), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(run(&[-1, -1, -1]), [0, 1, 2]);
        // Two servers' clocks, or one line out of order, are not a log that runs backward.
        assert_eq!(run(&[5, 4, 3]), [0, 1, 2]);
    }
}
