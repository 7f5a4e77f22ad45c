//! The machine, the watched processes with their threads, and what observing costs.

use ratatui::text::{Line, Span};

use crate::app::tui::panel::Context;
use crate::app::tui::theme::Role;
use crate::base::counter::{Counter, Source, Subject};
use crate::base::units::{Bytes, BytesPerSecond, Nanos};
use crate::observe::session::Series;

use super::devices::{Block, label};
use super::kit::{percent, raw, styled};
use super::observed::history;

/// Threads of a process that are shown.
const THREADS_SHOWN: usize = 5;

/// The machine, as far as it was sampled.
pub(super) fn block(cx: &Context<'_>, width: usize) -> Option<Block> {
    let session = cx.session;
    session.counters.of(Subject::Host).next()?;
    let name = session.name(Subject::Host).unwrap_or_default();
    let heading =
        vec![styled(cx, Role::Strong, "host"), styled(cx, Role::Dim, format!("  {name}"))];
    let mut block = Block::new(Line::from(heading));
    cpus(cx, width, &mut block);
    quota(cx, &mut block);
    memory(cx, &mut block);
    pressure(cx, &mut block);
    Some(block)
}

/// Processors: the mean over time, and each of them as one cell.
fn cpus(cx: &Context<'_>, width: usize, block: &mut Block) {
    let session = cx.session;
    let host = Subject::Host;
    if let Some(busy) = session.value(host, Counter::CpuBusy) {
        let values = history(session, host, Counter::CpuBusy);
        let cells = width.saturating_sub(54).clamp(6, 60);
        let mut spans = vec![
            label(cx, "CPU"),
            raw(format!("{:>7} ", percent(busy))),
            styled(cx, Role::Compute, cx.theme.bar(busy, 12)),
            raw(" "),
            styled(cx, Role::Compute, cx.theme.spark(&values, 1.0, cells)),
        ];
        let stolen = session.value(host, Counter::CpuStolen).unwrap_or(0.0);
        if stolen >= 0.001 {
            let text = format!(" {} stolen", percent(stolen));
            spans.push(styled(cx, Role::Warning, text));
        }
        block.line(cx, (host, &[Counter::CpuBusy, Counter::CpuStolen]), spans);
    }
    let cores: Vec<f64> = session
        .counters
        .subjects()
        .filter(|s| matches!(s, Subject::Core(_)))
        .filter_map(|s| session.value(s, Counter::CpuBusy))
        .collect();
    let per_line = width.saturating_sub(16).max(8);
    for (at, chunk) in cores.chunks(per_line).enumerate() {
        let name = match (at, cores.len()) {
            (0, 1) => "1 core".to_string(),
            (0, n) => format!("{n} cores"),
            _ => String::new(),
        };
        let bars = cx.theme.spark(chunk, 1.0, chunk.len());
        let spans = vec![label(cx, &name), styled(cx, Role::Compute, bars)];
        block.line(cx, (host, &[]), spans);
    }
}

fn quota(cx: &Context<'_>, block: &mut Block) {
    let session = cx.session;
    let host = Subject::Host;
    let Some(cpus) = session.value(host, Counter::CgroupCpus) else { return };
    let mut spans = vec![label(cx, "quota"), raw(format!("{cpus:.2} CPUs by control group"))];
    let grown = |c| {
        let series = session.counters.get(host, c)?;
        Some(series.last().value - series.first.value).filter(|n| *n > 0.0)
    };
    match (grown(Counter::CgroupThrottled), grown(Counter::CgroupThrottledTime)) {
        (Some(periods), ns) => {
            let held = ns.map_or_else(String::new, |ns| format!(" for {}", Nanos(ns)));
            let text = format!(", held in {periods:.0} periods{held}");
            spans.push(styled(cx, Role::Bad, text));
        }
        (None, _) => spans.push(styled(cx, Role::Dim, ", never held by it")),
    }
    let counters = [Counter::CgroupCpus, Counter::CgroupThrottled, Counter::CgroupThrottledTime];
    block.line(cx, (host, &counters), spans);
}

