//! How well the engine fills its batches, how fast it reads prompts and writes, and how long requests
//! wait for tokens.

use std::collections::VecDeque;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::tui::panel::{Context, Panel, PanelState};
use crate::app::tui::theme::Role;
use crate::base::counter::{Counter, Subject};
use crate::base::event::Phase;
use crate::base::stats::quantile;
use crate::base::units::{Nanos, counted};
use crate::observe::session::{RecentUbatch, Series, Session};

use super::histogram::{buckets, lines};
use super::kit::{Pen, percent, raw, styled};
use super::lanes::extent;
use super::observed::{history, is_counter_evidence};
use super::requests;

/// The panel.
#[derive(Debug)]
pub(in crate::app::tui) struct Batch;

/// Cells for what a line is about.
const LABEL: usize = 10;

impl Panel for Batch {
    fn title(&self) -> &'static str {
        "Batch"
    }

    fn rows(&self, cx: &Context<'_>, _state: &PanelState) -> usize {
        requests::rows(cx).len()
    }

    fn draw(&self, cx: &Context<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
        let mut pen = Pen::new(cx, area, buf);
        for line in gauges(cx, pen.width()) {
            pen.line(line);
        }
        let rows = requests::rows(cx).len();
        let spare = pen.room().saturating_sub((rows + 1).clamp(4, 12));
        times(cx, spare, &mut pen);
        let (rest, buf) = pen.give();
        requests::draw(cx, state, rest, buf);
    }
}

