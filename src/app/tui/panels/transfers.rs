//! What travels between devices: how fast, against what the link can carry, and for what reason.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::advise::diagnose::Place;
use crate::app::tui::panel::{Context, Panel, PanelState};
use crate::app::tui::theme::Role;
use crate::base::counter::{Counter, Subject};
use crate::base::event::{DeviceIndex, Phase, SpanKind};
use crate::base::units::{Bytes, BytesPerSecond, Nanos};

use super::kit::{Pen, device, device_style, matches, percent, raw, share, styled};
use super::lanes::extent;
use super::link;
use super::observed::{
    history, is_counter_evidence, is_evidence, phase, phase_name, toggle_phase, unit,
};
use super::table::{Column, Row, left, list, rest, right, table, wide};

/// The panel.
#[derive(Debug)]
pub(in crate::app::tui) struct Transfers;

const COLUMNS: [Column; 8] = [
    wide("tensor", 13, 28, 0),
    left("from", 8, 0),
    left("to", 8, 0),
    right("bytes", 10, 0),
    right("times", 6, 2),
    left("host", 5, 1),
    right("took", 9, 3),
    rest("copied because", 9, 0),
];

const RATES: [Column; 9] = [
    left("from", 8, 0),
    left("to", 8, 0),
    right("on average", 11, 3),
    right("per token", 10, 0),
    right("of time", 7, 0),
    right("in copies", 11, 0),
    right("of limit", 8, 1),
    left("blocking", 12, 4),
    left("the link's limit", 27, 5),
];

/// What is copied for one reason.
struct Copied<'a> {
    tensor: &'a str,
    from: DeviceIndex,
    to: DeviceIndex,
    cause: &'a str,
    bytes: u64,
    copies: u64,
    blocking: u64,
    ns: u64,
    is_evidence: bool,
}

/// Everything that was copied in a phase, the largest first.
fn copied<'a>(cx: &Context<'a>, phase: Phase) -> Vec<Copied<'a>> {
    let session = cx.session;
    let host = host(cx);
    let largest_cut = super::observed::cut(session, phase).map(|(cut, ..)| cut);
    let mut all: BTreeMap<(&str, DeviceIndex, DeviceIndex, &str), Copied<'a>> = BTreeMap::new();
    let mut add = |copied: Copied<'a>| {
        let key = (copied.tensor, copied.from, copied.to, copied.cause);
        match all.get_mut(&key) {
            None => drop(all.insert(key, copied)),
            Some(known) => {
                known.bytes += copied.bytes;
                known.copies += copied.copies;
                known.blocking += copied.blocking;
                known.ns += copied.ns;
                known.is_evidence |= copied.is_evidence;
            }
        }
    };
    for cut in &session.sums.cuts {
        let Some(sums) = cut.phase(phase) else { continue };
        let is_largest = largest_cut.is_some_and(|largest| std::ptr::eq(largest, cut));
        for (index, (fact, sums)) in cut.fact().splits.iter().zip(&sums.splits).enumerate() {
            let split = index as u16;
            let place = Place::Split { phase, index: split };
            let is_evidence = is_largest && is_evidence(cx, |of| *of == place);
            for (input, sums) in fact.inputs.iter().zip(&sums.inputs) {
                let (tensor, from, to) = (input.tensor.as_str(), input.from, fact.device);
                let (bytes, copies, blocking, ns) =
                    (sums.bytes, sums.copies, sums.blocking, sums.copy_ns);
                let cause = input.cause.as_str();
                add(Copied { tensor, from, to, cause, bytes, copies, blocking, ns, is_evidence });
            }
        }
        for (output, sums) in cut.fact().outputs.iter().zip(&sums.outputs) {
            let (tensor, from, to) = (output.tensor.as_str(), output.from, host);
            let (bytes, copies, ns) = (sums.bytes, sums.copies, sums.copy_ns);
            let (cause, blocking, is_evidence) = ("the host reads the result", copies, false);
            add(Copied { tensor, from, to, cause, bytes, copies, blocking, ns, is_evidence });
        }
    }
    let mut all: Vec<Copied<'_>> = all.into_values().collect();
    all.retain(|c| {
        let (from, to) = (session.device_name(c.from), session.device_name(c.to));
        c.copies > 0 && matches(cx, &[c.tensor, c.cause, &from, &to])
    });
    all.sort_by_key(|c| Reverse(c.bytes));
    all
}

/// The device that results are read to.
fn host(cx: &Context<'_>) -> DeviceIndex {
    let cpu = cx.session.sums.devices.iter().find(|d| d.name == "CPU");
    cpu.map_or(DeviceIndex(u8::MAX), |d| d.index)
}

/// Copies between two devices in the last ubatches.
#[derive(Clone, Copy, Default)]
struct Flow {
    bytes: u64,
    ns: u64,
    copies: u64,
    blocking: u64,
}

