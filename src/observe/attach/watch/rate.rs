//! Speeds that follow from what a server counts.

use std::collections::BTreeMap;

use crate::observe::attach::llama_server::Slot;

/// A speed by a server's own clock: of its tokens and of the seconds that it spent on them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnRate {
    before: Option<(f64, f64)>,
}

impl OwnRate {
    /// Tokens per second since the call before; at the first call, and after the server began to
    /// count anew, since it began. `None` where nothing was added.
    pub(super) fn next(&mut self, tokens: f64, seconds: f64) -> Option<f64> {
        let (tokens_then, seconds_then) = match self.before.replace((tokens, seconds)) {
            Some(then) if then.0 <= tokens && then.1 <= seconds => then,
            _ => (0.0, 0.0),
        };
        let (grew, took) = (tokens - tokens_then, seconds - seconds_then);
        (grew > 0.0 && took > 0.0).then(|| grew / took)
    }
}

/// A slot at the reading before.
#[derive(Clone, Copy, Debug)]
struct Before {
    at_ns: u64,
    task: Option<u64>,
    decoded: u64,
    is_busy: bool,
}

/// How a slot came on since the reading before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Growth {
    /// Tokens that it wrote, at least.
    pub(super) tokens: u64,
    /// The time for these, where it wrote during all of it.
    pub(super) seconds: Option<f64>,
}

impl Growth {
    /// Tokens per second of one request.
    pub(super) fn rate(&self) -> Option<f64> {
        self.seconds.filter(|_| self.tokens > 0).map(|seconds| self.tokens as f64 / seconds)
    }
}

/// What slots wrote, by what they tell at each reading.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    before: BTreeMap<u64, Before>,
    is_known: bool,
}

impl Slots {
    /// How many there were at the reading before.
    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.before.len()).unwrap_or(u16::MAX)
    }

    /// How each of `now` came on since the reading before, in their order.
    pub(super) fn grow(&mut self, at_ns: u64, now: &[Slot]) -> Vec<Growth> {
        let before = std::mem::take(&mut self.before);
        let was_known = std::mem::replace(&mut self.is_known, true);
        let mut growth = Vec::with_capacity(now.len());
        for slot in now {
            let decoded = slot.decoded_tokens.unwrap_or(0);
            let task = slot.task;
            growth.push(match before.get(&slot.id) {
                Some(then) if then.task == task && then.decoded <= decoded => {
                    let took_ns = at_ns.saturating_sub(then.at_ns);
                    // While a prompt is read nothing is written, so a begin within the time says nothing
                    // of the speed; nor does an end.
                    let wrote = then.is_busy && slot.is_busy && then.decoded > 0 && took_ns > 0;
                    let seconds = wrote.then_some(took_ns as f64 / 1e9);
                    Growth { tokens: decoded - then.decoded, seconds }
                }
                // Another request; what the one before still wrote after the reading nobody knows.
                Some(_) => Growth { tokens: decoded, seconds: None },
                None if was_known => Growth { tokens: decoded, seconds: None },
                // What was written before anybody looked is not counted.
                None => Growth::default(),
            });
            let is_busy = slot.is_busy;
            self.before.insert(slot.id, Before { at_ns, task, decoded, is_busy });
        }
        growth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_rate_is_of_what_was_added() {
        let mut rate = OwnRate::default();
        assert_eq!(rate.next(0.0, 0.0), None);
        assert_eq!(rate.next(100.0, 4.0), Some(25.0));
        assert_eq!(rate.next(100.0, 4.0), None);
        assert_eq!(rate.next(160.0, 6.0), Some(30.0));
        // Started anew.
        assert_eq!(rate.next(20.0, 1.0), Some(20.0));
        assert_eq!(OwnRate::default().next(50.0, 5.0), Some(10.0));
    }

    #[test]
    fn slots_are_followed_over_requests() {
        let slot = |task, decoded, is_busy| Slot {
            task: Some(task),
            decoded_tokens: Some(decoded),
            is_busy,
            ..Slot::default()
        };
        let mut slots = Slots::default();
        let mut at = 0;
        let mut next = |slot: Slot| {
            at += 2_000_000_000;
            slots.grow(at, &[slot])[0]
        };
        assert_eq!(next(slot(1, 10, true)), Growth::default());
        let growth = next(slot(1, 50, true));
        assert_eq!((growth.tokens, growth.rate()), (40, Some(20.0)));
        // It ended in between.
        assert_eq!(next(slot(1, 60, false)), Growth { tokens: 10, seconds: None });
        assert_eq!(next(slot(1, 60, false)), Growth::default());
        // Another one: first its prompt, then tokens.
        assert_eq!(next(slot(2, 0, true)), Growth::default());
        assert_eq!(next(slot(2, 5, true)), Growth { tokens: 5, seconds: None });
        assert_eq!(next(slot(2, 25, true)).rate(), Some(10.0));
        assert_eq!(next(slot(3, 3, true)), Growth { tokens: 3, seconds: None });
    }
}