fn label(cx: &Context<'_>, text: &str) -> Span<'static> {
    styled(cx, Role::Dim, format!("{text:<LABEL$}"))
}

/// Occupancy, slots, queue and speeds: what there is of them.
fn gauges(cx: &Context<'_>, width: usize) -> Vec<Line<'static>> {
    let bar = width.saturating_sub(58).clamp(6, 30);
    let mut lines = Vec::new();
    for phase in [Phase::Prompt, Phase::Decode] {
        lines.extend(occupancy(cx, phase, bar));
    }
    lines.extend(slots(cx, bar));
    lines.extend(speeds(cx));
    lines.extend(foreign(cx));
    if lines.is_empty() {
        lines.push(Line::from(styled(cx, Role::Dim, "Nothing has been computed yet.")));
    }
    lines
}

fn phase_label(phase: Phase) -> &'static str {
    match phase {
        Phase::Prompt => "prompt",
        Phase::Decode => "decode",
    }
}

/// How full ubatches are: the last ones, and all.
fn occupancy(cx: &Context<'_>, phase: Phase, bar: usize) -> Option<Line<'static>> {
    let sums = cx.session.sums.phases.get(&phase).filter(|p| p.ubatches > 0)?;
    let share = |tokens: u64, capacity: u64| tokens as f64 / capacity.max(1) as f64;
    let all = share(sums.tokens, sums.capacity);
    let (mut tokens, mut capacity) = (0, 0);
    for ubatch in of_phase(cx.session, phase) {
        if let crate::base::event::SpanKind::Ubatch { capacity: fits, .. } = ubatch.span.kind {
            tokens += u64::from(ubatch.span.tokens);
            capacity += u64::from(fits);
        }
    }
    let recent = share(tokens, capacity);
    let sequences = sums.sequences as f64 / sums.ubatches as f64;
    let mut spans = vec![
        label(cx, phase_label(phase)),
        styled(cx, Role::Compute, cx.theme.bar(recent, bar)),
        raw(format!(
            " {} full, {:.1} of {:.0} tokens",
            percent(recent),
            sums.tokens as f64 / sums.ubatches as f64,
            sums.capacity as f64 / sums.ubatches as f64
        )),
    ];
    let more = format!(
        "; {} in all, {}, {sequences:.1} sequences",
        percent(all),
        counted(sums.ubatches, "ubatch"),
    );
    spans.push(styled(cx, Role::Dim, more));
    Some(Line::from(spans))
}

fn of_phase(session: &Session, phase: Phase) -> impl Iterator<Item = &RecentUbatch> {
    session.recent.ubatches().filter(move |u| u.is_prompt() == (phase == Phase::Prompt))
}

/// Busy slots and the queue: our own requests, or what a server says.
fn slots(cx: &Context<'_>, bar: usize) -> Option<Line<'static>> {
    let session = cx.session;
    let counter = |c| session.value(Subject::Server, c);
    let (busy, all, queued) = if let Some(setup) = &session.setup {
        let (busy, queued) = (session.requests.running().count(), session.requests.queued());
        (busy as f64, Some(setup.context.n_seq_max as f64), Some(queued as f64))
    } else {
        let told = session.server.as_ref().and_then(|s| s.slots).map(|n| n as f64);
        let all = counter(Counter::SlotsTotal).or(told);
        (counter(Counter::SlotsBusy)?, all, counter(Counter::RequestsQueued))
    };
    let of = all.map_or_else(|| "of unknown".to_string(), |all| format!("of {all:.0}"));
    let mut spans = vec![label(cx, "slots")];
    if let Some(all) = all.filter(|all| *all > 0.0) {
        spans.push(styled(cx, Role::Compute, cx.theme.bar(busy / all, bar)));
        spans.push(raw(" "));
    }
    spans.push(raw(format!("{busy:.0} {of} busy")));
    spans.push(match queued {
        Some(queued) if queued > 0.0 => styled(cx, Role::Warning, format!("; {queued:.0} queued")),
        Some(_) => styled(cx, Role::Dim, "; none queued"),
        None => styled(cx, Role::Dim, "; the queue is not told"),
    });
    mark(cx, &mut spans, &[Counter::SlotsBusy, Counter::RequestsQueued, Counter::SlotsTotal]);
    Some(Line::from(spans))
}

/// Marks a line whose counters the selected finding rests on.
fn mark(cx: &Context<'_>, spans: &mut Vec<Span<'static>>, counters: &[Counter]) {
    if is_counter_evidence(cx, Subject::Server, counters) {
        let sign = if cx.theme.unicode { " ◆" } else { " *" };
        spans.push(styled(cx, Role::Evidence, sign));
    }
}

/// Our own engine's speeds.
fn speeds(cx: &Context<'_>) -> Vec<Line<'static>> {
    let speed = |phase| {
        let sums = cx.session.sums.phases.get(&phase).filter(|p| p.ubatches > 0)?;
        let (mut tokens, mut ns, mut count) = (0, 0, 0);
        for ubatch in of_phase(cx.session, phase) {
            let (start, end) = extent(ubatch);
            tokens += u64::from(ubatch.span.tokens);
            ns = end.saturating_sub(start).saturating_add(ns);
            count += 1;
        }
        let total_ns = super::observed::phase_ns(cx.session, phase);
        let recent = counted(count, "ubatch");
        Some(Line::from(vec![
            label(cx, "speed"),
            raw(format!("{} {}", phase_label(phase), per_second(tokens, ns))),
            styled(
                cx,
                Role::Dim,
                format!(", in all {}; now the last {recent}", per_second(sums.tokens, total_ns)),
            ),
        ]))
    };
    [Phase::Prompt, Phase::Decode].into_iter().filter_map(speed).collect()
}

/// Tokens per second; without a duration there is none.
pub(super) fn per_second(tokens: u64, ns: u64) -> String {
    if ns == 0 {
        return "- tokens/s".to_string();
    }
    format!("{:.2} tokens/s", tokens as f64 * 1e9 / ns as f64)
}

/// What a foreign server's counters say.
fn foreign(cx: &Context<'_>) -> Vec<Line<'static>> {
    let session = cx.session;
    let value = |c| session.value(Subject::Server, c);
    let mut lines = Vec::new();
    let rates = [
        ("prompt", Counter::PromptRate, Counter::PromptTokens),
        ("decode", Counter::DecodeRate, Counter::DecodedTokens),
    ];
    for (name, rate, total) in rates {
        let now = session.counters.get(Subject::Server, total).and_then(Series::rate);
        let own = value(rate);
        if now.is_none() && own.is_none() {
            continue;
        }
        let history = history(session, Subject::Server, rate);
        let max = history.iter().copied().fold(0.0, f64::max);
        let mut spans = vec![label(cx, "speed")];
        spans.push(raw(match own {
            Some(own) => format!("{name} {own:.2} tokens/s by its own count "),
            None => format!("{name} "),
        }));
        if let Some(now) = now {
            let text = format!("{now:.2} tokens/s of wall time");
            spans.push(styled(cx, Role::Dim, text));
        }
        if history.len() > 1 {
            spans.push(raw(" "));
            spans.push(styled(cx, Role::Compute, cx.theme.spark(&history, max, 20)));
        }
        mark(cx, &mut spans, &[rate, total]);
        lines.push(Line::from(spans));
    }
    if let Some(used) = value(Counter::KvUsed) {
        let mut spans = vec![label(cx, "KV cache"), raw(format!("{} in use", percent(used)))];
        mark(cx, &mut spans, &[Counter::KvUsed]);
        lines.push(Line::from(spans));
    }
    lines
}

/// Times to the first token and between tokens, with histograms where there is room.
fn times(cx: &Context<'_>, room: usize, pen: &mut Pen<'_>) {
    let requests = &cx.session.requests;
    let parts = [("1st token", &requests.first_token_ns), ("between", &requests.inter_token_ns)];
    if parts.iter().all(|p| p.1.is_empty()) {
        if cx.session.server.is_some() && pen.room() > 5 {
            let text = "When single tokens come is not told: a server's counters are sums.";
            pen.words(Role::Dim, text);
        }
        return;
    }
    for (name, times) in parts {
        pen.line(summary(cx, name, times));
    }
    let height = room.saturating_sub(3).min(9);
    if height < 2 {
        return;
    }
    // Beside each other where both fit.
    let half = pen.width() / 2;
    let width = if half >= 44 { half - 2 } else { pen.width() };
    let histogram = |times: &VecDeque<u64>| {
        let buckets = buckets(times.iter().copied());
        lines(cx, &buckets, width.min(60), height)
    };
    let [first, between] = [&requests.first_token_ns, &requests.inter_token_ns].map(histogram);
    if half < 44 {
        pen.line(styled(cx, Role::Dim, "time between tokens, and how often"));
        for line in between {
            pen.line(line);
        }
        return;
    }
    let titles = ["time between tokens, and how often", "time to the first token, and how often"];
    let heading = format!("{:<half$}{}", titles[0], titles[1]);
    pen.line(styled(cx, Role::Dim, heading));
    for at in 0..first.len().max(between.len()) {
        let mut line = between.get(at).cloned().unwrap_or_default();
        let pad = half.saturating_sub(line.width());
        line.push_span(raw(" ".repeat(pad)));
        if let Some(other) = first.get(at) {
            line.spans.extend(other.spans.iter().cloned());
        }
        pen.line(line);
    }
}

fn summary(cx: &Context<'_>, name: &str, times: &VecDeque<u64>) -> Line<'static> {
    if times.is_empty() {
        return Line::from(vec![label(cx, name), styled(cx, Role::Dim, "none yet")]);
    }
    let values: Vec<f64> = times.iter().map(|ns| *ns as f64).collect();
    Line::from(vec![
        label(cx, name),
        raw(format!(
            "median {}, 99th percentile {}",
            Nanos(quantile(&values, 0.5)),
            Nanos(quantile(&values, 0.99))
        )),
        styled(cx, Role::Dim, format!(", of {}", times.len())),
    ])
}
