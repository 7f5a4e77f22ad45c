//! From the spans of ubatches to lanes of cells: what most of each cell's time was.
//!
//! A lane is of the host or of a device. While a ubatch runs in which a device takes part, it stalls
//! where it has no span; the CPU does not, as it drives the others.

use std::sync::Arc;

use crate::base::event::{DeviceIndex, PlanFact, Span, SpanKind, Track};
use crate::observe::session::{RecentUbatch, Session};

/// What happens in a cell, the most telling last: of two that take as long the later one is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// No ubatch runs.
    Nothing,
    /// Nothing runs on a device though a ubatch does in which it takes part.
    Stall,
    /// Waiting before a split.
    Wait,
    /// A split computes.
    Compute,
    /// The host builds a graph.
    Graph,
    /// It chooses a token.
    Sampling,
    /// It turns tokens into text.
    Text,
    /// It reads a result.
    Read,
    /// A tensor is copied to the device.
    Copy,
    /// The same, and the host waits for it.
    BlockingCopy,
}

impl Act {
    pub(super) const ALL: [Self; 10] = [
        Self::Nothing,
        Self::Stall,
        Self::Wait,
        Self::Compute,
        Self::Graph,
        Self::Sampling,
        Self::Text,
        Self::Read,
        Self::Copy,
        Self::BlockingCopy,
    ];
}

/// Who a lane is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Host,
    Device(DeviceIndex),
}

/// What a span is on a timeline; `None` for what stands inside another one.
pub(super) fn act(span: &Span, plan: Option<&Arc<PlanFact>>) -> Option<(Lane, Act)> {
    let device = |split: u16| match span.track {
        Track::Device(index) => Some(index),
        _ => plan.and_then(|p| p.splits.get(usize::from(split))).map(|s| s.device),
    };
    Some(match span.kind {
        SpanKind::Compute { split, .. } => (Lane::Device(device(split)?), Act::Compute),
        SpanKind::Wait { split, .. } => (Lane::Device(device(split)?), Act::Wait),
        SpanKind::Copy { to, blocking: true, .. } => (Lane::Device(to), Act::BlockingCopy),
        SpanKind::Copy { to, .. } => (Lane::Device(to), Act::Copy),
        SpanKind::Output { .. } => (Lane::Host, Act::Read),
        SpanKind::GraphBuild => (Lane::Host, Act::Graph),
        SpanKind::Sampling => (Lane::Host, Act::Sampling),
        SpanKind::Detokenise => (Lane::Host, Act::Text),
        _ => return None,
    })
}

/// The time of a ubatch with what the host does for it before and after.
pub(super) fn extent(ubatch: &RecentUbatch) -> (u64, u64) {
    let start = ubatch.host.iter().map(|s| s.start_ns).min().unwrap_or(u64::MAX);
    let end = ubatch.host.iter().map(|s| s.end_ns).max().unwrap_or(0);
    (start.min(ubatch.span.start_ns), end.max(ubatch.span.end_ns))
}

/// A stretch of time in cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    pub start_ns: u64,
    pub length_ns: u64,
    pub cells: usize,
}

impl Window {
    pub(super) fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.length_ns)
    }

    /// The cell of a time, as far as it is inside.
    pub(super) fn cell(&self, at_ns: u64) -> Option<usize> {
        let inside = at_ns >= self.start_ns && at_ns < self.end_ns();
        inside.then(|| self.place(at_ns) as usize)
    }

    /// Where a time is, in cells from the start.
    fn place(&self, at_ns: u64) -> f64 {
        let from_start = at_ns as f64 - self.start_ns as f64;
        let place = from_start / self.length_ns.max(1) as f64 * self.cells as f64;
        place.clamp(0.0, self.cells as f64)
    }
}

/// How much the time of what is short and matters counts, so that it can be seen where a cell is
/// longer than it: a third of a cell is enough for a copy.
fn weight(act: Act) -> f64 {
    match act {
        Act::Copy | Act::BlockingCopy => 3.0,
        Act::Wait | Act::Read | Act::Graph | Act::Sampling | Act::Text => 2.0,
        Act::Nothing | Act::Stall | Act::Compute => 1.0,
    }
}

