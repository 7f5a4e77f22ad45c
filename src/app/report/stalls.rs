//! From the sums of what devices waited for to the report's stalls, with names.

use std::cmp::Reverse;

use crate::base::event::{DeviceFact, DeviceIndex};
use crate::observe::session::{Cut, DeviceSums, On, Sums};

use super::cuts::device_name;
use super::document::{Phase, StallCause, StallKind, StallReport};

/// Every device that computed in a phase.
pub(super) fn stall_reports(sums: &Sums) -> Vec<StallReport> {
    let total_ns = |p: Phase| sums.phases.get(&p).map_or(0, |sums| sums.total_ns);
    let computed = sums.stalls.computed();
    computed
        .map(|(phase, device, of)| {
            report(phase, device, of, &sums.cuts, &sums.devices, total_ns(phase))
        })
        .collect()
}

fn report(
    phase: Phase,
    device: DeviceIndex,
    sums: &DeviceSums,
    cuts: &[Cut],
    devices: &[DeviceFact],
    total_ns: u64,
) -> StallReport {
    let share = |ns: u64| if total_ns == 0 { 0.0 } else { ns as f64 / total_ns as f64 };
    let mut on: Vec<StallCause> = Vec::new();
    for (&what, &ns) in &sums.on {
        let cause = cause(what, cuts, devices);
        let same = |c: &&mut StallCause| {
            (c.on, &c.device, &c.tensor, c.sync)
                == (cause.on, &cause.device, &cause.tensor, cause.sync)
        };
        match on.iter_mut().find(same) {
            Some(known) => known.ns += ns,
            None => on.push(StallCause { ns, ..cause }),
        }
    }
    let told: u64 = sums.compute_ns + on.iter().map(|c| c.ns).sum::<u64>();
    let host_ns = total_ns.saturating_sub(told);
    if host_ns > 0 {
        on.push(StallCause { ns: host_ns, ..StallCause::of(StallKind::Host) });
    }
    for cause in &mut on {
        cause.share = share(cause.ns);
    }
    on.sort_by_key(|c| Reverse(c.ns));
    let stall_ns = total_ns.saturating_sub(sums.compute_ns);
    StallReport {
        phase,
        device: device_name(devices, device),
        is_virtual: devices.iter().any(|d| d.index == device && d.is_virtual),
        total_ns,
        compute_ns: sums.compute_ns,
        stall_ns,
        stall_share: share(stall_ns),
        on,
    }
}

/// A cause with names; its time comes later.
fn cause(on: On, cuts: &[Cut], devices: &[DeviceFact]) -> StallCause {
    let name = |index| Some(device_name(devices, index));
    match on {
        On::Copy { cut, split, input } => {
            let splits = cuts.get(cut).map(|c| &c.fact().splits);
            let input = splits
                .and_then(|s| s.get(split as usize))
                .and_then(|s| s.inputs.get(input as usize));
            StallCause {
                device: input.and_then(|i| name(i.from)),
                tensor: input.map(|i| i.tensor.clone()),
                ..StallCause::of(StallKind::Copy)
            }
        }
        On::Device(index) => {
            StallCause { device: name(index), ..StallCause::of(StallKind::Device) }
        }
        On::Wait(sync) => StallCause { sync: Some(sync), ..StallCause::of(StallKind::Wait) },
        On::Read { cut, output } => {
            let outputs = cuts.get(cut).map(|c| &c.fact().outputs);
            let output = outputs.and_then(|o| o.get(output as usize));
            StallCause {
                device: output.and_then(|o| name(o.from)),
                tensor: output.map(|o| o.tensor.clone()),
                ..StallCause::of(StallKind::Read)
            }
        }
    }
}
