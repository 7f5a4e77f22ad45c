//! Requests, put together from the lines that tell of the same one: slot, timings, access.
//!
//! llama-server names slots and tasks; Ollama's access line names neither and comes last, so that
//! the oldest request without one is taken for it. A prompt that was cut or a context that was
//! shifted is told before the request's access line.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::record::{Fields, Record};
use super::super::session::{LineId, Request};
use super::kind::Kind;
use super::store::Store;
use super::stream::Stream;
use super::value::{decimal, duration_ns, kept};

/// Requests that are computed at a time.
const TASKS_MAX: usize = 256;
/// Requests that wait for their access line.
const DONE_MAX: usize = 16;

/// One request, with the time in which it was computed.
#[derive(Clone, Debug, Default)]
struct Pending {
    request: Request,
    busy_ns: u64,
}

/// The requests of one process that are not finished.
#[derive(Clone, Debug, Default)]
pub(super) struct Flight {
    /// By llama-server's task.
    tasks: BTreeMap<u64, Pending>,
    /// The task that lines without one are of.
    current: Option<u64>,
    /// Computed, without an access line yet.
    done: VecDeque<Pending>,
    /// What a command-line program, or a runner that names no task, told last.
    tool: Option<Pending>,
    /// Cuts and shifts of the request whose access line comes next.
    marks: Option<Request>,
}

/// Whether a kind is about requests.
pub(super) fn is_request(kind: Kind) -> bool {
    use Kind as K;
    matches!(
        kind,
        K::Access
            | K::AccessServer
            | K::ContextShift
            | K::GraphsReused
            | K::PromptTruncated
            | K::SlotCached
            | K::SlotDraft
            | K::SlotProgress
            | K::SlotPrompt
            | K::SlotReleased
            | K::SlotShift
            | K::SlotStarted
            | K::SlotTimingDecode
            | K::SlotTimingHeader
            | K::SlotTimingPrompt
            | K::SlotTimingReused
            | K::SlotTimingTotal
            | K::SlotTruncated
            | K::TimingDecode
            | K::TimingPrompt
            | K::TimingSample
            | K::TimingTotal
    )
}

/// Takes a line about requests in.
pub(super) fn apply(stream: &mut Stream, store: &mut Store, record: &Record<'_>) {
    let load = stream.load_index().or_else(|| store.begun().checked_sub(1));
    let flight = &mut stream.flight;
    match record.kind {
        Kind::Access => flight.access(load, store, record),
        Kind::AccessServer => flight.access_server(load, store, record),
        Kind::PromptTruncated => {
            let from_to = record.fields.number("prompt").zip(record.fields.number("limit"));
            let marks = flight.marks(record);
            marks.truncated = Some(true);
            marks.truncated_from_to = from_to.or(marks.truncated_from_to);
        }
        Kind::ContextShift => flight.marks(record).shifts += record.count.max(1),
        Kind::TimingDecode
        | Kind::TimingPrompt
        | Kind::TimingSample
        | Kind::TimingTotal
        | Kind::GraphsReused => flight.timing(load, store, record),
        _ => flight.slot(load, store, record),
    }
}

impl Flight {
    /// Ends everything.
    pub(super) fn close(&mut self, load: Option<usize>, store: &mut Store) {
        self.flush_tool(store);
        for pending in std::mem::take(&mut self.done) {
            finish(pending, store);
        }
        for (_, pending) in std::mem::take(&mut self.tasks) {
            finish(pending, store);
        }
        if let Some(request) = self.marks.take() {
            store.request(Request { load: request.load.or(load), ..request });
        }
    }

    /// Adds the lines that it refers to.
    pub(super) fn refer(&self, lines: &mut BTreeSet<LineId>) {
        let pending = self.tasks.values().chain(&self.done).chain(&self.tool);
        let requests = pending.map(|p| &p.request).chain(&self.marks);
        requests.for_each(|request| request.refer(lines));
    }

    fn marks(&mut self, record: &Record<'_>) -> &mut Request {
        self.marks.get_or_insert_with(|| Request { line: record.line, ..Request::default() })
    }