/// The cells of one lane.
pub(super) fn cells(session: &Session, lane: Lane, stalls: bool, window: Window) -> Vec<Act> {
    const ACTS: usize = Act::ALL.len();
    let mut parts = vec![[0.0_f64; ACTS]; window.cells];
    let mut running = vec![0.0_f64; window.cells];
    for ubatch in session.recent.ubatches() {
        let (start, end) = extent(ubatch);
        if end <= window.start_ns || start >= window.end_ns() {
            continue;
        }
        let plan = session.plans.get(&ubatch.plan());
        let mut takes_part = false;
        for span in ubatch.parts.iter().chain(&ubatch.host) {
            if let Some((of, act)) = act(span, plan)
                && of == lane
            {
                takes_part = true;
                cover(window, span, |cell, part| parts[cell][act as usize] += part);
            }
        }
        if takes_part {
            cover(window, &ubatch.span, |cell, part| running[cell] += part);
        }
    }
    let most = |(parts, running): (&[f64; ACTS], &f64)| {
        let busy: f64 = parts.iter().sum();
        let mut parts = *parts;
        if stalls {
            parts[Act::Stall as usize] = (running - busy).max(0.0);
        }
        let covered = if stalls { busy.max(*running) } else { busy };
        parts[Act::Nothing as usize] = (1.0 - covered).max(0.0);
        let mut best = (Act::Nothing, 0.0);
        for act in Act::ALL {
            let weighed = parts[act as usize] * weight(act);
            // A hair's breadth, because shares of cells do not add up exactly.
            if weighed > 1e-9 && weighed >= best.1 - 1e-9 {
                best = (act, weighed);
            }
        }
        best.0
    };
    parts.iter().zip(&running).map(most).collect()
}

/// Calls for each cell that a span touches, with the part of the cell that it covers.
fn cover(window: Window, span: &Span, mut add: impl FnMut(usize, f64)) {
    if span.end_ns <= window.start_ns || span.start_ns >= window.end_ns() {
        return;
    }
    let (start, end) = (window.place(span.start_ns), window.place(span.end_ns));
    for cell in start as usize..(end.ceil() as usize).min(window.cells) {
        let part = end.min(cell as f64 + 1.0) - start.max(cell as f64);
        add(cell, part.max(0.0));
    }
}

/// Steps between the marks of an axis: 1, 2 or 5 times a power of ten, at least `min_cells` apart.
pub(super) fn step_ns(window: Window, min_cells: usize) -> u64 {
    let least = window.length_ns.max(1) as f64 * min_cells as f64 / window.cells.max(1) as f64;
    let mut step = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            let wide = step.saturating_mul(factor);
            if wide as f64 >= least || wide == u64::MAX {
                return wide;
            }
        }
        step = step.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_steps_are_round_and_far_enough_apart() {
        let window = |length_ns, cells| Window { start_ns: 0, length_ns, cells };
        assert_eq!(step_ns(window(100, 100), 12), 20);
        assert_eq!(step_ns(window(7_000_000, 140), 12), 1_000_000);
        assert_eq!(step_ns(window(0, 0), 12), 20);
        assert!(step_ns(window(u64::MAX, 1), 12) > 0);
    }

    #[test]
    fn spans_cover_the_cells_that_they_touch() {
        let window = Window { start_ns: 100, length_ns: 40, cells: 4 };
        let (track, kind, bytes, tokens) = (Track::Host, SpanKind::Sampling, 0, 0);
        let span = Span { track, kind, start_ns: 105, end_ns: 120, bytes, tokens };
        let mut covered = [0.0; 4];
        cover(window, &span, |cell, part| covered[cell] += part);
        assert_eq!(covered, [0.5, 1.0, 0.0, 0.0]);
        assert_eq!((window.cell(99), window.cell(139), window.cell(140)), (None, Some(3), None));
    }
}