/// The last ubatches of a phase: their time, their tokens, and what went between which devices.
struct Flows {
    by_pair: BTreeMap<(DeviceIndex, DeviceIndex), Flow>,
    total_ns: u64,
    tokens: u64,
    ubatches: u64,
}

fn flows(cx: &Context<'_>, phase: Phase) -> Flows {
    let mut flows = Flows { by_pair: BTreeMap::new(), total_ns: 0, tokens: 0, ubatches: 0 };
    let host = host(cx);
    let ubatches = cx.session.recent.ubatches();
    for ubatch in ubatches.filter(|u| u.is_prompt() == (phase == Phase::Prompt)) {
        let (start, end) = extent(ubatch);
        flows.total_ns = flows.total_ns.saturating_add(end.saturating_sub(start));
        flows.tokens += u64::from(ubatch.span.tokens);
        flows.ubatches += 1;
        for span in &ubatch.parts {
            let (pair, is_blocking) = match span.kind {
                SpanKind::Copy { from, to, blocking, .. } => ((from, to), blocking),
                SpanKind::Output { from, .. } => ((from, host), true),
                _ => continue,
            };
            let flow = flows.by_pair.entry(pair).or_default();
            flow.bytes += span.bytes;
            flow.ns += span.duration_ns();
            flow.copies += 1;
            flow.blocking += u64::from(is_blocking);
        }
    }
    flows
}

impl Panel for Transfers {
    fn title(&self) -> &'static str {
        "Transfers"
    }

    fn rows(&self, cx: &Context<'_>, state: &PanelState) -> usize {
        copied(cx, phase(cx.session, state)).len()
    }

    fn draw(&self, cx: &Context<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
        let phase = phase(cx.session, state);
        let flows = flows(cx, phase);
        let mut pen = Pen::new(cx, area, buf);
        if cx.session.sums.phases.is_empty() {
            nothing(cx, &mut pen);
        } else {
            pen.line(heading(cx, phase, &flows));
            rates(cx, phase, &flows, &mut pen);
        }
        pcie(cx, &mut pen);
        if cx.session.sums.phases.is_empty() {
            return;
        }
        let copied = copied(cx, phase);
        if copied.is_empty() {
            let text = match cx.search {
                "" => "Nothing was copied between devices in this phase.",
                _ => "No copy has what is looked for.",
            };
            pen.words(Role::Dim, text);
            return;
        }
        let tokens = cx.session.sums.phases.get(&phase).map_or(0, |p| p.tokens);
        let row = |at: usize| copied_row(cx, &copied[at], unit(phase, tokens));
        let (rest, buf) = pen.give();
        // Where the reason has little room beside the rest, it stands below for the selected row.
        let below = if rest.width < 120 && rest.height >= 6 { 2 } else { 0 };
        let list = Rect { height: rest.height - below, ..rest };
        table(cx, state, &COLUMNS, (copied.len(), row), list, buf);
        let Some(selected) = copied.get(state.selected).filter(|_| below > 0) else { return };
        let area = Rect { y: list.bottom(), height: below, ..rest };
        let why = format!("{}: {}", selected.tensor, selected.cause);
        Pen::new(cx, area, buf).words(Role::Text, &why);
    }

    fn key(&self, _cx: &Context<'_>, state: &mut PanelState, key: KeyCode) -> bool {
        let is_toggle = key == KeyCode::Char('p');
        if is_toggle {
            toggle_phase(state);
        }
        is_toggle
    }

    fn keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("p", "prompt or decode")]
    }
}

fn nothing(cx: &Context<'_>, pen: &mut Pen<'_>) {
    let text = if cx.session.server.is_some() {
        "A foreign server does not tell what it copies between devices, nor why. What crosses PCIe \
         is told where the GPU counts it."
    } else {
        "Nothing has been computed yet, so nothing was copied."
    };
    pen.words(Role::Dim, text);
}

