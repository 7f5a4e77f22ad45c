//! The last ubatches as lanes over time: the host and each device, so that who waits for whom can be
//! seen.
//!
//! `inner` of the state holds the number of the ubatch that is looked at, because ubatches move up in
//! the list while new ones come; `inner_offset` holds the row that it had when it was last drawn.

use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::tui::panel::{Context, Panel, PanelState};
use crate::app::tui::theme::Role;
use crate::base::event::{SpanKind, SyncKind};
use crate::base::units::{Bytes, Nanos, counted};
use crate::observe::session::RecentUbatch;

use super::kit::{Pen, device_style, raw, styled};
use super::lanes::{Act, Lane, Window, act, cells, extent, step_ns};
use super::observed::is_device_evidence;

/// The panel.
#[derive(Debug)]
pub(in crate::app::tui) struct Timeline;

/// Cells for the names of lanes.
const NAMES: usize = 10;

/// Ubatches that the window shows at first.
const UBATCHES_SHOWN: u64 = 4;

/// Doublings of the zoom, in and out.
const ZOOM_MAX: i8 = 12;

/// The lowest bit of the mode: a ubatch is held, instead of following the newest. The rest is the
/// zoom, as a signed number.
const HELD: u8 = 1;

fn zoom(state: &PanelState) -> i8 {
    (state.mode.cast_signed() >> 1).clamp(-ZOOM_MAX, ZOOM_MAX)
}

fn set_zoom(state: &mut PanelState, zoom: i8) {
    let zoom = zoom.clamp(-ZOOM_MAX, ZOOM_MAX);
    state.mode = (zoom << 1).cast_unsigned() | (state.mode & HELD);
}

/// Brings the selection up to date: the newest ubatch, or the held one as long as it is kept.
fn follow(cx: &Context<'_>, state: &mut PanelState) {
    let ubatches = cx.session.recent.ubatches();
    let Some(last) = ubatches.len().checked_sub(1) else { return };
    if state.selected != state.inner_offset {
        // Somebody moved it since it was last drawn.
        state.selected = state.selected.min(last);
        hold(cx, state);
    } else if state.mode & HELD == 0 {
        state.selected = last;
    } else {
        let held = |u: &RecentUbatch| u.number() as usize == state.inner;
        // One that is no longer kept gives way to the oldest.
        state.selected = cx.session.recent.ubatches().position(held).unwrap_or(0);
    }
    state.inner_offset = state.selected;
}

fn hold(cx: &Context<'_>, state: &mut PanelState) {
    state.mode |= HELD;
    let ubatch = cx.session.recent.ubatches().nth(state.selected);
    state.inner = ubatch.map_or(0, |u| u.number() as usize);
    state.inner_offset = state.selected;
}

impl Panel for Timeline {
    fn title(&self) -> &'static str {
        "Timeline"
    }

    fn rows(&self, cx: &Context<'_>, _state: &PanelState) -> usize {
        cx.session.recent.ubatches().len()
    }

    fn draw(&self, cx: &Context<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
        follow(cx, state);
        let mut pen = Pen::new(cx, area, buf);
        let Some(selected) = cx.session.recent.ubatches().nth(state.selected) else {
            let text = if cx.session.server.is_some() {
                "A foreign server does not tell when its devices compute, copy and wait. \
                 What its machine's counters say is under Devices."
            } else {
                "No ubatch has run yet."
            };
            pen.words(Role::Dim, text);
            return;
        };
        let cells = pen.width().saturating_sub(NAMES);
        if cells < 8 {
            return;
        }
        let window = window(cx, state, selected, cells);
        pen.line(heading(cx, state, selected, window));
        pen.line(ubatch_marks(cx, window, selected));
        for line in lanes(cx, window) {
            pen.line(line);
        }
        pen.line(axis(cx, window));
        if pen.room() > 0 {
            pen.line(legend(cx));
        }
        details(cx, selected, &mut pen);
    }

    fn key(&self, cx: &Context<'_>, state: &mut PanelState, key: KeyCode) -> bool {
        let last = cx.session.recent.ubatches().len().saturating_sub(1);
        match key {
            KeyCode::Left | KeyCode::Right => {
                follow(cx, state);
                state.selected = match key {
                    KeyCode::Left => state.selected.saturating_sub(1),
                    _ => state.selected.saturating_add(1).min(last),
                };
                hold(cx, state);
                state.offset = 0;
            }
            KeyCode::Char('+' | '=') => set_zoom(state, zoom(state) + 1),
            KeyCode::Char('-') => set_zoom(state, zoom(state) - 1),
            KeyCode::Char(')') => state.offset = state.offset.saturating_add(1).min(1 << 20),
            KeyCode::Char('(') => state.offset = state.offset.saturating_sub(1),
            KeyCode::Char('f') => {
                state.mode &= !HELD;
                (state.selected, state.inner_offset, state.offset) = (last, last, 0);
            }
            _ => return false,
        }
        true
    }

    fn keys(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("left right", "ubatch before, after"),
            ("+ -", "zoom"),
            ("( )", "move within a ubatch"),
            ("f", "follow the newest"),
        ]
    }
}

