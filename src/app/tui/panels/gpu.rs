//! One GPU by the counters of its driver.

use std::fmt::Write;

use ratatui::text::{Line, Span};

use crate::app::tui::panel::Context;
use crate::app::tui::theme::Role;
use crate::base::counter::{Counter, Subject};
use crate::base::units::{Bytes, BytesPerSecond};
use crate::observe::telemetry::nvml::throttle::{Kind, reasons};

use super::devices::{Block, label};
use super::kit::{device_style, hertz, percent, raw, styled};
use super::link;
use super::observed::{gpu_of, history, is_device_evidence, told_absent};

/// Everything about it, as far as it was sampled.
pub(super) fn block(cx: &Context<'_>, gpu: u8, width: usize) -> Block {
    let subject = Subject::Gpu(gpu);
    let session = cx.session;
    let mut block = Block::new(heading(cx, gpu));
    let mut absent: Vec<_> =
        session.absent.values().filter(|a| a.subject == Some(subject)).collect();
    absent.sort_by_key(|a| a.counter);
    for absent in absent.iter().filter(|a| a.counter.is_none()) {
        // A GPU that is lost; the values below are its last ones.
        block.words(cx, Role::Bad, &told_absent(absent), width);
        block.words(cx, Role::Dim, "the values below are the last ones", width);
    }
    busy(cx, subject, width, &mut block);
    memory(cx, subject, width, &mut block);
    clocks(cx, subject, &mut block);
    power(cx, subject, width, &mut block);
    throttle(cx, subject, &mut block);
    pcie(cx, gpu, &mut block);
    errors(cx, subject, &mut block);
    processes(cx, gpu, &mut block);
    for absent in absent.iter().filter(|a| a.counter.is_some()) {
        block.words(cx, Role::Dim, &told_absent(absent), width);
    }
    block
}

