//! The times of one ubatch, and the events that are made of them.
//!
//! Times are collected while it runs; events are made after its last split, off the hot path. Splits of
//! devices that compute at the same time (`-sm row`) overlap, and so do their spans.

use crate::base::event::{DeviceIndex, Event, Span, SpanKind, SyncKind, Track};
use crate::engine::backend::{CopyTime, Interval, Ticket};

use super::compute::{Prepared, Scheduler, UbatchInfo};

/// When one split ran.
pub(super) struct SplitTime {
    pub(super) ticket: Ticket,
    /// Its nodes, in the mode that times them.
    pub(super) nodes: Vec<Interval>,
}

/// Collects the times of one ubatch.
pub(super) struct Timer {
    info: UbatchInfo,
    plan_id: u32,
    inputs_written_ns: u64,
    pub(super) splits: Vec<SplitTime>,
    /// Split and input of each copy.
    pub(super) copies: Vec<(usize, usize, CopyTime)>,
    /// Device, time and bytes of each output that is not the CPU's.
    pub(super) outputs: Vec<(DeviceIndex, Interval, usize)>,
}

impl Timer {
    pub(super) fn new(info: UbatchInfo, plan_id: u32, inputs_written_ns: u64) -> Self {
        let (splits, copies, outputs) = (Vec::new(), Vec::new(), Vec::new());
        Self { info, plan_id, inputs_written_ns, splits, copies, outputs }
    }

    /// Makes the events of a ubatch that ran from `start_ns` to `end_ns`.
    pub(super) fn emit(
        &self,
        start_ns: u64,
        end_ns: u64,
        scheduler: &Scheduler,
        prepared: &Prepared,
    ) {
        let (sink, ubatch) = (scheduler.sink(), self.info.ubatch);
        // A device's clock may be off by a few microseconds; its work lies inside the ubatch.
        let inside = |time: Interval| {
            let start = time.start_ns.clamp(start_ns, end_ns);
            Interval { start_ns: start, end_ns: time.end_ns.clamp(start, end_ns) }
        };
        let span = |track, kind, time: Interval, bytes: usize| {
            sink.record(Event::Span(Span {
                track,
                kind,
                start_ns: time.start_ns,
                end_ns: time.end_ns,
                bytes: bytes as u64,
                tokens: self.info.tokens,
            }));
        };
        let mut free_ns = self.inputs_written_ns;
        for (s, split) in self.splits.iter().enumerate() {
            let device = prepared.devices[s];
            let (track, number) = (Track::Device(device), s as u16);
            let of = |ticket| scheduler.devices()[device.0 as usize].interval(ticket).map(inside);
            let (mut sync, mut copies) = (SyncKind::None, Vec::new());
            for &(_, i, time) in self.copies.iter().filter(|c| c.0 == s) {
                let (time, blocking) = match time {
                    CopyTime::Blocking(time) => (Some(inside(time)), true),
                    CopyTime::Queued(ticket) => (of(ticket), false),
                };
                sync = match sync {
                    SyncKind::BlockingCopy => sync,
                    _ if blocking => SyncKind::BlockingCopy,
                    _ => SyncKind::Event,
                };
                copies.extend(time.map(|time| (i, time, blocking)));
            }
            let ran = of(split.ticket);
            // Copies may run while earlier splits still compute; then nothing was waited for.
            let begun = copies.first().map(|c| c.1).or(ran).map_or(free_ns, |t| t.start_ns);
            let wait = Interval { start_ns: free_ns.min(begun), end_ns: begun };
            span(track, SpanKind::Wait { ubatch, split: number, sync }, wait, 0);
            for (i, time, blocking) in copies {
                let step = &prepared.copies[s][i];
                let (input, from, to) = (i as u16, step.from, device);
                let kind = SpanKind::Copy { ubatch, split: number, input, from, to, blocking };
                span(track, kind, time, step.bytes);
                free_ns = free_ns.max(time.end_ns);
            }
            let Some(ran) = ran else { continue };
            span(track, SpanKind::Compute { ubatch, split: number }, ran, 0);
            for (n, &time) in split.nodes.iter().enumerate() {
                let kind = SpanKind::Node { ubatch, split: number, node: n as u16 };
                span(track, kind, inside(time), 0);
            }
            free_ns = free_ns.max(ran.end_ns);
        }
        for (i, &(from, time, bytes)) in self.outputs.iter().enumerate() {
            let kind = SpanKind::Output { ubatch, output: i as u16, from };
            span(Track::Device(from), kind, time, bytes);
        }
        let kind = SpanKind::Ubatch {
            ubatch,
            plan: self.plan_id,
            capacity: self.info.capacity,
            sequences: self.info.sequences,
            prompt: self.info.prompt,
        };
        span(Track::Host, kind, Interval { start_ns, end_ns }, 0);
    }
}
