//! The splits of the cut that took most of a phase's time: where the graph was cut, why, and what
//! each of them waits, copies and computes.

use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::advise::diagnose::Place;
use crate::app::tui::panel::{Context, Panel, PanelState};
use crate::app::tui::theme::Role;
use crate::base::event::{Phase, PlanFact, SplitFact};
use crate::base::units::{Bytes, BytesPerSecond, Nanos, counted};
use crate::observe::session::{Cut, CutPhase, InputSums, SplitSums};

use super::kit::{Pen, device, matches, percent, raw, share, styled};
use super::observed::{cut, is_evidence, phase, phase_name, phase_ns, toggle_phase, unit};
use super::table::{Column, Row, left, rest, right, table, wide};
use super::{kit, nodes};

/// The panel.
#[derive(Debug)]
pub(in crate::app::tui) struct Splits;

const COLUMNS: [Column; 11] = [
    right("#", 3, 0),
    left("device", 8, 0),
    right("nodes", 5, 4),
    right("wait", 9, 0),
    right("copy", 9, 0),
    right("compute", 9, 0),
    right("copied", 10, 3),
    right("share", 7, 0),
    left("", 12, 5),
    wide("nodes from, to", 24, 34, 6),
    rest("cut because", 36, 1),
];

/// Lines of detail on the selected split, where there is room for them below the table.
const DETAIL_LINES: usize = 5;

/// A cut of one phase, as all that draws a split needs it.
pub(super) struct Shown<'a> {
    pub phase: Phase,
    pub cut: &'a Cut,
    pub sums: &'a CutPhase,
    pub cuts: usize,
    /// A plan that cuts this way and is for as many tokens as ubatches of the phase have: its shapes.
    pub plan: &'a PlanFact,
    /// Wall time of the phase.
    pub total_ns: u64,
}

impl<'a> Shown<'a> {
    pub(super) fn of(cx: &Context<'a>, state: &PanelState) -> Option<Self> {
        let phase = phase(cx.session, state);
        let (cut, sums, cuts) = cut(cx.session, phase)?;
        let last = cx.session.recent.last(phase == Phase::Prompt);
        let plan = last.and_then(|u| cx.session.plans.get(&u.plan())).map(AsRef::as_ref);
        let plan = plan.filter(|plan| cut.is_like(plan)).unwrap_or(cut.fact());
        Some(Self { phase, cut, sums, cuts, plan, total_ns: phase_ns(cx.session, phase) })
    }

    /// Indices of the splits that the search leaves.
    fn found(&self, cx: &Context<'_>) -> Vec<usize> {
        let splits = self.cut.fact().splits.iter().enumerate();
        let has = |split: &SplitFact| {
            let name = cx.session.device_name(split.device);
            matches(cx, &[&name, &split.cause])
                || split.inputs.iter().any(|i| matches(cx, &[&i.tensor, &i.cause]))
                || split.nodes.iter().any(|n| matches(cx, &[&n.name, &n.op]))
        };
        splits.filter(|(_, s)| cx.search.is_empty() || has(s)).map(|(i, _)| i).collect()
    }

    /// The split in the selected row.
    pub(super) fn selected(&self, cx: &Context<'_>, state: &PanelState) -> Option<usize> {
        let found = self.found(cx);
        found.get(state.selected.min(found.len().saturating_sub(1))).copied()
    }

    /// A time of all ubatches in the unit of the phase.
    pub(super) fn time(&self, ns: u64) -> String {
        Nanos(ns as f64 / unit(self.phase, self.sums.tokens)).to_string()
    }

    fn bytes(&self, bytes: u64) -> String {
        Bytes((bytes as f64 / unit(self.phase, self.sums.tokens)) as u64).to_string()
    }
}

/// Time of the copies of a split.
pub(super) fn copy_ns(sums: &SplitSums) -> u64 {
    sums.inputs.iter().map(|i| i.copy_ns).sum()
}