fn memory(cx: &Context<'_>, block: &mut Block) {
    let session = cx.session;
    let host = Subject::Host;
    let value = |c| session.value(host, c);
    let bytes = |v: f64| Bytes(v.max(0.0) as u64).to_string();
    let mut parts = Vec::new();
    parts.extend(value(Counter::MemoryAvailable).map(|v| raw(format!("{} available", bytes(v)))));
    let swap = value(Counter::SwapUsed);
    parts.extend(swap.map(|v| match v {
        0.0 => styled(cx, Role::Dim, "no swap used"),
        v => styled(cx, Role::Warning, format!("{} in swap", bytes(v))),
    }));
    let rate = |c| session.counters.get(host, c).and_then(Series::rate).filter(|r| *r > 0.0);
    for (counter, what) in [(Counter::SwapIn, "read from"), (Counter::SwapOut, "written to")] {
        let text = rate(counter).map(|r| format!("{} {what} swap", BytesPerSecond(r)));
        parts.extend(text.map(|t| styled(cx, Role::Bad, t)));
    }
    if let (Some(used), Some(max)) = (value(Counter::CgroupMemory), value(Counter::CgroupMemoryMax))
    {
        parts.push(raw(format!("control group {} of {}", bytes(used), bytes(max))));
    }
    let counters = [
        Counter::MemoryAvailable,
        Counter::SwapUsed,
        Counter::SwapIn,
        Counter::SwapOut,
        Counter::CgroupMemory,
        Counter::CgroupMemoryMax,
    ];
    joined(cx, (host, &counters), "memory", parts, block);
}

fn pressure(cx: &Context<'_>, block: &mut Block) {
    let host = Subject::Host;
    let kinds = [
        ("CPU", Counter::PressureCpu),
        ("memory", Counter::PressureMemory),
        ("storage", Counter::PressureIo),
    ];
    let one = |(name, counter): (&str, Counter)| {
        let value = cx.session.value(host, counter)?;
        let role = if value >= 0.1 { Role::Warning } else { Role::Text };
        Some(styled(cx, role, format!("{name} {}", percent(value))))
    };
    let parts = kinds.into_iter().filter_map(one).collect();
    let counters = kinds.map(|k| k.1);
    joined(cx, (host, &counters), "pressure", parts, block);
}

/// A line of parts with commas between them; none without parts.
fn joined(
    cx: &Context<'_>,
    of: (Subject, &[Counter]),
    name: &str,
    parts: Vec<Span<'static>>,
    block: &mut Block,
) {
    if parts.is_empty() {
        return;
    }
    let mut spans = vec![label(cx, name)];
    for part in parts {
        if spans.len() > 1 {
            spans.push(raw(", "));
        }
        spans.push(part);
    }
    block.line(cx, of, spans);
}

/// Each watched process.
pub(super) fn processes(cx: &Context<'_>, width: usize) -> Vec<Block> {
    let pids = cx.session.counters.subjects().filter_map(|subject| match subject {
        Subject::Process(pid) => Some(pid),
        _ => None,
    });
    pids.map(|pid| process(cx, pid, width)).collect()
}

fn process(cx: &Context<'_>, pid: u32, width: usize) -> Block {
    let session = cx.session;
    let subject = Subject::Process(pid);
    let name = session.name(subject).unwrap_or("process").to_string();
    let mut heading = Line::from(styled(cx, Role::Strong, format!("{name} ({pid})")));
    let details = session.subjects.get(&subject).map_or(&[][..], |s| &s.details);
    if let Some((_, command)) = details.iter().find(|(name, _)| name == "command") {
        let command = super::kit::one_line(command);
        heading.push_span(styled(cx, Role::Dim, format!("  {command}")));
    }
    let mut block = Block::new(heading);
    if let Some(used) = session.value(subject, Counter::CpuUsed) {
        let values = history(session, subject, Counter::CpuUsed);
        let max = values.iter().copied().fold(1.0, f64::max);
        let cells = width.saturating_sub(54).clamp(6, 60);
        let spans = vec![
            label(cx, "CPUs used"),
            raw(format!("{used:>7.2} ")),
            styled(cx, Role::Compute, cx.theme.spark(&values, max, cells)),
        ];
        block.line(cx, (subject, &[Counter::CpuUsed]), spans);
    }
    threads(cx, pid, &mut block);
    let value = |c| session.value(subject, c);
    let rate = |c| session.counters.get(subject, c).and_then(Series::rate);
    let mut parts = Vec::new();
    parts.extend(value(Counter::Resident).map(|v| raw(format!("{} resident", Bytes(v as u64)))));
    parts.extend(rate(Counter::MajorFaults).map(|r| {
        let role = if r > 0.0 { Role::Warning } else { Role::Dim };
        styled(cx, role, format!("{r:.1} major faults/s"))
    }));
    let faults = rate(Counter::MinorFaults);
    parts.extend(faults.map(|r| styled(cx, Role::Dim, format!("{r:.0} minor faults/s"))));
    let counters = [Counter::Resident, Counter::MajorFaults, Counter::MinorFaults];
    joined(cx, (subject, &counters), "memory", parts, &mut block);
    let mut parts = Vec::new();
    let rates = [("read", Counter::DiskRead), ("written", Counter::DiskWritten)];
    for (what, counter) in rates {
        parts.extend(rate(counter).map(|r| raw(format!("{} {what}", BytesPerSecond(r)))));
    }
    joined(cx, (subject, &rates.map(|r| r.1)), "disk", parts, &mut block);
    let counters =
        [Counter::RunQueueWait, Counter::VoluntarySwitches, Counter::InvoluntarySwitches];
    let mut parts = Vec::new();
    parts.extend(rate(counters[0]).map(|r| raw(format!("{} waited for a CPU each s", Nanos(r)))));
    parts.extend(rate(counters[1]).map(|r| raw(format!("{r:.0} waits/s"))));
    parts.extend(rate(counters[2]).map(|r| raw(format!("{r:.0} interruptions/s"))));
    joined(cx, (subject, &counters), "scheduling", parts, &mut block);
    block
}

