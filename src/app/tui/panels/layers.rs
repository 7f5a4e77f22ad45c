//! Where every layer is, why there, and which of them take the time; and how much of each device's
//! memory that needs.

use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::advise::diagnose::Place;
use crate::app::tui::panel::{Context, Panel, PanelState};
use crate::app::tui::theme::{Role, device_mark};
use crate::base::event::Phase;
use crate::base::setup::{DeviceMemory, LayerPlacement, PartPlacement, SetupFact};
use crate::base::units::{Bytes, Nanos};

use super::heat::{Heat, Part};
use super::kit::{Pen, device, device_style, matches, percent, raw, styled};
use super::observed::{is_evidence, phase, phase_name, phase_ns, toggle_phase, unit};
use super::server_memory;
use super::table::{Column, Row, left, rest, right, table};

/// The panel.
#[derive(Debug)]
pub(in crate::app::tui) struct Layers;

const DENSE: [Column; 8] = [
    left("layer", 6, 0),
    left("device", 8, 0),
    right("weights", 10, 0),
    left("KV cache", 17, 1),
    right("share", 7, 0),
    left("", 10, 2),
    right("time", 9, 3),
    rest("placed here because", 20, 4),
];

const WITH_EXPERTS: [Column; 9] = [
    left("layer", 6, 0),
    left("device", 8, 0),
    right("weights", 10, 1),
    left("experts", 17, 0),
    left("KV cache", 17, 4),
    right("share", 7, 0),
    left("", 10, 2),
    right("time", 9, 3),
    rest("placed here because", 20, 5),
];

/// Cells of the bar of a layer's share.
const BAR: usize = 10;

/// The embedding, every layer, the output.
fn all(setup: &SetupFact) -> Vec<(Part, &LayerPlacement)> {
    let embedding = setup.placement.embedding.iter().map(|l| (Part::Embedding, l));
    let layers = setup.placement.layers.iter();
    let part = |l: &LayerPlacement| l.layer.parse().map_or(Part::Output, Part::Layer);
    embedding.chain(layers.map(|l| (part(l), l))).collect()
}

fn found<'a>(cx: &Context<'_>, setup: &'a SetupFact) -> Vec<(Part, &'a LayerPlacement)> {
    let mut all = all(setup);
    all.retain(|(part, l)| {
        let kv = l.kv.as_ref().map_or("", |k| &k.device);
        let experts = l.experts.as_ref().map_or("", |e| &e.device);
        matches(cx, &[name(*part, l), &l.device, &l.cause, kv, experts])
    });
    all
}

fn name(part: Part, layer: &LayerPlacement) -> &str {
    if part == Part::Embedding { "embd" } else { &layer.layer }
}

