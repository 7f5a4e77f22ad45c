//! What is known of a foreign server's layers and memory: what its log and its interface tell, and in
//! words what they do not.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::tui::panel::{Context, PanelState};
use crate::app::tui::theme::Role;
use crate::base::event::ServedModel;
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, Load};

use super::kit::{Pen, device, device_style, matches, percent, raw, share, styled};
use super::table::{Column, Row, left, rest, right, table};

const COLUMNS: [Column; 8] = [
    left("buffers of", 12, 0),
    right("layers", 6, 0),
    right("weights", 10, 0),
    right("KV cache", 10, 0),
    right("compute", 10, 0),
    right("other", 10, 2),
    right("all", 10, 1),
    rest("", 10, 3),
];

/// Bytes of one device or kind of memory.
struct Held {
    device: String,
    layers: Option<u64>,
    weights: u64,
    kv: u64,
    compute: u64,
    other: u64,
}

impl Held {
    fn all(&self) -> u64 {
        self.weights + self.kv + self.compute + self.other
    }
}

fn held(cx: &Context<'_>, load: &Load) -> Vec<Held> {
    let mut all: Vec<Held> = Vec::new();
    let mut at = |name: &str| {
        let known = all.iter().position(|h| h.device == name);
        known.unwrap_or_else(|| {
            let layers = load.layers_by_device.iter().find(|l| l.0 == name).map(|l| l.1);
            let device = name.to_string();
            all.push(Held { device, layers, weights: 0, kv: 0, compute: 0, other: 0 });
            all.len() - 1
        })
    };
    let places: Vec<usize> = load.buffers.iter().map(|b| at(&b.device)).collect();
    for (name, _) in &load.layers_by_device {
        at(name);
    }
    for (buffer, place) in load.buffers.iter().zip(places) {
        let held = &mut all[place];
        match buffer.kind {
            BufferKind::Model => held.weights += buffer.bytes,
            BufferKind::Kv => held.kv += buffer.bytes,
            BufferKind::Compute => held.compute += buffer.bytes,
            _ => held.other += buffer.bytes,
        }
    }
    all.retain(|h| matches(cx, &[&h.device]));
    all
}

/// Rows of its table.
pub(super) fn rows(cx: &Context<'_>) -> usize {
    cx.session.log.told().last_load().map_or(0, |load| held(cx, load).len())
}

/// Draws what is known.
pub(super) fn draw(cx: &Context<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
    let session = cx.session;
    let mut pen = Pen::new(cx, area, buf);
    let models = session.server.as_ref().map_or(&[][..], |s| &s.models);
    let load = session.log.told().last_load();
    if models.is_empty() && load.is_none() {
        let text = match &session.server {
            Some(_) => "The server has no model loaded, or does not tell which.",
            None => "No model is loaded yet.",
        };
        pen.words(Role::Dim, text);
        return;
    }
    for model in models.iter().take(pen.room().saturating_sub(3).max(1)) {
        pen.line(served(cx, model));
        if let Some(line) = on_gpus(cx, model, pen.width()) {
            pen.line(line);
        }
    }
    let Some(load) = load else {
        pen.words(
            Role::Dim,
            "Which layer is on which device is not told: the server's interface does not say it, \
             and its log is not followed (or begins after the model was loaded).",
        );
        return;
    };
    if let Some(layers) = load.layers {
        pen.line(strip(cx, load, layers.offloaded, layers.total, pen.width()));
    } else {
        pen.words(Role::Dim, "The log does not tell how many layers are on GPUs.");
    }
    pen.words(
        Role::Dim,
        "A foreign server does not tell what each layer takes of the time, nor why it is where it is.",
    );
    let held = held(cx, load);
    if held.is_empty() {
        pen.words(Role::Dim, "The log names no buffers.");
        return;
    }
    let largest = held.iter().map(Held::all).max().unwrap_or(0);
    let row = |at: usize| {
        let h = &held[at];
        let bytes = |bytes: u64| match bytes {
            0 => styled(cx, Role::Dim, "-"),
            bytes => raw(Bytes(bytes).to_string()),
        };
        let bar = cx.theme.bar(share(h.all(), largest), 20);
        Row::new(vec![
            device(cx, &h.device),
            raw(h.layers.map_or_else(|| "-".to_string(), |n| n.to_string())),
            bytes(h.weights),
            bytes(h.kv),
            bytes(h.compute),
            bytes(h.other),
            bytes(h.all()),
            Span::styled(bar, device_style(cx, &h.device)),
        ])
    };
    let (rest, buf) = pen.give();
    table(cx, state, &COLUMNS, (held.len(), row), rest, buf);
}

fn served(cx: &Context<'_>, model: &ServedModel) -> Line<'static> {
    let mut about = Vec::new();
    let words = [&model.architecture, &model.quantization];
    about.extend(words.into_iter().filter(|w| !w.is_empty()).cloned());
    about.extend(model.layers.map(|n| format!("{n} layers")));
    about.extend(model.context_tokens.map(|n| format!("context of {n} tokens")));
    Line::from(vec![
        styled(cx, Role::Strong, model.name.clone()),
        raw(if about.is_empty() { String::new() } else { format!(": {}", about.join(", ")) }),
    ])
}

/// How much of a model is on GPUs, as the server says.
fn on_gpus(cx: &Context<'_>, model: &ServedModel, width: usize) -> Option<Line<'static>> {
    let (all, vram) = (model.bytes?, model.vram_bytes?);
    let part = share(vram, all);
    let role = if vram < all { Role::Warning } else { Role::Good };
    let bar = cx.theme.bar(part, width.saturating_sub(44).clamp(4, 40));
    let text = format!(" {} of {} ({})", Bytes(vram), Bytes(all), percent(part));
    Some(Line::from(vec![raw("on GPUs  "), styled(cx, role, bar), raw(text)]))
}

/// Layers by where they are; which of them are offloaded follows from their number, as engines
/// offload from the last one down.
fn strip(cx: &Context<'_>, load: &Load, offloaded: u64, total: u64, width: usize) -> Line<'static> {
    let role = if offloaded < total { Role::Warning } else { Role::Good };
    let bar = cx.theme.bar(share(offloaded, total), width.saturating_sub(44).clamp(4, 40));
    let mut spans = vec![
        raw("layers   "),
        styled(cx, role, bar),
        raw(format!(" {offloaded} of {total} on GPUs")),
    ];
    if let Some(on_gpu) = &load.output_on_gpu {
        let place = if on_gpu.value { ", the output too" } else { ", the output not" };
        spans.push(raw(place));
    }
    Line::from(spans)
}