/// What is shown: some ubatches around the selected one, or a part of it.
fn window(
    cx: &Context<'_>,
    state: &mut PanelState,
    selected: &RecentUbatch,
    cells: usize,
) -> Window {
    let (start, end) = extent(selected);
    let long = end.saturating_sub(start).max(1);
    let zoom = zoom(state);
    let shown = long.saturating_mul(UBATCHES_SHOWN);
    let length_ns = match zoom {
        0.. => (shown >> zoom).max(1),
        _ => shown.saturating_mul(1 << -zoom),
    };
    let latest = cx.session.recent.ubatches().next_back().map_or(end, |u| extent(u).1);
    let start_ns = if length_ns >= long {
        state.offset = 0;
        let middle = start.saturating_sub((length_ns - long) / 2);
        middle.min(latest.saturating_sub(length_ns))
    } else {
        // The last part of the ubatch is as far as it can be moved.
        let step = (length_ns / 2).max(1);
        let most = (long - length_ns).div_ceil(step);
        state.offset = state.offset.min(most as usize);
        start.saturating_add(state.offset as u64 * step).min(end - length_ns)
    };
    Window { start_ns, length_ns, cells }
}

fn heading(
    cx: &Context<'_>,
    state: &PanelState,
    selected: &RecentUbatch,
    window: Window,
) -> Line<'static> {
    let kind = if selected.is_prompt() { "prompt" } else { "decode" };
    let tokens = counted(selected.span.tokens.into(), "token");
    let took = Nanos(selected.span.duration_ns() as f64);
    let follows = if state.mode & HELD == 0 { "following" } else { "held, f follows" };
    Line::from(vec![
        styled(cx, Role::Strong, format!("ubatch {} ", selected.number())),
        raw(format!("{kind}, {tokens}, {took}")),
        styled(cx, Role::Dim, format!("; {follows}, {} shown", Nanos(window.length_ns as f64))),
    ])
}

