//! Requests that run, wait and have just ended; of a foreign server its slots.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::app::tui::panel::{Context, PanelState};
use crate::app::tui::theme::Role;
use crate::base::counter::{Counter, Subject};
use crate::base::event::Finish;
use crate::observe::session::RunningRequest;

use super::kit::{Pen, matches, one_line, raw, styled};
use super::observed::is_evidence;
use super::table::{Column, Row, left, right, table, tail};

const COLUMNS: [Column; 7] = [
    right("request", 7, 0),
    left("state", 9, 0),
    right("slot", 4, 1),
    right("prompt", 7, 2),
    right("tokens", 7, 0),
    right("tokens/s", 9, 0),
    tail("text", 10, 0),
];

/// Characters of the last text that are looked at.
const TEXT_CHARS: usize = 240;

/// One row.
pub(super) enum Told<'a> {
    Open(u64, &'a RunningRequest),
    Ended(u64, &'a RunningRequest, Finish, u32),
    Slot(u16),
}

/// The rows that the search leaves: running, waiting, ended (the last one first), slots of a server.
pub(super) fn rows<'a>(cx: &Context<'a>) -> Vec<Told<'a>> {
    let requests = &cx.session.requests;
    let (running, waiting): (Vec<_>, Vec<_>) =
        requests.open.iter().partition(|(_, r)| r.started.is_some());
    let open = running.into_iter().chain(waiting).map(|(id, r)| Told::Open(*id, r));
    let ended = requests.ended.iter().rev();
    let ended = ended.map(|e| Told::Ended(e.id, &e.request, e.finish, e.generated_tokens));
    let slots = cx.session.counters.subjects().filter_map(|subject| match subject {
        Subject::Slot(slot) => Some(Told::Slot(slot)),
        _ => None,
    });
    let mut all: Vec<Told<'_>> = open.chain(ended).chain(slots).collect();
    all.retain(|told| match told {
        Told::Open(id, r) | Told::Ended(id, r, ..) => matches(cx, &[&r.text, &id.to_string()]),
        Told::Slot(slot) => matches(cx, &[&format!("slot {slot}")]),
    });
    all
}

/// Draws the table.
pub(super) fn draw(cx: &Context<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
    let rows = rows(cx);
    if rows.is_empty() {
        let text = match (cx.search.is_empty(), cx.session.server.is_some()) {
            (false, _) => "No request has what is looked for.",
            (true, true) => "The server tells of no single requests.",
            (true, false) => "No request yet.",
        };
        Pen::new(cx, area, buf).words(Role::Dim, text);
        return;
    }
    let row = |at: usize| match &rows[at] {
        Told::Open(id, request) => open(cx, *id, request),
        Told::Ended(id, request, finish, tokens) => ended(cx, *id, request, *finish, *tokens),
        Told::Slot(slot) => of_slot(cx, *slot),
    };
    table(cx, state, &COLUMNS, (rows.len(), row), area, buf);
}

fn open(cx: &Context<'_>, id: u64, request: &RunningRequest) -> Row {
    let state = match (request.started, request.tokens) {
        (None, _) => styled(cx, Role::Warning, "queued"),
        (Some(_), 0) => styled(cx, Role::Text, "prompt"),
        (Some(_), _) => styled(cx, Role::Good, "decoding"),
    };
    Row::new(vec![
        raw(id.to_string()),
        state,
        raw(request.started.map_or_else(|| "-".to_string(), |s| s.1.to_string())),
        raw(request.prompt_tokens.to_string()),
        raw(request.tokens.to_string()),
        raw(speed(request)),
        raw(last_text(&request.text)),
    ])
}

fn ended(cx: &Context<'_>, id: u64, request: &RunningRequest, finish: Finish, n: u32) -> Row {
    let finish = match finish {
        Finish::EndOfGeneration => "done",
        Finish::Length => "length",
        Finish::ContextFull => "full ctx",
        Finish::Cancelled => "cancelled",
    };
    let dim = |text: String| styled(cx, Role::Dim, text);
    Row::new(vec![
        dim(id.to_string()),
        dim(finish.to_string()),
        dim(request.started.map_or_else(|| "-".to_string(), |s| s.1.to_string())),
        dim(request.prompt_tokens.to_string()),
        dim(n.to_string()),
        dim(speed(request)),
        dim(last_text(&request.text)),
    ])
}

/// Tokens per second from the first token to the last one.
fn speed(request: &RunningRequest) -> String {
    let Some((started_ns, _)) = request.started else { return "-".to_string() };
    let first_ns = request.token_ns.first().map_or(0, |ns| started_ns.saturating_add(*ns));
    let ns = request.last_ns.saturating_sub(first_ns);
    if request.tokens < 2 || ns == 0 {
        return "-".to_string();
    }
    format!("{:.2}", (request.tokens - 1) as f64 * 1e9 / ns as f64)
}

/// The end of a text, on one line. Its beginning stands further up in what is generated.
fn last_text(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(TEXT_CHARS);
    one_line(&text.chars().skip(skipped).collect::<String>())
}

fn of_slot(cx: &Context<'_>, slot: u16) -> Row {
    let subject = Subject::Slot(slot);
    let value = |counter| cx.session.value(subject, counter);
    let told = |counter| value(counter).map_or_else(|| "-".to_string(), |v| format!("{v:.0}"));
    let state = match value(Counter::SlotsBusy) {
        Some(busy) if busy > 0.0 => styled(cx, Role::Good, "busy"),
        Some(_) => styled(cx, Role::Dim, "idle"),
        None => styled(cx, Role::Dim, "-"),
    };
    let context = value(Counter::SlotContext);
    let text = context.map_or_else(String::new, |n| format!("context of {n:.0} tokens"));
    let is_evidence = is_evidence(
        cx,
        |place| matches!(place, crate::advise::diagnose::Place::Counter(of, _) if *of == subject),
    );
    Row::new(vec![
        raw("-"),
        state,
        raw(slot.to_string()),
        raw(told(Counter::SlotPrompt)),
        raw(told(Counter::SlotDecoded)),
        raw("-"),
        styled(cx, Role::Dim, text),
    ])
    .evidence(is_evidence)
}
