//! What several panels read from a session: the phase that is shown, its cut, whose GPU a device is,
//! and what the selected finding rests on.

use crate::advise::diagnose::Place;
use crate::app::tui::panel::{Context, PanelState};
use crate::base::counter::{Counter, Subject};
use crate::base::event::{DeviceFact, DeviceIndex, Phase};
use crate::observe::session::{Cut, CutPhase, Session};

use super::lanes::extent;

/// The phase that a panel shows: the one that was chosen, or the other one while only that has run.
pub(super) fn phase(session: &Session, state: &PanelState) -> Phase {
    let (wanted, other) = match state.mode & 1 {
        0 => (Phase::Decode, Phase::Prompt),
        _ => (Phase::Prompt, Phase::Decode),
    };
    let has = |phase| session.sums.phases.get(&phase).is_some_and(|p| p.ubatches > 0);
    if !has(wanted) && has(other) { other } else { wanted }
}

/// Shows the other phase from now on.
pub(super) fn toggle_phase(state: &mut PanelState) {
    state.mode ^= 1;
}

/// What a phase is called.
pub(super) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Decode => "decode",
        Phase::Prompt => "prompt",
    }
}

/// By what times of a phase are told: decode for each token, a prompt as a whole.
pub(super) fn unit(phase: Phase, tokens: u64) -> f64 {
    match phase {
        Phase::Decode => tokens.max(1) as f64,
        Phase::Prompt => 1.0,
    }
}

/// Wall time of a phase. The sums have steps that ended; the last ubatch's own goes on until the next
/// one begins, and counts as far as it has come.
pub(super) fn phase_ns(session: &Session, phase: Phase) -> u64 {
    let ended_ns = session.sums.phases.get(&phase).map_or(0, |p| p.total_ns);
    let last = session.recent.ubatches().next_back();
    let open_ns = last.filter(|u| u.is_prompt() == (phase == Phase::Prompt)).map_or(0, |ubatch| {
        let (start, end) = extent(ubatch);
        end.saturating_sub(start)
    });
    ended_ns.saturating_add(open_ns)
}

/// The cut that took most of a phase's time, and how many there were.
pub(super) fn cut(session: &Session, phase: Phase) -> Option<(&Cut, &CutPhase, usize)> {
    let of_phase = session.sums.cuts.iter().filter_map(|c| Some((c, c.phase(phase)?)));
    let count = of_phase.clone().count();
    // Of several that took as long the first one counts.
    let (cut, sums) = of_phase.rev().max_by_key(|(_, sums)| sums.total_ns)?;
    Some((cut, sums, count))
}

/// The counters' GPU that a device is, where there is no doubt: NVML's order is not CUDA's.
pub(super) fn gpu_of(session: &Session, device: &DeviceFact) -> Option<u8> {
    if device.is_virtual || device.name == "CPU" {
        return None;
    }
    let gpus: Vec<u8> = session.counters.gpus().collect();
    let named: Vec<u8> = gpus
        .iter()
        .copied()
        .filter(|gpu| {
            let name = session.name(Subject::Gpu(*gpu));
            name.is_some_and(|n| device.description.contains(n))
        })
        .collect();
    match (named.as_slice(), gpus.as_slice()) {
        ([one], _) | ([], [one]) => Some(*one),
        _ => None,
    }
}

/// Whether the selected finding rests on something that `is` says yes to.
pub(super) fn is_evidence(cx: &Context<'_>, is: impl Fn(&Place) -> bool) -> bool {
    cx.evidence.places.iter().any(is)
}

/// Whether it rests on a device.
pub(super) fn is_device_evidence(cx: &Context<'_>, device: DeviceIndex) -> bool {
    is_evidence(cx, |place| *place == Place::Device(device))
}

/// Whether it rests on one of a subject's counters.
pub(super) fn is_counter_evidence(
    cx: &Context<'_>,
    subject: Subject,
    counters: &[Counter],
) -> bool {
    is_evidence(cx, |place| match place {
        Place::Counter(of, counter) => *of == subject && counters.contains(counter),
        _ => false,
    })
}

/// The last values of a counter, as shown over time.
pub(super) fn history(session: &Session, subject: Subject, counter: Counter) -> Vec<f64> {
    let series = session.counters.get(subject, counter);
    series.map_or_else(Vec::new, |s| s.shown().iter().map(|p| p.value).collect())
}

/// An absence with its hint.
pub(super) fn told_absent(absent: &crate::base::event::Absent) -> String {
    let what = absent.counter.map_or_else(
        || format!("no counters of {}", absent.source.name()),
        |c| format!("no {}", c.id()),
    );
    let hint =
        if absent.hint.is_empty() { String::new() } else { format!(" (hint: {})", absent.hint) };
    format!("{what}: {}{hint}", absent.text)
}
