//! Each GPU, the host, the watched processes and the observer itself, by their counters; and what
//! cannot be read, with the reason.
//!
//! It is read like a page: `selected` of the state is the first line that is shown, and `inner` how many
//! lines there were when it was last drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::tui::panel::{Context, Panel, PanelState};
use crate::app::tui::theme::Role;
use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::DeviceFact;
use crate::base::units::Bytes;

use super::gpu;
use super::host;
use super::kit::{Pen, device, styled, wrapped};
use super::observed::{gpu_of, is_counter_evidence, is_device_evidence, told_absent};

/// The panel.
#[derive(Debug)]
pub(in crate::app::tui) struct Devices;

/// Lines about one device, the host, a process.
pub(super) struct Block {
    pub lines: Vec<Line<'static>>,
}

impl Block {
    /// Begins with a heading.
    pub(super) fn new(heading: Line<'static>) -> Self {
        Self { lines: vec![heading] }
    }

    /// One more line, marked when the selected finding rests on one of the counters.
    pub(super) fn line(
        &mut self,
        cx: &Context<'_>,
        (subject, counters): (Subject, &[Counter]),
        mut spans: Vec<Span<'static>>,
    ) {
        let is_evidence = is_counter_evidence(cx, subject, counters);
        let sign = match (is_evidence, cx.theme.unicode) {
            (false, _) => "  ",
            (true, true) => "◆ ",
            (true, false) => "* ",
        };
        spans.insert(0, styled(cx, Role::Evidence, sign));
        if is_evidence && let Some(label) = spans.get_mut(1) {
            label.style = label.style.patch(cx.theme.style(Role::Evidence));
        }
        self.lines.push(Line::from(spans));
    }

    /// Words over as many lines as they need.
    pub(super) fn words(&mut self, cx: &Context<'_>, role: Role, text: &str, width: usize) {
        for line in wrapped(text, width.saturating_sub(2)) {
            self.lines.push(Line::from(styled(cx, role, format!("  {line}"))));
        }
    }

    fn has(&self, search: &str) -> bool {
        let mut lines = self.lines.iter();
        search.is_empty() || lines.any(|l| l.to_string().to_lowercase().contains(search))
    }
}

/// What a line is about, in a column.
pub(super) fn label(cx: &Context<'_>, text: &str) -> Span<'static> {
    styled(cx, Role::Dim, format!("{text:<12}"))
}

/// All blocks that the search leaves.
fn blocks(cx: &Context<'_>, width: usize) -> Vec<Block> {
    let session = cx.session;
    let mut all: Vec<Block> = session.counters.gpus().map(|g| gpu::block(cx, g, width)).collect();
    let lost = session.absent.values().filter_map(|a| match a.subject {
        Some(Subject::Gpu(gpu)) if a.counter.is_none() => Some((gpu, a)),
        _ => None,
    });
    for (gpu, absent) in lost.filter(|(gpu, _)| !session.counters.gpus().any(|g| g == *gpu)) {
        let heading = styled(cx, Role::Strong, format!("GPU {gpu}"));
        let mut block = Block::new(Line::from(heading));
        block.words(cx, Role::Bad, &told_absent(absent), width);
        all.push(block);
    }
    for fact in session.sums.devices.iter().filter(|d| d.name != "CPU") {
        if gpu_of(session, fact).is_none() {
            all.push(without_counters(cx, fact, width));
        }
    }
    all.extend(sources(cx, width));
    all.extend(host::block(cx, width));
    all.extend(host::processes(cx, width));
    all.extend(host::observer(cx));
    all.retain(|b| b.has(cx.search));
    all
}

/// A device of the session that no counters can be told to belong to.
fn without_counters(cx: &Context<'_>, fact: &DeviceFact, width: usize) -> Block {
    let mut heading = Line::from(vec![device(cx, &fact.name)]);
    if is_device_evidence(cx, fact.index) {
        let sign = if cx.theme.unicode { " ◆" } else { " *" };
        heading.push_span(styled(cx, Role::Evidence, sign));
    }
    if !fact.description.is_empty() {
        heading.push_span(styled(cx, Role::Dim, format!("  {}", fact.description)));
    }
    let mut block = Block::new(heading);
    let memory = match fact.memory_bytes_total {
        0 => "memory unknown".to_string(),
        total => format!(
            "memory {}, {} of it free when the session began",
            Bytes(total),
            Bytes(fact.memory_bytes_free)
        ),
    };
    block.words(cx, Role::Text, &memory, width);
    let why = if fact.is_virtual {
        "no counters: a virtual device computes on the CPU"
    } else if cx.session.counters.gpus().next().is_some() {
        "no counters: which of the GPUs that have some it is cannot be told"
    } else {
        "no counters of it were read"
    };
    block.words(cx, Role::Dim, why, width);
    block
}

/// Sources that tell nothing at all, and counters that cannot be read.
fn sources(cx: &Context<'_>, width: usize) -> Option<Block> {
    let absent: Vec<_> = cx
        .session
        .absent
        .values()
        .filter(|a| !matches!(a.subject, Some(Subject::Gpu(_))))
        .collect();
    if absent.is_empty() {
        return None;
    }
    let mut block = Block::new(Line::from(styled(cx, Role::Strong, "not read")));
    for absent in absent {
        // Without an NVIDIA GPU there is nothing wrong with that.
        let role = if absent.source == Source::Nvml { Role::Text } else { Role::Dim };
        block.words(cx, role, &told_absent(absent), width);
    }
    Some(block)
}

impl Panel for Devices {
    fn title(&self) -> &'static str {
        "Devices"
    }

    fn rows(&self, cx: &Context<'_>, state: &PanelState) -> usize {
        // How many lines there are depends on the width, which drawing remembers.
        let lines: usize = blocks(cx, 80).iter().map(|b| b.lines.len()).sum();
        lines.max(state.inner)
    }

    fn draw(&self, cx: &Context<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        let blocks = blocks(cx, area.width.into());
        if blocks.is_empty() {
            let text = match cx.search {
                "" => "No counter has been read yet.",
                _ => "No device has what is looked for.",
            };
            Pen::new(cx, area, buf).words(Role::Dim, text);
            return;
        }
        let all: usize = blocks.iter().map(|b| b.lines.len()).sum();
        let height = usize::from(area.height);
        state.inner = all;
        state.selected = state.selected.min(all.saturating_sub(height));
        let mut lines = blocks.iter().flat_map(|b| &b.lines).skip(state.selected);
        let mut pen = Pen::new(cx, area, buf);
        let left = all - state.selected;
        let shown = if left > height { height.saturating_sub(1) } else { left };
        for line in lines.by_ref().take(shown) {
            pen.line(line.clone());
        }
        if left > height {
            let arrow = if cx.theme.unicode { "↓" } else { "v" };
            let text = format!("{arrow} {} more lines", left - shown);
            pen.line(styled(cx, Role::Dim, text));
        }
    }
}