impl Panel for Layers {
    fn title(&self) -> &'static str {
        "Layers"
    }

    fn rows(&self, cx: &Context<'_>, _state: &PanelState) -> usize {
        match &cx.session.setup {
            Some(setup) => found(cx, setup).len(),
            None => server_memory::rows(cx),
        }
    }

    fn draw(&self, cx: &Context<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
        match &cx.session.setup {
            Some(setup) => ours(cx, setup, state, area, buf),
            None => server_memory::draw(cx, state, area, buf),
        }
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

fn ours(cx: &Context<'_>, setup: &SetupFact, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
    let phase = phase(cx.session, state);
    let heat = Heat::of(cx.session, phase);
    let mut pen = Pen::new(cx, area, buf);
    pen.line(heading(cx, setup, phase, &heat));
    let all = all(setup);
    strip(cx, &all, &heat, &mut pen);
    let bars = setup.memory.devices.len().min(pen.room().saturating_sub(4));
    memory(cx, setup, bars, &mut pen);
    exceptions(cx, setup, &mut pen);
    let found = found(cx, setup);
    if found.is_empty() {
        pen.words(Role::Dim, "No layer has what is looked for.");
        return;
    }
    let total_ns = phase_ns(cx.session, phase) as f64;
    let tokens = cx.session.sums.phases.get(&phase).map_or(0, |p| p.tokens);
    let largest = all.iter().map(|(p, _)| heat.ns(*p)).fold(0.0, f64::max);
    let has_experts = all.iter().any(|(_, l)| l.experts.is_some());
    let row = |at: usize| {
        let (part, layer) = found[at];
        let ns = heat.ns(part);
        let (share, time) = if total_ns > 0.0 {
            (percent(ns / total_ns), Nanos(ns / unit(phase, tokens)).to_string())
        } else {
            ("-".to_string(), "-".to_string())
        };
        let bar = cx.theme.bar(if largest > 0.0 { ns / largest } else { 0.0 }, BAR);
        let mut cells = vec![
            raw(name(part, layer).to_string()),
            device(cx, &layer.device),
            raw(Bytes(layer.weight_bytes).to_string()),
            elsewhere(cx, layer.kv.as_ref(), &layer.device),
            raw(share),
            Span::styled(bar, device_style(cx, &layer.device)),
            raw(time),
            styled(cx, Role::Dim, layer.cause.clone()),
        ];
        if has_experts {
            cells.insert(3, elsewhere(cx, layer.experts.as_ref(), &layer.device));
        }
        Row::new(cells).evidence(is_layer_evidence(cx, part, layer))
    };
    let columns: &[Column] = if has_experts { &WITH_EXPERTS } else { &DENSE };
    let (rest, buf) = pen.give();
    table(cx, state, columns, (found.len(), row), rest, buf);
}

fn is_layer_evidence(cx: &Context<'_>, part: Part, layer: &LayerPlacement) -> bool {
    is_evidence(cx, |place| match place {
        Place::Layer(named) => part != Part::Embedding && *named == layer.layer,
        Place::Device(index) => cx.session.device(*index).is_some_and(|d| d.name == layer.device),
        _ => false,
    })
}

/// A part of a layer with its bytes; where it is only when that is not the layer's own device.
fn elsewhere(cx: &Context<'_>, part: Option<&PartPlacement>, home: &str) -> Span<'static> {
    match part {
        None => styled(cx, Role::Dim, "-"),
        Some(part) if part.device == home => raw(Bytes(part.bytes).to_string()),
        Some(part) => Span::styled(
            format!("{} {}", Bytes(part.bytes), part.device),
            cx.theme.style(Role::Warning),
        ),
    }
}

fn heading(cx: &Context<'_>, setup: &SetupFact, phase: Phase, heat: &Heat) -> Line<'static> {
    let placement = &setup.placement;
    let (offloaded, total) = (placement.layers_offloaded, placement.layers_total);
    let (has_run, is_timed) = (phase_ns(cx.session, phase) > 0, heat.is_timed);
    let note = match (has_run, is_timed) {
        (false, _) => "nothing has run yet",
        (true, true) => "share of its time",
        (true, false) => "share of its time, estimated",
    };
    let mut line = Line::from(vec![
        styled(cx, Role::Strong, format!("{} ", phase_name(phase))),
        raw(format!("{offloaded} of {total} layers offloaded; ")),
        styled(cx, Role::Dim, note),
    ]);
    if has_run && !is_timed {
        let how = " by bytes of weights, as nodes are not timed one by one";
        line.push_span(styled(cx, Role::Dim, how));
    }
    if let Some(limit) = &placement.limit {
        line.push_span(raw(format!("; {limit}")));
    }
    line
}

/// All layers in one line, by the mark of their device; below it how much of the time each takes.
fn strip(cx: &Context<'_>, all: &[(Part, &LayerPlacement)], heat: &Heat, pen: &mut Pen<'_>) {
    if all.is_empty() || pen.room() < 6 {
        return;
    }
    let room = pen.width().saturating_sub(9);
    let cells = (room / all.len()).clamp(1, 3);
    // Where there are more layers than cells, a cell stands for several of them.
    let each = all.len().div_ceil(room.max(1)).max(1);
    let mut marks = vec![styled(cx, Role::Dim, "where    ")];
    let mut levels = Vec::new();
    for group in all.chunks(each) {
        let (_, first) = group[0];
        let mark = device_mark(&first.device).to_string().repeat(cells);
        let mut style = device_style(cx, &first.device);
        if group.iter().any(|(part, layer)| is_layer_evidence(cx, *part, layer)) {
            style = style.patch(cx.theme.style(Role::Evidence));
        }
        marks.push(Span::styled(mark, style));
        levels.extend(std::iter::repeat_n(
            group.iter().map(|(p, _)| heat.ns(*p)).sum::<f64>(),
            cells,
        ));
    }
    pen.line(Line::from(marks));
    let largest = levels.iter().copied().fold(0.0, f64::max);
    if largest > 0.0 {
        let line = cx.theme.spark(&levels, largest, levels.len());
        pen.line(Line::from(vec![styled(cx, Role::Dim, "time     "), raw(line)]));
    }
}

/// Each device's memory: weights, KV cache, compute buffers, what is used by others, what is free.
fn memory(cx: &Context<'_>, setup: &SetupFact, lines: usize, pen: &mut Pen<'_>) {
    const SIGNS: [(char, char, &str); 4] =
        [('█', 'W', "weights"), ('▓', 'K', "KV"), ('▒', 'C', "compute"), ('░', 'u', "others")];
    let sign = |at: usize| if cx.theme.unicode { SIGNS[at].0 } else { SIGNS[at].1 };
    let free = if cx.theme.unicode { '·' } else { '.' };
    // With the parts in figures, where there is room for them.
    let has_figures = pen.width() >= 116;
    let beside = if has_figures { 106 } else { 36 };
    let width = pen.width().saturating_sub(beside).clamp(4, 60);
    for memory in setup.memory.devices.iter().take(lines) {
        let held_bytes = setup.held_bytes(memory);
        let parts = parts(memory, held_bytes);
        let total = memory.total_bytes.max(parts.iter().sum());
        let mut spans =
            vec![Span::styled(format!("{:<9}", memory.device), device_style(cx, &memory.device))];
        let (mut told, mut sum) = (0, 0);
        for (at, bytes) in parts.iter().enumerate() {
            sum += bytes;
            let end = (sum as f64 / total.max(1) as f64 * width as f64).round() as usize;
            let text = sign(at).to_string().repeat(end - told);
            told = end;
            spans.push(Span::styled(text, device_style(cx, &memory.device)));
        }
        spans.push(styled(cx, Role::Dim, free.to_string().repeat(width - told)));
        let of = match memory.total_bytes {
            0 => "unknown".to_string(),
            bytes => Bytes(bytes).to_string(),
        };
        let is_over = memory.total_bytes > 0 && held_bytes > memory.total_bytes;
        let role = if is_over { Role::Bad } else { Role::Text };
        let sign = if is_over { "!" } else { " " };
        spans.push(styled(cx, role, format!("{sign}{} of {of}", Bytes(held_bytes))));
        if has_figures {
            let detail = format!(
                "  {} weights, {} KV, {} compute, {} free",
                Bytes(parts[0]),
                Bytes(parts[1]),
                Bytes(parts[2]),
                Bytes(memory.free_bytes.saturating_sub(held_bytes))
            );
            spans.push(styled(cx, Role::Dim, detail));
        }
        pen.line(Line::from(spans));
    }
    if lines > 0 && pen.room() > 6 {
        let legend: Vec<String> =
            (0..SIGNS.len()).map(|at| format!("{} {}", sign(at), SIGNS[at].2)).collect();
        let legend = format!("         {}, {free} free", legend.join(", "));
        pen.line(styled(cx, Role::Dim, legend));
    }
}

/// Weights that are not where their layer is, as far as there is room beside the table.
fn exceptions(cx: &Context<'_>, setup: &SetupFact, pen: &mut Pen<'_>) {
    const SHOWN: usize = 3;
    let all = &setup.placement.exceptions;
    if pen.room() < 14 {
        return;
    }
    for exception in all.iter().take(SHOWN) {
        let more = match exception.count {
            0 | 1 => String::new(),
            n => format!(" and {} alike", n - 1),
        };
        pen.line(Line::from(vec![
            raw(format!("{}{more} on ", exception.weight)),
            device(cx, &exception.device),
            styled(cx, Role::Dim, format!(": {}", exception.cause)),
        ]));
    }
    if all.len() > SHOWN {
        let text = format!("and {} more kinds of weights elsewhere", all.len() - SHOWN);
        pen.line(styled(cx, Role::Dim, text));
    }
}

/// Weights, KV cache, compute buffers, and what was used before.
fn parts(memory: &DeviceMemory, held_bytes: u64) -> [u64; 4] {
    [
        memory.weight_bytes,
        memory.kv_bytes,
        held_bytes.saturating_sub(memory.weight_bytes + memory.kv_bytes),
        memory.total_bytes.saturating_sub(memory.free_bytes),
    ]
}
