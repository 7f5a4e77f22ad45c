//! In which part of the time each device computed, and what it waited for in the rest.
//!
//! Within a ubatch a device that does not compute is waiting, for there is always a next split of its
//! own. Each moment of that goes to the first of these that happens then: a copy into the device,
//! another device's computing, the wait of its own next split, another device's copies and waits, the
//! host's reading of results. What is left is the host's: building graphs, writing inputs, choosing
//! tokens, text. Invariant: computing and all causes add up to the time of the phase.

use std::collections::BTreeMap;

use crate::base::event::{DeviceFact, DeviceIndex, Phase, Span, SpanKind, SyncKind};

use super::cuts::Cut;

/// What a device waits for, by numbers that names follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// A copy into the device.
    Copy {
        /// The way of cutting, as in [`super::Sums::cuts`].
        cut: usize,
        /// The split that needs it.
        split: u16,
        /// Index into the split's inputs.
        input: u16,
    },
    /// Another device.
    Device(DeviceIndex),
    /// The synchronisation before its own split.
    Wait(SyncKind),
    /// The host reads a result.
    Read {
        /// As above.
        cut: usize,
        /// Index into the plan's outputs.
        output: u16,
    },
}

/// Sums of one device in one phase.
#[derive(Clone, Debug, Default)]
pub struct DeviceSums {
    /// In which it computed.
    pub compute_ns: u64,
    /// What it waited for, and how long.
    pub on: BTreeMap<On, u64>,
}

/// Sums of all devices.
#[derive(Clone, Debug, Default)]
pub struct Stalls {
    sums: BTreeMap<(Phase, DeviceIndex), DeviceSums>,
}

impl Stalls {
    /// Adds a ubatch that ran by the cut with number `number`.
    pub fn add(
        &mut self,
        phase: Phase,
        (number, cut): (usize, &Cut),
        ubatch: &Span,
        spans: &[Span],
        devices: &[DeviceFact],
    ) {
        for device in devices {
            let sums = self.sums.entry((phase, device.index)).or_default();
            let mut free = Free::new(ubatch.start_ns, ubatch.end_ns);
            for rank in 0..RANKS {
                for span in spans {
                    let Some((of, what)) = classify(span, device.index, number, cut) else {
                        continue;
                    };
                    if of != rank {
                        continue;
                    }
                    let ns = free.claim(span.start_ns, span.end_ns);
                    match what {
                        None => sums.compute_ns += ns,
                        Some(on) if ns > 0 => *sums.on.entry(on).or_default() += ns,
                        Some(_) => {}
                    }
                }
            }
        }
    }

    /// Sums of every device that computed in a phase.
    pub fn computed(&self) -> impl Iterator<Item = (Phase, DeviceIndex, &DeviceSums)> {
        let computed = self.sums.iter().filter(|(_, s)| s.compute_ns > 0);
        computed.map(|(&(phase, device), sums)| (phase, device, sums))
    }
}

/// How many ranks [`classify`] knows.
const RANKS: u8 = 6;

/// What a span means to a device: its rank, lowest first, and what is waited for; `None` inside is
/// the device's own computing, and `None` outside means nothing.
fn classify(
    span: &Span,
    device: DeviceIndex,
    number: usize,
    cut: &Cut,
) -> Option<(u8, Option<On>)> {
    let of = |split: u16| cut.fact().splits.get(split as usize).map(|s| s.device);
    Some(match span.kind {
        SpanKind::Compute { split, .. } if of(split)? == device => (0, None),
        SpanKind::Copy { split, input, to, .. } if to == device => {
            (1, Some(On::Copy { cut: number, split, input }))
        }
        SpanKind::Compute { split, .. } => (2, Some(On::Device(of(split)?))),
        SpanKind::Wait { split, sync, .. } if of(split)? == device => (3, Some(On::Wait(sync))),
        SpanKind::Copy { to, .. } => (4, Some(On::Device(to))),
        SpanKind::Wait { split, .. } => (4, Some(On::Device(of(split)?))),
        SpanKind::Output { output, .. } => (5, Some(On::Read { cut: number, output })),
        _ => return None,
    })
}

/// The moments of a ubatch that nothing has claimed yet, in order and apart from each other.
struct Free(Vec<(u64, u64)>);

impl Free {
    fn new(start_ns: u64, end_ns: u64) -> Self {
        Self(vec![(start_ns, end_ns.max(start_ns))])
    }

    /// Takes what is free of an interval, and says how much that was.
    fn claim(&mut self, start_ns: u64, end_ns: u64) -> u64 {
        let first = self.0.partition_point(|f| f.1 <= start_ns);
        let last = self.0.partition_point(|f| f.0 < end_ns);
        if start_ns >= end_ns || first >= last {
            return 0;
        }
        let (before, after) = (self.0[first].0, self.0[last - 1].1);
        let taken = self.0[first..last].iter().map(|f| f.1.min(end_ns) - f.0.max(start_ns)).sum();
        let rest = [(before, start_ns), (end_ns, after)];
        self.0.splice(first..last, rest.into_iter().filter(|f| f.0 < f.1));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_claimed_once() {
        let mut free = Free::new(0, 100);
        assert_eq!(free.claim(10, 20), 10);
        assert_eq!(free.claim(15, 25), 5);
        assert_eq!(free.claim(0, 100), 85);
        assert_eq!(free.claim(0, 100), 0);
        let mut free = Free::new(50, 60);
        assert_eq!((free.claim(0, 50), free.claim(60, 90), free.claim(58, 58)), (0, 0, 0));
        assert_eq!((free.claim(52, 54), free.claim(56, 58), free.claim(0, 57)), (2, 2, 4));
        assert_eq!(free.0, [(58, 60)]);
    }
}
