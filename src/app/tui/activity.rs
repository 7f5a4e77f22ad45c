//! What each device did during the last ubatches: computed, took copies, waited and for what. What is
//! always on the screen.
//!
//! It adds up; it concludes nothing. Invariant: the three shares of a device add up to 1.

use std::collections::BTreeMap;

use crate::base::counter::{Counter, Subject};
use crate::base::event::{DeviceIndex, Phase};
use crate::observe::session::{Cut, On, RecentUbatch, Series, Session, Stalls};

/// Ubatches that are looked at, at most: few enough that it costs nothing, and so recent that a change
/// is seen at once.
const UBATCHES_MAX: usize = 16;

/// What a device did.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Activity {
    /// Its name.
    pub name: String,
    /// Its index among the session's devices; of a GPU that is only watched, among these.
    pub index: usize,
    /// What was seen of it; `None` where nothing ran yet.
    pub shares: Option<Shares>,
    /// Bytes of its memory that are used, and all of them.
    pub memory: Option<(u64, u64)>,
}

/// Parts of the time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shares {
    /// It computed.
    pub compute: f64,
    /// Something was copied into it.
    pub copy: f64,
    /// It waited.
    pub wait: f64,
    /// What it waited for most, and for which part of the time; `None` where that is not known.
    pub on: Option<(String, f64)>,
}

/// What every device did lately. A session that tells of no devices of its own has the GPUs that
/// were sampled.
pub(super) fn activity(session: &Session) -> Vec<Activity> {
    if session.sums.devices.is_empty() { gpus(session) } else { devices(session) }
}

fn devices(session: &Session) -> Vec<Activity> {
    let recent: Vec<&RecentUbatch> = session.recent.ubatches().rev().take(UBATCHES_MAX).collect();
    let mut sums = Stalls::default();
    for ubatch in &recent {
        let Some(plan) = session.plans.get(&ubatch.plan()) else { continue };
        let cut = Cut::new(std::sync::Arc::clone(plan));
        let phase = if ubatch.is_prompt() { Phase::Prompt } else { Phase::Decode };
        let number = ubatch.plan() as usize;
        sums.add(phase, (number, &cut), &ubatch.span, &ubatch.parts, &session.sums.devices);
    }
    // From the start of the oldest to the end of the newest: what the host does in between counts.
    let start_ns = recent.last().map_or(0, |u| u.span.start_ns);
    let end_ns = recent.first().map_or(0, |u| u.span.end_ns);
    let total_ns = end_ns.saturating_sub(start_ns);
    let one = |(index, device): (usize, &crate::base::event::DeviceFact)| Activity {
        name: device.name.clone(),
        index,
        shares: (total_ns > 0).then(|| shares(session, &sums, device.index, total_ns)),
        memory: memory(session, &device.name)
            .or_else(|| Some((0, device.memory_bytes_total)).filter(|m| m.1 > 0)),
    };
    session.sums.devices.iter().enumerate().map(one).collect()
}

fn shares(session: &Session, sums: &Stalls, device: DeviceIndex, total_ns: u64) -> Shares {
    let (mut compute_ns, mut copy_ns) = (0, 0);
    let mut on: BTreeMap<String, u64> = BTreeMap::new();
    for (_, _, sums) in sums.computed().filter(|(_, d, _)| *d == device) {
        compute_ns += sums.compute_ns;
        for (what, ns) in &sums.on {
            let name = match what {
                On::Copy { .. } => {
                    copy_ns += ns;
                    continue;
                }
                On::Device(other) => session.device_name(*other),
                On::Wait(_) => "its turn".to_string(),
                On::Read { .. } => "results being read".to_string(),
            };
            *on.entry(name).or_default() += ns;
        }
    }
    let total = total_ns as f64;
    let (compute, copy) = (compute_ns as f64 / total, copy_ns as f64 / total);
    if compute_ns == 0 {
        // Nothing of the graph is there, so it waits for nothing.
        return Shares { wait: 1.0, ..Shares::default() };
    }
    let known_ns: u64 = on.values().sum();
    let host_ns = total_ns.saturating_sub(compute_ns + copy_ns + known_ns);
    on.insert("the host".to_string(), host_ns);
    let most = on.into_iter().max_by_key(|o| o.1);
    Shares {
        compute,
        copy,
        wait: (1.0 - compute - copy).max(0.0),
        on: most.map(|(name, ns)| (name, ns as f64 / total)).filter(|m| m.1 >= 0.005),
    }
}

/// Memory that the setup needs there, and all that there is.
fn memory(session: &Session, name: &str) -> Option<(u64, u64)> {
    let setup = session.setup.as_ref()?;
    let of = setup.memory.devices.iter().find(|m| m.device == name)?;
    Some((setup.held_bytes(of), of.total_bytes))
}