    /// Ollama's access line ends a request.
    fn access(&mut self, load: Option<usize>, store: &mut Store, record: &Record<'_>) {
        let fields = &record.fields;
        if !computes(fields) {
            store.other_request();
            return;
        }
        let waiting = self.done.pop_front().or_else(|| self.tool.take());
        let mut pending = waiting.unwrap_or_else(|| begin(load, record));
        let request = &mut pending.request;
        request.endpoint = fields.get("path").map(kept);
        request.status = fields.number("status");
        request.duration_ns = fields.get("duration").and_then(duration_ns);
        if let Some(marks) = self.marks.take() {
            request.truncated = marks.truncated.or(request.truncated);
            request.truncated_from_to = marks.truncated_from_to.or(request.truncated_from_to);
            request.shifts += marks.shifts;
        }
        if pending.busy_ns > 0 {
            request.wait_ns = request.duration_ns.map(|ns| ns.saturating_sub(pending.busy_ns));
        }
        finish(pending, store);
    }

    /// llama-server's access line has no duration, and Ollama's may follow.
    fn access_server(&mut self, load: Option<usize>, store: &mut Store, record: &Record<'_>) {
        let fields = &record.fields;
        if !computes(fields) {
            store.other_request();
            return;
        }
        let unserved = self.done.iter_mut().find(|p| p.request.status.is_none());
        if let Some(pending) = unserved {
            pending.request.endpoint = fields.get("path").map(kept);
            pending.request.status = fields.number("status");
            return;
        }
        let mut pending = self.tool.take().unwrap_or_else(|| begin(load, record));
        pending.request.endpoint = fields.get("path").map(kept);
        pending.request.status = fields.number("status");
        self.computed(pending, store);
    }

    /// A request is computed; it waits for its access line.
    fn computed(&mut self, pending: Pending, store: &mut Store) {
        self.done.push_back(pending);
        if self.done.len() > DONE_MAX
            && let Some(oldest) = self.done.pop_front()
        {
            finish(oldest, store);
        }
    }

    /// Timings of a command-line program, or of the slot whose header came before.
    fn timing(&mut self, load: Option<usize>, store: &mut Store, record: &Record<'_>) {
        let current = self.current.filter(|task| self.tasks.contains_key(task));
        if let Some(pending) = current.and_then(|task| self.tasks.get_mut(&task)) {
            timed(pending, record);
            return;
        }
        let another = self.tool.as_ref().is_some_and(|known| {
            let request = &known.request;
            match record.kind {
                Kind::TimingPrompt => request.prompt_tokens.is_some(),
                Kind::TimingDecode => request.decode_tokens.is_some(),
                Kind::TimingSample => request.sampling_ns.is_some(),
                _ => false,
            }
        });
        if another {
            self.flush_tool(store);
        }
        let pending = self.tool.get_or_insert_with(|| begin(load, record));
        timed(pending, record);
    }

    fn flush_tool(&mut self, store: &mut Store) {
        if let Some(pending) = self.tool.take() {
            finish(pending, store);
        }
    }