fn heading(cx: &Context<'_>, gpu: u8) -> Line<'static> {
    let session = cx.session;
    let name = session.name(Subject::Gpu(gpu)).unwrap_or("not named").to_string();
    let mut line = Line::from(styled(cx, Role::Strong, format!("GPU {gpu}  {name}")));
    let known = session.sums.devices.iter().find(|d| gpu_of(session, d) == Some(gpu));
    if let Some(fact) = known {
        let style = device_style(cx, &fact.name);
        line.push_span(Span::styled(format!("  {}", fact.name), style));
        if is_device_evidence(cx, fact.index) {
            let sign = if cx.theme.unicode { " ◆" } else { " *" };
            line.push_span(styled(cx, Role::Evidence, sign));
        }
    }
    line
}

/// Cells for a line over time beside its figures.
fn spark_cells(width: usize) -> usize {
    width.saturating_sub(54).clamp(6, 60)
}

fn busy(cx: &Context<'_>, subject: Subject, width: usize, block: &mut Block) {
    let parts = [("busy", Counter::GpuBusy), ("memory busy", Counter::GpuMemoryBusy)];
    for (name, counter) in parts {
        let Some(value) = cx.session.value(subject, counter) else { continue };
        let values = history(cx.session, subject, counter);
        let spans = vec![
            label(cx, name),
            raw(format!("{:>7} ", percent(value))),
            styled(cx, Role::Compute, cx.theme.bar(value, 12)),
            raw(" "),
            styled(cx, Role::Compute, cx.theme.spark(&values, 1.0, spark_cells(width))),
        ];
        block.line(cx, (subject, &[counter]), spans);
    }
}

fn memory(cx: &Context<'_>, subject: Subject, width: usize, block: &mut Block) {
    let value = |c| cx.session.value(subject, c);
    let Some(used) = value(Counter::VramUsed) else { return };
    let total = value(Counter::VramTotal);
    let share = total.filter(|t| *t > 0.0).map_or(0.0, |t| used / t);
    let role = if share > 0.95 { Role::Warning } else { Role::Text };
    let of = total.map_or_else(|| "unknown".to_string(), |t| Bytes(t as u64).to_string());
    let mut spans = vec![
        label(cx, "memory"),
        styled(cx, role, format!("{:>7} ", percent(share))),
        styled(cx, role, cx.theme.bar(share, 12)),
        raw(format!(" {} of {of}", Bytes(used as u64))),
    ];
    if width > 90
        && let (Some(used), Some(all)) = (value(Counter::Bar1Used), value(Counter::Bar1Total))
    {
        let text = format!(", BAR1 {} of {}", Bytes(used as u64), Bytes(all as u64));
        spans.push(styled(cx, Role::Dim, text));
    }
    let counters = [Counter::VramUsed, Counter::VramFree, Counter::VramTotal];
    block.line(cx, (subject, &counters), spans);
}

fn clocks(cx: &Context<'_>, subject: Subject, block: &mut Block) {
    let value = |c| cx.session.value(subject, c);
    let one = |name: &str, now, max| {
        let now: f64 = value(now)?;
        let of = value(max).map_or_else(String::new, |m| format!(" of {}", hertz(m)));
        Some(format!("{name}{}{of}", hertz(now)))
    };
    let parts: Vec<String> = [
        one("", Counter::GpuClock, Counter::GpuClockMax),
        one("memory ", Counter::VramClock, Counter::VramClockMax),
        value(Counter::PerformanceState).map(|p| format!("P{p:.0}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !parts.is_empty() {
        let counters = [Counter::GpuClock, Counter::VramClock, Counter::PerformanceState];
        let spans = vec![label(cx, "clocks"), raw(parts.join(", "))];
        block.line(cx, (subject, &counters), spans);
    }
}

fn power(cx: &Context<'_>, subject: Subject, width: usize, block: &mut Block) {
    let value = |c| cx.session.value(subject, c);
    let mut spans = vec![label(cx, "power")];
    if let Some(power) = value(Counter::Power) {
        let limit = value(Counter::PowerLimit);
        let of = limit.map_or_else(String::new, |l| format!(" of {l:.0} W"));
        spans.push(raw(format!("{power:.0} W{of}")));
        let values = history(cx.session, subject, Counter::Power);
        let max = limit.unwrap_or_else(|| values.iter().copied().fold(0.0, f64::max));
        let cells = spark_cells(width).min(20);
        spans.push(raw(" "));
        spans.push(styled(cx, Role::Compute, cx.theme.spark(&values, max, cells)));
    }
    if let Some(temperature) = value(Counter::Temperature) {
        let gap = if spans.len() > 1 { ", " } else { "" };
        spans.push(raw(format!("{gap}{temperature:.0} °C")));
    }
    if spans.len() > 1 {
        let counters = [Counter::Power, Counter::PowerLimit, Counter::Temperature, Counter::Energy];
        block.line(cx, (subject, &counters), spans);
    }
}

fn throttle(cx: &Context<'_>, subject: Subject, block: &mut Block) {
    let Some(bits) = cx.session.value(subject, Counter::ThrottleReasons) else { return };
    let mut spans = vec![label(cx, "held by")];
    let mut before = false;
    for reason in reasons(bits as u64) {
        let role = match reason.kind {
            Kind::Idle => Role::Dim,
            Kind::Standing => Role::Warning,
            Kind::Passing => Role::Bad,
        };
        if before {
            spans.push(raw(", "));
        }
        before = true;
        spans.push(styled(cx, role, reason.words));
    }
    if !before {
        spans.push(styled(cx, Role::Good, "nothing"));
    }
    let counters = [Counter::ThrottleReasons, Counter::ThrottledByPower, Counter::ThrottledByHeat];
    block.line(cx, (subject, &counters), spans);
}

fn pcie(cx: &Context<'_>, gpu: u8, block: &mut Block) {
    let subject = Subject::Gpu(gpu);
    let value = |c| cx.session.value(subject, c);
    let (Some(generation), Some(lanes)) =
        (value(Counter::PcieGeneration), value(Counter::PcieWidth))
    else {
        return;
    };
    let mut text = format!("generation {generation:.0} x {lanes:.0} lanes");
    if let (Some(generation), Some(lanes)) =
        (value(Counter::PcieGenerationMax), value(Counter::PcieWidthMax))
    {
        let _ = write!(text, " of at most {generation:.0} x {lanes:.0}");
    }
    let max = value(Counter::PcieWidthMax).unwrap_or(lanes);
    let role = if lanes < max { Role::Warning } else { Role::Text };
    let mut spans = vec![label(cx, "PCIe"), styled(cx, role, text)];
    if let Some(link) = link::of_gpu(cx.session, gpu) {
        let limit = format!(", carries {}", BytesPerSecond(link.bytes_per_s));
        spans.push(styled(cx, Role::Dim, limit));
    }
    if let Some(replays) = value(Counter::PcieReplays).filter(|n| *n > 0.0) {
        spans.push(styled(cx, Role::Warning, format!(", {replays:.0} replays")));
    }
    let counters = [
        Counter::PcieGeneration,
        Counter::PcieGenerationMax,
        Counter::PcieWidth,
        Counter::PcieWidthMax,
        Counter::PcieReplays,
    ];
    block.line(cx, (subject, &counters), spans);
}

fn errors(cx: &Context<'_>, subject: Subject, block: &mut Block) {
    let value = |c| cx.session.value(subject, c);
    let ecc = (value(Counter::EccCorrected), value(Counter::EccUncorrected));
    let mut spans = vec![label(cx, "errors")];
    if let (Some(corrected), Some(not)) = ecc {
        let role = if not > 0.0 { Role::Bad } else { Role::Text };
        spans.push(styled(cx, role, format!("memory: {corrected:.0} corrected, {not:.0} not")));
    }
    if let Some(xid) = value(Counter::Xid) {
        let gap = if spans.len() > 1 { "; " } else { "" };
        spans.push(styled(cx, Role::Bad, format!("{gap}XID {xid:.0}")));
    }
    if spans.len() > 1 {
        let counters = [Counter::EccCorrected, Counter::EccUncorrected, Counter::Xid];
        block.line(cx, (subject, &counters), spans);
    }
}

/// Who has memory of the GPU, the most first.
fn processes(cx: &Context<'_>, gpu: u8, block: &mut Block) {
    const SHOWN: usize = 4;
    let session = cx.session;
    let mut all: Vec<(u32, f64)> = session
        .counters
        .subjects()
        .filter_map(|subject| match subject {
            Subject::GpuProcess { gpu: of, pid } if of == gpu => {
                Some((pid, session.value(subject, Counter::VramUsed)?))
            }
            _ => None,
        })
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    let rest = all.len().saturating_sub(SHOWN);
    for (pid, bytes) in all.into_iter().take(SHOWN) {
        let subject = Subject::GpuProcess { gpu, pid };
        let name = session.name(subject).or_else(|| session.name(Subject::Process(pid)));
        let text = format!("{} {} ({pid})", Bytes(bytes as u64), name.unwrap_or("process"));
        block.line(cx, (subject, &[Counter::VramUsed]), vec![label(cx, "used by"), raw(text)]);
    }
    if rest > 0 {
        let text = styled(cx, Role::Dim, format!("and {rest} more processes"));
        block.line(cx, (Subject::Gpu(gpu), &[]), vec![label(cx, ""), text]);
    }
}