/// GPUs that are watched from outside: how busy they are is all that can be told.
fn gpus(session: &Session) -> Vec<Activity> {
    let one = |gpu: u8| {
        let subject = Subject::Gpu(gpu);
        let value = |counter| session.value(subject, counter);
        let busy = value(Counter::GpuBusy);
        let shares = |busy: f64| Shares { compute: busy, wait: 1.0 - busy, ..Shares::default() };
        let used = value(Counter::VramUsed).zip(value(Counter::VramTotal));
        Activity {
            name: format!("GPU{gpu}"),
            index: gpu as usize,
            shares: busy.map(|b| shares(b.clamp(0.0, 1.0))),
            memory: used.map(|(used, total)| (used as u64, total as u64)),
        }
    };
    let mut all: Vec<Activity> = session.counters.gpus().map(one).collect();
    if let Some(busy) = session.value(Subject::Host, Counter::CpuBusy) {
        let busy = busy.clamp(0.0, 1.0);
        let shares = Some(Shares { compute: busy, wait: 1.0 - busy, ..Shares::default() });
        all.push(Activity { name: "CPU".to_string(), index: all.len(), shares, memory: None });
    }
    all
}

/// Tokens per second of prompts and of answers, as of the last ubatches, or as a server tells.
pub(super) fn speeds(session: &Session) -> [Option<f64>; 2] {
    let own = [true, false].map(|is_prompt| speed(session, is_prompt));
    let told = [Counter::PromptRate, Counter::DecodeRate]
        .map(|counter| session.value(Subject::Server, counter));
    let counted = [Counter::PromptTokens, Counter::DecodedTokens]
        .map(|counter| session.counters.get(Subject::Server, counter).and_then(Series::rate));
    std::array::from_fn(|i| own[i].or(told[i]).or(counted[i]))
}

fn speed(session: &Session, is_prompt: bool) -> Option<f64> {
    let (mut tokens, mut ns) = (0, 0);
    let mut next_start_ns = None;
    let mut seen = 0;
    for ubatch in session.recent.ubatches().rev() {
        let span = &ubatch.span;
        // A step lasts until the next one starts.
        let end_ns = next_start_ns.replace(span.start_ns).unwrap_or(span.end_ns);
        if ubatch.is_prompt() == is_prompt {
            tokens += u64::from(span.tokens);
            // An idle engine is not a slow one.
            let idle_ns = end_ns.saturating_sub(span.end_ns);
            ns += span.duration_ns() + if idle_ns < span.duration_ns() { idle_ns } else { 0 };
            seen += 1;
            if seen == UBATCHES_MAX {
                break;
            }
        }
    }
    (ns > 0).then(|| tokens as f64 / (ns as f64 / 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tui::tests::script::{self, Script};

    #[test]
    fn each_device_tells_what_it_waits_for() {
        let session = script::fold(&script::whole().events);
        let all = activity(&session);
        assert_eq!(all.len(), 3);
        for one in &all {
            let shares = one.shares.clone().unwrap();
            assert!((shares.compute + shares.copy + shares.wait - 1.0).abs() < 1e-9, "{one:?}");
        }
        let shares = all[0].shares.clone().unwrap();
        // Fifteen ubatches and the host between them, then the last ubatch.
        let ubatch_us = 20 + script::COMPUTE_US.iter().sum::<u64>() + 4 * (100 + 300) + 200;
        let total_us = (16 * ubatch_us + 15 * 500) as f64;
        assert!((shares.compute - 16.0 * 3000.0 / total_us).abs() < 1e-6, "{shares:?}");
        assert!((shares.copy - 16.0 * 300.0 / total_us).abs() < 1e-6, "{shares:?}");
        assert_eq!(shares.on.unwrap().0, "CPU");
        assert_eq!(all[0].memory.unwrap().1, 160 << 20);
    }

    #[test]
    fn speeds_are_of_steps() {
        let session = script::fold(&script::whole().events);
        let [prompt, decode] = speeds(&session);
        assert!((decode.unwrap() - 1e6 / 14_820.0).abs() < 1.0, "{decode:?}");
        assert!(prompt.unwrap() > decode.unwrap());
        assert_eq!(speeds(&script::fold(&Script::loaded().events)), [None, None]);
    }

    #[test]
    fn a_watched_gpu_is_told_by_its_counters() {
        let mut script = Script::default();
        script.samples();
        let all = activity(&script::fold(&script.events));
        let names: Vec<&str> = all.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["GPU0", "CPU"]);
        assert_eq!(all[0].shares.as_ref().map(|s| s.compute), Some(0.31));
        assert_eq!(all[0].memory, Some((18 << 30, 24 << 30)));
    }
}