impl Panel for Splits {
    fn title(&self) -> &'static str {
        "Splits"
    }

    fn rows(&self, cx: &Context<'_>, state: &PanelState) -> usize {
        let Some(shown) = Shown::of(cx, state) else { return 0 };
        if state.is_open { nodes::rows(cx, &shown, state) } else { shown.found(cx).len() }
    }

    fn draw(&self, cx: &Context<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
        let Some(shown) = Shown::of(cx, state) else {
            nothing(cx, area, buf);
            return;
        };
        if state.is_open {
            nodes::draw(cx, &shown, state, area, buf);
        } else {
            list(cx, &shown, state, area, buf);
        }
    }

    fn key(&self, _cx: &Context<'_>, state: &mut PanelState, key: KeyCode) -> bool {
        let is_toggle = key == KeyCode::Char('p');
        if is_toggle {
            toggle_phase(state);
            state.is_open = false;
        }
        is_toggle
    }

    fn keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("p", "prompt or decode"), ("Enter", "nodes of the split")]
    }

    fn opens(&self) -> bool {
        true
    }
}

/// Why there are no splits.
fn nothing(cx: &Context<'_>, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(cx, area, buf);
    let session = cx.session;
    if session.server.is_some() || session.log.count() > 0 && session.setup.is_none() {
        pen.words(
            Role::Text,
            "A foreign server does not tell how it cuts its graph, nor what each part takes.",
        );
        let graph = session.log.told().last_load().and_then(|l| l.graph);
        if let Some(graph) = graph {
            let told = |n: Option<u64>| n.map_or_else(|| "not told".to_string(), |n| n.to_string());
            let (prompt, decode) = (graph.splits_prompt, graph.splits_decode);
            let text = match decode {
                None => format!("Its log tells how many splits there are: {}.", told(prompt)),
                Some(_) => format!(
                    "Its log tells how many splits there are: {} for a prompt, {} for one token.",
                    told(prompt),
                    told(decode)
                ),
            };
            pen.words(Role::Text, &text);
        }
        pen.words(
            Role::Dim,
            "`gpuwhy run` on the same model file shows splits as ggml's scheduler cuts them.",
        );
    } else if session.sums.cuts.is_empty() {
        pen.words(Role::Dim, "No graph has been cut yet: the model is being loaded, or waits.");
    } else {
        pen.words(Role::Dim, "A graph has been cut, but no ubatch has run by it yet.");
    }
}

fn list(cx: &Context<'_>, shown: &Shown<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
    let found = shown.found(cx);
    let mut pen = Pen::new(cx, area, buf);
    pen.line(heading(cx, shown, found.len()));
    if found.is_empty() {
        pen.words(Role::Dim, "No split has what is looked for.");
        return;
    }
    let room = pen.room();
    let detail = if room >= found.len() + 1 + DETAIL_LINES || room >= 2 * DETAIL_LINES + 2 {
        // What the table does not need.
        DETAIL_LINES.max(room.saturating_sub(found.len() + 1).min(2 * DETAIL_LINES))
    } else {
        0
    };
    let (below, buf) = pen.give();
    let height = below.height - detail as u16;
    let list = Rect { height, ..below };
    let row = |at: usize| split_row(cx, shown, found[at]);
    table(cx, state, &COLUMNS, (found.len(), row), list, buf);
    let selected = found.get(state.selected).copied();
    let rest = Rect { y: below.y + height, height: detail as u16, ..below };
    if let Some(split) = selected.filter(|_| detail > 0) {
        let mut pen = Pen::new(cx, rest, buf);
        let rule = if cx.theme.unicode { "─" } else { "-" };
        pen.line(styled(cx, Role::Dim, rule.repeat(pen.width())));
        about(cx, shown, split, &mut pen);
    }
}

fn heading(cx: &Context<'_>, shown: &Shown<'_>, found: usize) -> Line<'static> {
    let all = shown.cut.fact().splits.len();
    let per = match shown.phase {
        Phase::Decode => "per token",
        Phase::Prompt => "in all",
    };
    let splits = counted(all as u64, "split");
    let count = if found == all { splits } else { format!("{found} of {splits}") };
    let mut line = Line::from(vec![
        styled(cx, Role::Strong, format!("{} ", phase_name(shown.phase))),
        raw(format!("{count}, times {per}, share of {}", shown.time(shown.total_ns))),
    ]);
    if shown.cuts > 1 {
        line.push_span(styled(
            cx,
            Role::Dim,
            format!("; cut in {} ways, this one took most of the time", shown.cuts),
        ));
    }
    line
}