fn heading(cx: &Context<'_>, phase: Phase, flows: &Flows) -> Line<'static> {
    let took = Nanos(flows.total_ns as f64);
    Line::from(vec![
        styled(cx, Role::Strong, format!("{} ", phase_name(phase))),
        raw(format!("the last {} ubatches, {took} together", flows.ubatches)),
    ])
}

/// One line for each pair of devices, with its rate against the link's limit.
fn rates(cx: &Context<'_>, phase: Phase, flows: &Flows, pen: &mut Pen<'_>) {
    let mut pairs: Vec<_> = flows.by_pair.iter().collect();
    if pairs.is_empty() {
        return;
    }
    pairs.sort_by_key(|(_, flow)| Reverse(flow.bytes));
    // Below them the heading and two rows of what was copied stay.
    let most = pen.room().saturating_sub(5).max(1);
    let left_out = pairs.len().saturating_sub(most);
    let shown = pairs.len() - left_out;
    let rows =
        pairs.into_iter().take(shown).map(|(pair, flow)| flow_row(cx, phase, flows, *pair, *flow));
    let (rest, buf) = pen.give();
    let area = Rect { height: rest.height.min(shown as u16 + 1), ..rest };
    list(cx, &RATES, rows, area, buf);
    pen.skip(area.height);
    if left_out > 0 {
        let text = format!("{left_out} more pairs of devices have no room here");
        pen.line(styled(cx, Role::Dim, text));
    }
}

fn flow_row(
    cx: &Context<'_>,
    phase: Phase,
    flows: &Flows,
    (from, to): (DeviceIndex, DeviceIndex),
    flow: Flow,
) -> Row {
    let each = Bytes((flow.bytes as f64 / unit(phase, flows.tokens)) as u64).to_string();
    let (reached, limit) = match link::between(cx.session, from, to) {
        Err(why) => ("-".to_string(), format!("unknown{why}")),
        Ok(link) => {
            let reached = flow.bytes as f64 * 1e9 / flow.ns.max(1) as f64 / link.bytes_per_s;
            let most = BytesPerSecond(link.bytes_per_s);
            (percent(reached), format!("{most} (PCIe {} x {})", link.generation, link.lanes))
        }
    };
    let role = if flow.blocking > 0 { Role::Warning } else { Role::Dim };
    let is_device = |place: &Place| match place {
        Place::Device(device) => *device == from || *device == to,
        _ => false,
    };
    Row::new(vec![
        device(cx, &end_name(cx, from)),
        device(cx, &end_name(cx, to)),
        raw(rate(flow.bytes, flows.total_ns)),
        raw(each),
        raw(percent(share(flow.ns, flows.total_ns))),
        styled(cx, Role::Copy, rate(flow.bytes, flow.ns)),
        raw(reached),
        styled(cx, role, format!("{} of {}", flow.blocking, flow.copies)),
        raw(limit),
    ])
    .evidence(is_evidence(cx, is_device))
}

/// Where a copy begins or ends; results are read by the host also where no CPU takes part.
fn end_name(cx: &Context<'_>, index: DeviceIndex) -> String {
    match index.0 {
        u8::MAX => "host".to_string(),
        _ => cx.session.device_name(index),
    }
}

/// Bytes per second; without a duration there is none.
fn rate(bytes: u64, ns: u64) -> String {
    if ns == 0 {
        return "-".to_string();
    }
    BytesPerSecond(bytes as f64 * 1e9 / ns as f64).to_string()
}

/// What GPUs count on their PCIe links, over time.
fn pcie(cx: &Context<'_>, pen: &mut Pen<'_>) {
    let session = cx.session;
    for gpu in session.counters.gpus() {
        if pen.room() < 5 {
            return;
        }
        let subject = Subject::Gpu(gpu);
        let mut spans = vec![raw(format!("GPU {gpu} PCIe "))];
        let parts = [
            ("sent", Counter::PcieSent, Counter::PcieSentRate),
            ("received", Counter::PcieReceived, Counter::PcieReceivedRate),
        ];
        let cells = (pen.width().saturating_sub(60) / 2).clamp(8, 40);
        for (name, total, rate) in parts {
            let mut values = history(session, subject, total);
            if values.is_empty() {
                values = history(session, subject, rate);
            }
            let Some(last) = values.last() else { continue };
            let max = values.iter().copied().fold(0.0, f64::max);
            let is_evidence = is_counter_evidence(cx, subject, &[total, rate]);
            let role = if is_evidence { Role::Evidence } else { Role::Copy };
            spans.push(styled(cx, Role::Dim, format!("{name} ")));
            spans.push(styled(cx, role, cx.theme.spark(&values, max, cells)));
            spans.push(raw(format!(" {:<12}", BytesPerSecond(*last))));
        }
        if spans.len() > 1 {
            pen.line(Line::from(spans));
        }
    }
}

fn copied_row(cx: &Context<'_>, copied: &Copied<'_>, unit: f64) -> Row {
    let (from, to) = (end_name(cx, copied.from), end_name(cx, copied.to));
    let host = match copied.blocking {
        0 => styled(cx, Role::Dim, "-"),
        _ => styled(cx, Role::Warning, "waits"),
    };
    let is_device = |place: &Place| match place {
        Place::Device(device) => *device == copied.from || *device == copied.to,
        _ => false,
    };
    Row::new(vec![
        raw(copied.tensor.to_string()),
        device(cx, &from),
        Span::styled(to.clone(), device_style(cx, &to)),
        raw(Bytes((copied.bytes as f64 / unit) as u64).to_string()),
        raw(copied.copies.to_string()),
        host,
        raw(Nanos(copied.ns as f64 / unit).to_string()),
        styled(cx, Role::Dim, copied.cause.to_string()),
    ])
    .evidence(copied.is_evidence || is_evidence(cx, is_device))
}