/// The threads with the highest use.
fn threads(cx: &Context<'_>, pid: u32, block: &mut Block) {
    let session = cx.session;
    let owner = pid.to_string();
    // A thread whose last sample is older than its process's is gone.
    let process = session.counters.get(Subject::Process(pid), Counter::CpuUsed);
    let latest_ns = process.map_or(0, |s| s.last().at_ns);
    let mut all: Vec<(f64, Subject)> = session
        .counters
        .subjects()
        .filter(|s| matches!(s, Subject::Thread(_)))
        .filter(|s| {
            let fact = session.subjects.get(s);
            fact.is_some_and(|f| f.details.iter().any(|(n, v)| n == "process" && *v == owner))
        })
        .filter_map(|s| {
            let last = session.counters.get(s, Counter::CpuUsed)?.last();
            (last.at_ns >= latest_ns).then_some((last.value, s))
        })
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let count = session.value(Subject::Process(pid), Counter::Threads);
    let count = count.map_or(all.len() as u64, |n| n as u64);
    for (at, (used, subject)) in all.iter().take(THREADS_SHOWN).enumerate() {
        let name = session.name(*subject).unwrap_or("thread").to_string();
        let what = if at == 0 { format!("{count} threads") } else { String::new() };
        let spans = vec![
            label(cx, &what),
            raw(format!("{used:>7.2} ")),
            styled(cx, Role::Compute, cx.theme.bar(*used, 12)),
            raw(format!(" {name}")),
        ];
        block.line(cx, (*subject, &[Counter::CpuUsed]), spans);
    }
}

/// What observing costs, by source.
pub(super) fn observer(cx: &Context<'_>) -> Option<Block> {
    let sources = [Source::Host, Source::Process, Source::Nvml, Source::Server];
    let told = |source: Source| {
        let subject = Subject::Observer(source);
        let cost = cx.session.counters.get(subject, Counter::ReadingCost)?;
        let took = cx.session.value(subject, Counter::ReadingTime);
        let took = took.map_or_else(String::new, |ns| format!(", took {}", Nanos(ns)));
        // The share follows from how often it was read in the kept time.
        let (mut first, mut last, mut sum, mut count) = (u64::MAX, 0, 0.0, 0_u32);
        for point in cost.points() {
            (first, last) = (first.min(point.at_ns), last.max(point.at_ns));
            sum += point.value;
            count += 1;
        }
        let span_ns = last.saturating_sub(first) as f64;
        let share = if count > 1 && span_ns > 0.0 {
            let each = sum / f64::from(count);
            format!(", {} of one CPU", percent_fine(each * f64::from(count - 1) / span_ns))
        } else {
            String::new()
        };
        let text = format!("{} of CPU time each reading{took}{share}", Nanos(cost.last().value));
        let spans = vec![label(cx, source.name()), raw(text)];
        Some((subject, spans))
    };
    let mut block = Block::new(Line::from(styled(cx, Role::Strong, "cost of observing")));
    for (subject, spans) in sources.into_iter().filter_map(told) {
        let counters = [Counter::ReadingCost, Counter::ReadingTime];
        block.line(cx, (subject, &counters), spans);
    }
    (block.lines.len() > 1).then_some(block)
}

/// A small share: `0.04 %`.
fn percent_fine(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