/// Where ubatches begin, with their numbers.
fn ubatch_marks(cx: &Context<'_>, window: Window, selected: &RecentUbatch) -> Line<'static> {
    let mut spans = vec![styled(cx, Role::Dim, format!("{:<NAMES$}", "ubatch"))];
    let mut at = 0;
    for ubatch in cx.session.recent.ubatches() {
        let (start, end) = extent(ubatch);
        let is_selected = std::ptr::eq(ubatch, selected);
        let shown = end > window.start_ns && start < window.end_ns();
        let Some(cell) = window.cell(start.max(window.start_ns)).filter(|c| shown && *c >= at)
        else {
            continue;
        };
        let cut = if start < window.start_ns { "" } else { "|" };
        let text = format!("{cut}{}{}", ubatch.number(), if ubatch.is_prompt() { "p" } else { "" });
        // One that began before leaves room for the next one's mark.
        if cut.is_empty() && window.cell(end).is_some_and(|c| c <= text.len()) {
            continue;
        }
        // The selected one is named even where there is little room.
        if cell > at {
            spans.push(raw(" ".repeat(cell - at)));
        }
        let role = if is_selected { Role::Selected } else { Role::Dim };
        at = cell + text.len() + 1;
        spans.push(styled(cx, role, text));
        spans.push(raw(" "));
    }
    Line::from(spans)
}

/// The host's lane and one for each device.
fn lanes(cx: &Context<'_>, window: Window) -> Vec<Line<'static>> {
    let session = cx.session;
    let host = cells(session, Lane::Host, false, window);
    let mut lines = vec![lane(cx, ("host".to_string(), Style::new()), false, &host)];
    let mut devices: Vec<_> = session.sums.devices.iter().map(|d| d.index).collect();
    devices.sort_unstable();
    devices.dedup();
    for index in devices {
        let name = session.device_name(index);
        let acts = cells(session, Lane::Device(index), name != "CPU", window);
        let style = device_style(cx, &name);
        lines.push(lane(cx, (name, style), is_device_evidence(cx, index), &acts));
    }
    lines
}

fn lane(
    cx: &Context<'_>,
    (name, style): (String, Style),
    is_evidence: bool,
    acts: &[Act],
) -> Line<'static> {
    let style = if is_evidence { style.patch(cx.theme.style(Role::Evidence)) } else { style };
    let sign = match (is_evidence, cx.theme.unicode) {
        (false, _) => "",
        (true, true) => "◆",
        (true, false) => "*",
    };
    let name = super::kit::clipped(&format!("{sign}{name}"), NAMES - 1);
    let mut spans = vec![Span::styled(format!("{name:<NAMES$}"), style)];
    for run in acts.chunk_by(|a, b| a == b) {
        let text = sign_of(cx, run[0]).to_string().repeat(run.len());
        let style = if run[0] == Act::Compute { style } else { cx.theme.style(role_of(run[0])) };
        spans.push(Span::styled(text, style));
    }
    Line::from(spans)
}

fn sign_of(cx: &Context<'_>, act: Act) -> char {
    let (unicode, ascii) = match act {
        Act::Nothing => (' ', ' '),
        Act::Stall => ('·', '.'),
        Act::Wait => ('w', 'w'),
        Act::Compute => ('█', '#'),
        Act::Graph => ('g', 'g'),
        Act::Sampling => ('s', 's'),
        Act::Text => ('t', 't'),
        Act::Read => ('r', 'r'),
        Act::Copy => ('▒', '='),
        Act::BlockingCopy => ('▓', '%'),
    };
    if cx.theme.unicode { unicode } else { ascii }
}

fn role_of(act: Act) -> Role {
    match act {
        Act::Nothing => Role::Text,
        Act::Stall | Act::Wait => Role::Wait,
        Act::Compute => Role::Compute,
        Act::Copy | Act::BlockingCopy | Act::Read => Role::Copy,
        Act::Graph | Act::Sampling | Act::Text => Role::Strong,
    }
}

fn name_of(act: Act) -> &'static str {
    match act {
        Act::Nothing => "nothing",
        Act::Stall => "stalls",
        Act::Wait => "waits",
        Act::Compute => "computes",
        Act::Graph => "builds graph",
        Act::Sampling => "samples",
        Act::Text => "text",
        Act::Read => "reads result",
        Act::Copy => "copy in",
        Act::BlockingCopy => "blocking copy in",
    }
}

