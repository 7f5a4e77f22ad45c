//! What counters of a watched session did in the last seconds, and what belongs to what is watched.

use std::collections::BTreeSet;

use crate::base::counter::{Counter, Subject};
use crate::base::event::Phase;
use crate::observe::session::{Point, Session};

/// What counts as lately: long enough for a mean, short enough to show what was changed just now.
const LATELY_NS: u64 = 10_000_000_000;

/// How a total grew lately.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Growth {
    /// By how much, in the counter's unit.
    pub(crate) amount: f64,
    /// In how long.
    pub(crate) seconds: f64,
    /// Between how many neighbouring samples it grew.
    pub(crate) steps: usize,
}

impl Growth {
    /// Growth per second.
    pub(crate) fn per_s(&self) -> f64 {
        self.amount / self.seconds
    }
}

/// The growth of a total lately; `None` before its second sample.
pub(crate) fn growth(session: &Session, subject: Subject, counter: Counter) -> Option<Growth> {
    growth_since(session, subject, counter, 0)
}

/// The same, but looking back no further than `since_ns`.
pub(crate) fn growth_since(
    session: &Session,
    subject: Subject,
    counter: Counter,
    since_ns: u64,
) -> Option<Growth> {
    let from_ns = session.last_ns.saturating_sub(LATELY_NS).max(since_ns);
    let points: Vec<Point> = session.counters.get(subject, counter)?.since(from_ns).collect();
    let (first, last) = (points.first()?, points.last()?);
    let seconds = last.at_ns.saturating_sub(first.at_ns) as f64 / 1e9;
    // What falls was counted anew, so only rises count.
    let rises = points.windows(2).map(|w| w[1].value - w[0].value).filter(|rise| *rise > 0.0);
    let (amount, steps) = rises.fold((0.0, 0), |(sum, n), rise| (sum + rise, n + 1));
    (seconds > 0.0).then_some(Growth { amount, seconds, steps })
}

/// The mean of a level lately, and of how many samples.
pub(crate) fn mean(session: &Session, subject: Subject, counter: Counter) -> Option<(f64, usize)> {
    let from_ns = session.last_ns.saturating_sub(LATELY_NS);
    let points = session.counters.get(subject, counter)?.since(from_ns);
    let (sum, n) = points.fold((0.0, 0_usize), |(sum, n), p| (sum + p.value, n + 1));
    (n > 0).then(|| (sum / n as f64, n))
}

/// A level as it was at a time: its last sample up to then.
pub(crate) fn value_at(
    session: &Session,
    subject: Subject,
    counter: Counter,
    at_ns: u64,
) -> Option<f64> {
    let series = session.counters.get(subject, counter)?;
    series.points().rev().find(|p| p.at_ns <= at_ns).map(|p| p.value)
}

/// The processes that are watched: ours, or those of a server.
pub(crate) fn watched_pids(session: &Session) -> BTreeSet<u32> {
    let sampled = session.counters.subjects().chain(session.subjects.keys().copied());
    let own = sampled.filter_map(|subject| match subject {
        Subject::Process(pid) => Some(pid),
        _ => None,
    });
    let server = session.server.iter().flat_map(|s| s.working_pids.iter().copied().chain(s.pid));
    own.chain(server).collect()
}

/// Processors that what is watched may use: the control group's limit, else all of the machine's.
/// `None` while neither is known.
pub(crate) fn processors(session: &Session) -> Option<f64> {
    let cores = session.counters.subjects().filter(|s| matches!(s, Subject::Core(_))).count();
    let limit = session.value(Subject::Host, Counter::CgroupCpus);
    match (limit, cores) {
        (Some(limit), 0) => Some(limit),
        (Some(limit), cores) => Some(limit.min(cores as f64)),
        (None, 0) => None,
        (None, cores) => Some(cores as f64),
    }
}

/// Since when text has been generated, lately; `None` while it is not.
pub(crate) fn decoding_since(session: &Session) -> Option<u64> {
    let from_ns = session.last_ns.saturating_sub(LATELY_NS);
    let own = session.recent.ubatches().rev().take_while(|u| !u.is_prompt());
    let own = own.map(|u| u.span.start_ns).take_while(|start| *start >= from_ns).last();
    own.or_else(|| {
        let tokens = session.counters.get(Subject::Server, Counter::DecodedTokens)?;
        let points: Vec<Point> = tokens.since(from_ns).collect();
        points.windows(2).find(|w| w[1].value > w[0].value).map(|w| w[0].at_ns)
    })
}

/// Tokens generated so far by our own engine.
pub(crate) fn tokens_generated(session: &Session) -> u64 {
    session.sums.phases.get(&Phase::Decode).map_or(0, |p| p.tokens)
}

/// What a person calls a GPU: `GPU 0 (Example H100)`.
pub(crate) fn gpu_name(session: &Session, gpu: u8) -> String {
    match session.name(Subject::Gpu(gpu)) {
        Some(name) => format!("GPU {gpu} ({name})"),
        None => format!("GPU {gpu}"),
    }
}

/// A time of the session as seconds since its begin.
pub(crate) fn seconds_in(session: &Session, at_ns: u64) -> f64 {
    at_ns.saturating_sub(session.first_ns.unwrap_or(at_ns)) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::Scene;

    #[test]
    fn growth_counts_rises_of_the_last_seconds() {
        let mut scene = Scene::new();
        let host = Subject::Host;
        scene.sample(host, Counter::SwapIn, 500.0);
        assert_eq!(growth(&scene.session, host, Counter::SwapIn), None);
        for value in [600.0, 10.0, 20.0] {
            scene.tick().sample(host, Counter::SwapIn, value);
        }
        let seen = growth(&scene.session, host, Counter::SwapIn).unwrap();
        assert_eq!((seen.amount, seen.seconds, seen.steps), (110.0, 0.75, 2));
        scene.wait(60).sample(host, Counter::SwapIn, 20.0);
        scene.tick().sample(host, Counter::SwapIn, 20.0);
        assert_eq!(growth(&scene.session, host, Counter::SwapIn).unwrap().amount, 0.0);
    }

    #[test]
    fn the_tighter_of_quota_and_processors_counts() {
        let mut scene = Scene::new();
        assert_eq!(processors(&scene.session), None);
        scene.sample(Subject::Core(0), Counter::CpuBusy, 0.1);
        scene.sample(Subject::Core(1), Counter::CpuBusy, 0.1);
        assert_eq!(processors(&scene.session), Some(2.0));
        scene.sample(Subject::Host, Counter::CgroupCpus, 1.5);
        assert_eq!(processors(&scene.session), Some(1.5));
    }
}