    /// A line of a slot.
    fn slot(&mut self, load: Option<usize>, store: &mut Store, record: &Record<'_>) {
        let Some(task) = record.fields.number::<u64>("task").or(self.current) else {
            self.slot_without_task(record);
            return;
        };
        if record.kind != Kind::SlotTimingHeader || self.tasks.contains_key(&task) {
            self.current = Some(task);
        }
        if self.tasks.len() >= TASKS_MAX
            && !self.tasks.contains_key(&task)
            && let Some((_, oldest)) = self.tasks.pop_first()
        {
            finish(oldest, store);
        }
        let pending = self.tasks.entry(task).or_insert_with(|| begin(load, record));
        let (fields, request) = (&record.fields, &mut pending.request);
        request.slot = fields.number("slot").or(request.slot);
        match record.kind {
            Kind::SlotPrompt => request.prompt_tokens = fields.number("tokens"),
            Kind::SlotCached => {
                let cached = fields.number::<u64>("cached");
                let known = request.cached_tokens;
                // The line may come twice for a prompt; only the first one counts what is computed.
                if let (Some(cached), None) = (cached, known) {
                    let all = request.prompt_tokens;
                    request.prompt_tokens = all.map(|all| all.saturating_sub(cached));
                    request.cached_tokens = Some(cached);
                }
            }
            Kind::SlotProgress => {
                let speed = fields.get("tokens_per_s").and_then(decimal);
                request.prompt_tokens_per_s = speed.or(request.prompt_tokens_per_s);
            }
            Kind::SlotShift => request.shifts += record.count.max(1),
            Kind::SlotTruncated => truncated(request, fields),
            Kind::SlotReleased => {
                request.held_tokens = fields.number("tokens");
                if flag(fields) {
                    request.truncated = Some(true);
                } else {
                    request.truncated.get_or_insert(false);
                }
                self.current = None;
                if let Some(pending) = self.tasks.remove(&task) {
                    self.computed(pending, store);
                }
            }
            Kind::SlotStarted | Kind::SlotTimingHeader | Kind::SlotDraft => {}
            _ => timed(pending, record),
        }
    }

    /// Lines of early 2024 that do not tell the task.
    fn slot_without_task(&mut self, record: &Record<'_>) {
        match record.kind {
            Kind::SlotShift => self.marks(record).shifts += record.count.max(1),
            Kind::SlotTruncated => truncated(self.marks(record), &record.fields),
            _ => {}
        }
    }
}

fn begin(load: Option<usize>, record: &Record<'_>) -> Pending {
    let request = Request { load, line: record.line, ..Request::default() };
    Pending { request, busy_ns: 0 }
}

fn finish(pending: Pending, store: &mut Store) {
    store.request(pending.request);
}

fn truncated(request: &mut Request, fields: &Fields<'_>) {
    request.truncated = Some(true);
    let from_to = fields.number("tokens").zip(fields.number("limit"));
    request.truncated_from_to = from_to.or(request.truncated_from_to);
}

/// `truncated = 1`, `truncated=true`.
fn flag(fields: &Fields<'_>) -> bool {
    matches!(fields.get("truncated"), Some("1" | "true"))
}

/// Whether a path computes something.
fn computes(fields: &Fields<'_>) -> bool {
    let path = fields.get("path").unwrap_or_default();
    let words =
        ["generate", "chat", "embed", "completion", "infill", "messages", "responses", "rerank"];
    fields.get("method") == Some("POST") && words.iter().any(|word| path.contains(word))
}

/// Takes one timing in.
fn timed(pending: &mut Pending, record: &Record<'_>) {
    let fields = &record.fields;
    let ns = fields.get("ms").and_then(decimal).map(|ms| (ms.max(0.0) * 1e6) as u64);
    let tokens = fields.number::<u64>("tokens");
    // In 2023 the speed was not printed.
    let told = fields.get("tokens_per_s").and_then(decimal);
    let speed = told.or_else(|| {
        let (tokens, ns) = (tokens?, ns.filter(|ns| *ns > 0)?);
        Some(tokens as f64 / (ns as f64 / 1e9))
    });
    let request = &mut pending.request;
    let prompt = matches!(record.kind, Kind::TimingPrompt | Kind::SlotTimingPrompt);
    match record.kind {
        _ if prompt => {
            request.prompt_tokens = tokens;
            request.prompt_tokens_per_s = speed;
            pending.busy_ns = pending.busy_ns.saturating_add(ns.unwrap_or(0));
        }
        Kind::TimingDecode | Kind::SlotTimingDecode => {
            request.decode_tokens = tokens;
            request.decode_tokens_per_s = speed;
            pending.busy_ns = pending.busy_ns.saturating_add(ns.unwrap_or(0));
        }
        Kind::TimingSample => request.sampling_ns = ns,
        Kind::GraphsReused | Kind::SlotTimingReused => {
            request.graphs_reused = fields.number("count");
        }
        Kind::TimingTotal | Kind::SlotTimingTotal => request.duration_ns = ns,
        _ => {}
    }
}