/// Times from the window's start.
fn axis(cx: &Context<'_>, window: Window) -> Line<'static> {
    let step = step_ns(window, 12);
    let mut text = format!("{:<NAMES$}", "time");
    let mut at_ns = 0_u64;
    while at_ns < window.length_ns {
        let Some(cell) = window.cell(window.start_ns.saturating_add(at_ns)) else { break };
        let pad = (NAMES + cell).saturating_sub(text.chars().count());
        text.push_str(&" ".repeat(pad));
        text.push('|');
        text.push_str(&round_time(at_ns));
        at_ns = at_ns.saturating_add(step);
    }
    Line::from(styled(cx, Role::Dim, text))
}

/// A time of the axis, which has one digit that is not zero: `20 ms`.
fn round_time(ns: u64) -> String {
    let (value, unit) = match ns {
        0 => return "0".to_string(),
        1_000_000_000.. => (ns as f64 / 1e9, "s"),
        1_000_000.. => (ns as f64 / 1e6, "ms"),
        1_000.. => (ns as f64 / 1e3, "µs"),
        _ => (ns as f64, "ns"),
    };
    format!("{value} {unit}")
}

fn legend(cx: &Context<'_>) -> Line<'static> {
    // What tells most comes first, as narrow screens cut the rest.
    let acts = [
        Act::Compute,
        Act::Stall,
        Act::Wait,
        Act::Copy,
        Act::BlockingCopy,
        Act::Read,
        Act::Sampling,
        Act::Graph,
        Act::Text,
    ];
    let mut spans = Vec::new();
    for act in acts {
        let style = cx.theme.style(role_of(act));
        spans.push(Span::styled(sign_of(cx, act).to_string(), style));
        spans.push(styled(cx, Role::Dim, format!(" {}  ", name_of(act))));
    }
    Line::from(spans)
}

/// The spans of the selected ubatch in their order; where room is short, the longest of them.
fn details(cx: &Context<'_>, ubatch: &RecentUbatch, pen: &mut Pen<'_>) {
    let plan = cx.session.plans.get(&ubatch.plan());
    let spans = ubatch.parts.iter().chain(&ubatch.host);
    let mut told: Vec<_> = spans.filter_map(|s| Some((s, act(s, plan)?))).collect();
    told.retain(|(span, (_, act))| *act != Act::Wait || span.duration_ns() > 0);
    let all = told.len();
    // The heading, and a line about those that are left out.
    let room = pen.room().saturating_sub(2);
    if room < 2 {
        return;
    }
    told.sort_by_key(|(s, _)| std::cmp::Reverse(s.duration_ns()));
    told.truncate(room);
    told.sort_by_key(|(s, _)| (s.start_ns, s.end_ns));
    let columns = format!("{:>10} {:>10}  {:<9} what", "after", "took", "where");
    pen.line(styled(cx, Role::Dim, columns));
    for (span, (lane, act)) in &told {
        let name = match lane {
            Lane::Host => "host".to_string(),
            Lane::Device(index) => cx.session.device_name(*index),
        };
        let after = match span.start_ns.checked_sub(ubatch.span.start_ns) {
            Some(ns) => Nanos(ns as f64).to_string(),
            None => "before".to_string(),
        };
        let took = Nanos(span.duration_ns() as f64).to_string();
        let style = if *lane == Lane::Host { Style::new() } else { device_style(cx, &name) };
        pen.line(Line::from(vec![
            styled(cx, Role::Dim, format!("{after:>10} ")),
            styled(cx, role_of(*act), format!("{took:>10}  ")),
            Span::styled(format!("{name:<9} "), style),
            styled(cx, role_of(*act), sign_of(cx, *act).to_string()),
            raw(format!(" {}", what(cx, span, *act, plan.map(AsRef::as_ref)))),
        ]));
    }
    if told.len() < all {
        let text = format!("{} shorter spans have no room here", all - told.len());
        pen.line(styled(cx, Role::Dim, text));
    }
}

/// What ends a wait.
fn until(sync: SyncKind) -> &'static str {
    match sync {
        SyncKind::None => "for nothing: the device runs in step with the host",
        SyncKind::UserInput => "until an input may be overwritten",
        SyncKind::Event => "for another device's event",
        SyncKind::MoeIds => "until the host has read which experts were chosen",
        SyncKind::BlockingCopy => "until both devices are drained for a blocking copy",
    }
}

fn what(
    cx: &Context<'_>,
    span: &crate::base::event::Span,
    act: Act,
    plan: Option<&crate::base::event::PlanFact>,
) -> String {
    let name = name_of(act);
    let of = |split: u16| plan.and_then(|p| p.splits.get(usize::from(split)));
    match span.kind {
        SpanKind::Compute { split, .. } => {
            let Some(fact) = of(split) else { return format!("{name} split {split}") };
            let nodes = counted(fact.nodes.len() as u64, "node");
            format!("{name} split {split}: {nodes}; cut here: {}", fact.cause)
        }
        SpanKind::Wait { split, sync, .. } => {
            format!("{name} before split {split}, {}", until(sync))
        }
        SpanKind::Copy { split, input, from, .. } => {
            let input = of(split).and_then(|s| s.inputs.get(usize::from(input)));
            let (tensor, cause) = input.map_or(("a tensor", ""), |i| (&i.tensor, &i.cause));
            let from = cx.session.device_name(from);
            format!(
                "{name}: {tensor} from {from}, {}, for split {split}: {cause}",
                Bytes(span.bytes)
            )
        }
        SpanKind::Output { output, from, .. } => {
            let output = plan.and_then(|p| p.outputs.get(usize::from(output)));
            let tensor = output.map_or("a tensor", |o| &o.tensor);
            format!("{name}: {tensor} from {}, {}", cx.session.device_name(from), Bytes(span.bytes))
        }
        _ => name.to_string(),
    }
}