fn split_row(cx: &Context<'_>, shown: &Shown<'_>, index: usize) -> Row {
    let fact = &shown.cut.fact().splits[index];
    let Some(sums) = shown.sums.splits.get(index) else { return Row::new(Vec::new()) };
    let (copy, bytes) = (copy_ns(sums), sums.inputs.iter().map(|i| i.bytes).sum());
    let part = share(sums.wait_ns + copy + sums.compute_ns, shown.total_ns);
    let name = cx.session.device_name(fact.device);
    let from_to = match (fact.nodes.first(), fact.nodes.last()) {
        (Some(first), Some(last)) => format!("{} .. {}", first.name, last.name),
        _ => String::new(),
    };
    let timed = |role, ns: u64| {
        let role = if ns == 0 { Role::Dim } else { role };
        styled(cx, role, shown.time(ns))
    };
    Row::new(vec![
        raw(index.to_string()),
        device(cx, &name),
        raw(fact.nodes.len().to_string()),
        timed(Role::Wait, sums.wait_ns),
        timed(Role::Copy, copy),
        timed(Role::Compute, sums.compute_ns),
        styled(cx, if bytes == 0 { Role::Dim } else { Role::Text }, shown.bytes(bytes)),
        raw(percent(part)),
        ratatui::text::Span::styled(cx.theme.bar(part, 12), kit::device_style(cx, &name)),
        styled(cx, Role::Dim, from_to),
        raw(fact.cause.clone()),
    ])
    .evidence(is_split_evidence(cx, shown, index))
}

fn is_split_evidence(cx: &Context<'_>, shown: &Shown<'_>, split: usize) -> bool {
    is_evidence(cx, |place| match place {
        Place::Split { phase, index } => *phase == shown.phase && usize::from(*index) == split,
        Place::Device(device) => shown.cut.fact().splits[split].device == *device,
        _ => false,
    })
}

/// What a split is, why it is there and what it needs.
pub(super) fn about(cx: &Context<'_>, shown: &Shown<'_>, index: usize, pen: &mut Pen<'_>) {
    let fact = &shown.cut.fact().splits[index];
    let Some(sums) = shown.sums.splits.get(index) else { return };
    let name = cx.session.device_name(fact.device);
    let weights = fact.nodes.iter().map(|n| n.weight_bytes).sum();
    let nodes = counted(fact.nodes.len() as u64, "node");
    let mut line = Line::from(vec![
        styled(cx, Role::Strong, format!("#{index} ")),
        device(cx, &name),
        raw(format!(" {nodes}, reads {} of weights, ran {} times", Bytes(weights), sums.count)),
    ]);
    if cx.session.device(fact.device).is_some_and(|d| d.is_virtual) {
        line.push_span(styled(cx, Role::Dim, "; a virtual device: its speed says nothing"));
    }
    pen.line(line);
    pen.words(Role::Text, &format!("cut here: {}", fact.cause));
    if fact.inputs.is_empty() {
        pen.line(styled(cx, Role::Dim, "needs nothing from other devices"));
    }
    for (input, copied) in fact.inputs.iter().zip(&sums.inputs) {
        let from = cx.session.device_name(input.from);
        let text = told_input(&input.tensor, &from, input.bytes, copied, &input.cause);
        pen.words(Role::Copy, &text);
    }
}

fn told_input(tensor: &str, from: &str, planned: u64, sums: &InputSums, cause: &str) -> String {
    let bytes = sums.bytes.checked_div(sums.copies).unwrap_or(planned);
    let rate = if sums.copy_ns > 0 {
        format!(" at {}", BytesPerSecond(sums.bytes as f64 * 1e9 / sums.copy_ns as f64))
    } else {
        String::new()
    };
    let blocking = if sums.blocking > 0 { ", the host waits" } else { "" };
    let copies = sums.copies;
    format!(
        "copies {tensor} from {from}: {}{rate}, {copies} times{blocking}: {cause}",
        Bytes(bytes)
    )
}
