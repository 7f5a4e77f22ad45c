//! The processes that write into a log, and the load that is open in each of them.
//!
//! Which lines belong to it is for [`super::stage`] to say.

use std::collections::{BTreeMap, BTreeSet};

use super::super::record::Record;
use super::super::session::{Estimate, LineId, Load, LoadOutcome, LogSession, Role, Seen};
use super::dump::Dump;
use super::kind::Kind;
use super::requests::Flight;
use super::stage::{Stage, begins, stage_of};
use super::store::Store;
use super::value::{kept, seconds_ns, size};
use super::{command, engine_request, memory, model};

/// Processes that are followed at a time.
const STREAMS_MAX: usize = 16;

/// A load that lines may still belong to.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    pub(super) load: Load,
    pub(super) stage: Stage,
    /// Its command came, and decisions do not follow a command of that kind.
    pub(super) decided_before_command: bool,
    /// What follows is a trial without memory; the next loader begins for good.
    pub(super) trial: bool,
    /// Contexts made so far.
    pub(super) contexts: u32,
    /// Buffers of `sched_reserve` since it last began.
    pub(super) dump: Dump,
}

/// One process that writes into the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    pub(super) open: Option<Open>,
    pub(super) flight: Flight,
    /// The next loader is of this model.
    next_role: Role,
    /// Threads, told before a load begins.
    threads: Option<Seen<u64>>,
}

/// All processes.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    known: BTreeMap<Option<u32>, Stream>,
    /// The process of the last line; a line that does not tell is of it.
    last: Option<u32>,
}

impl Streams {
    /// The process that wrote a line.
    pub(super) fn of(&mut self, record: &Record<'_>, store: &mut Store) -> &mut Stream {
        let process = record.process.or(self.last);
        self.last = process;
        // A log that begins without a process is of the first one that is told.
        if !self.known.contains_key(&process)
            && let Some(nameless) = self.known.remove(&None)
        {
            self.known.insert(process, nameless);
        }
        if self.known.len() >= STREAMS_MAX && !self.known.contains_key(&process) {
            let oldest = |s: &Stream| s.open.as_ref().map_or(LineId(0), |o| o.load.line_last);
            let key = self.known.iter().min_by_key(|(_, s)| oldest(s)).map(|(key, _)| *key);
            if let Some(mut stream) = key.and_then(|key| self.known.remove(&key)) {
                stream.close(store);
            }
        }
        self.known.entry(process).or_default()
    }

    /// Ends everything.
    pub(super) fn close(&mut self, store: &mut Store) {
        for stream in self.known.values_mut() {
            stream.close(store);
        }
    }

    /// Adds the lines that open loads and requests refer to.
    pub(super) fn refer(&self, lines: &mut BTreeSet<LineId>) {
        for stream in self.known.values() {
            if let Some(open) = &stream.open {
                open.load.refer(lines);
            }
            stream.flight.refer(lines);
        }
    }
}

impl Stream {
    /// The number of the load that is open.
    pub(super) fn load_index(&self) -> Option<usize> {
        self.open.as_ref().map(|o| o.load.index)
    }

    /// Takes a line of the scheduler's dump in.
    pub(super) fn dump(&mut self, record: &Record<'_>, store: &mut Store) {
        self.enter(Stage::Context, false, record, store).dump.apply(record);
    }

    /// Ends the open load and the requests.
    fn close(&mut self, store: &mut Store) {
        self.flight.close(self.open.as_ref().map(|o| o.load.index), store);
        self.end_load(store);
    }

    fn end_load(&mut self, store: &mut Store) {
        let Some(Open { mut load, dump, .. }) = self.open.take() else { return };
        if !dump.is_empty() {
            let (rows, splits, line) = dump.rows();
            load.nodes_by_device = rows;
            let mut graph = load.graph.unwrap_or_default();
            if graph.splits_prompt.is_none() {
                graph.splits_prompt = Some(splits);
                graph.line = line;
            }
            load.graph = Some(graph);
        }
        store.load(load);
    }

    /// The load that a line of this stage belongs to: the open one, or one that it begins.
    pub(super) fn enter(
        &mut self,
        stage: Stage,
        begins: bool,
        record: &Record<'_>,
        store: &mut Store,
    ) -> &mut Open {
        if begins {
            self.end_load(store);
        }
        let (role, threads) = (self.next_role, self.threads);
        if self.open.is_none() {
            self.next_role = Role::Main;
        }
        let open = self.open.get_or_insert_with(|| Open {
            load: Load {
                index: store.next_load(),
                role,
                line: record.line,
                at_ns: record.at_ns,
                n_threads: threads,
                ..Load::default()
            },
            ..Open::default()
        });
        open.stage = open.stage.max(stage);
        open.load.line_last = record.line;
        open
    }
}

/// Takes a line about a load in.
pub(super) fn apply(
    session: &mut LogSession,
    stream: &mut Stream,
    store: &mut Store,
    record: &Record<'_>,
) {
    let Some(stage) = stage_of(record.kind) else {
        aside(stream, record);
        return;
    };
    let begins = stream.open.as_ref().is_some_and(|open| begins(open, stage, record));
    let open = stream.enter(stage, begins, record, store);
    match record.kind {
        Kind::LoadCommand => load_command(open, record),
        Kind::LoadRequest => engine_request::load_request(session, open, record),
        Kind::MemoryTree => engine_request::memory_tree(open, record),
        Kind::LoadReady | Kind::ServerReady => ready(open, record),
        Kind::SetupDone => setup_done(open, record),
        Kind::LoadFailed => failed(open, record),
        Kind::LayoutRetry => open.load.attempts += 1,
        Kind::LoadDecided | Kind::LoadPlan => decided(open, record),
        Kind::VocabOnly => {
            open.stage =
                if open.load.requested.command.is_some() { Stage::Command } else { Stage::Decided };
        }
        Kind::NoAlloc | Kind::FitMeasuring => open.trial = true,
        Kind::Metadata | Kind::ModelInfo | Kind::EngineModel | Kind::ModelFile => {
            if record.kind == Kind::ModelFile && open.trial {
                memory::forget_trial(open);
            }
            model::apply(&mut open.load, record);
        }
        Kind::RunnerStart => {}
        _ => memory::apply(session, open, record),
    }
}

/// Whether Ollama's server or engine wrote it, which repeats its figures while it tries layouts.
pub(super) fn slog(record: &Record<'_>) -> bool {
    record.pattern.id.starts_with("ollama-")
}

impl Open {
    /// Whether nothing more can come.
    pub(super) fn ended(&self) -> bool {
        self.stage == Stage::Ended
    }
}

/// Lines that are of no load, but tell something of the next.
fn aside(stream: &mut Stream, record: &Record<'_>) {
    let threads = record.fields.number("threads").map(|value| Seen { value, line: record.line });
    match record.kind {
        Kind::SystemInfo | Kind::RunnerSystem => {
            stream.threads = threads.or(stream.threads);
            if let Some(open) = &mut stream.open
                && open.stage < Stage::Ended
                && threads.is_some()
            {
                open.load.n_threads = threads;
            }
        }
        Kind::ModelName => {
            let draft = record.fields.get("what").is_some_and(|w| w.trim() == "draft");
            stream.next_role = if draft { Role::Draft } else { Role::Main };
        }
        _ => {}
    }
}

fn load_command(open: &mut Open, record: &Record<'_>) {
    if let Some(line) = record.fields.get("command") {
        command::apply(&mut open.load, line, record.line);
    }
    open.decided_before_command = record.pattern.id == "ollama-starting-llama-server";
    // Dialect A decides about the layers itself and tells its runner: nobody asked for them.
    if open.decided_before_command
        && let Some(layers) = open.load.requested.gpu_layers.take()
    {
        let estimate = open
            .load
            .estimate
            .get_or_insert_with(|| Estimate { line: record.line, ..Estimate::default() });
        estimate.layers_offload = estimate.layers_offload.or(u64::try_from(layers.value).ok());
        let requested = estimate.layers_requested;
        open.load.requested.gpu_layers = requested.map(|value| Seen { value, line: estimate.line });
    }
}

/// What the scheduler decided names the model, and says how many sequences it planned for.
fn decided(open: &mut Open, record: &Record<'_>) {
    let fields = &record.fields;
    let line = record.line;
    if let Some(path) = fields.get("model") {
        open.load.model.path = Some(kept(path));
    }
    // Its words for several GPUs name none of them.
    if fields.get("gpu").is_some() {
        open.load.single_gpu = Some(line);
    }
    if let Some(value) = fields.number("parallel") {
        open.load.requested.parallel = Some(Seen { value, line });
    }
    if let Some(value) = fields.number("requested") {
        open.load.requested.gpu_layers = Some(Seen { value, line });
    }
    memory::planned_gpu(&mut open.load, record);
}

fn ready(open: &mut Open, record: &Record<'_>) {
    open.trial = false;
    let time = record.fields.get("seconds").and_then(seconds_ns);
    let line = record.line;
    if let Some(value) = time {
        open.load.load_ns = Some(Seen { value, line });
    }
    let known = matches!(open.load.outcome, LoadOutcome::Ready(_));
    if !known || time.is_some() {
        open.load.outcome = LoadOutcome::Ready(Seen { value: time, line });
    }
}

/// What `ollama ps` will show.
fn setup_done(open: &mut Open, record: &Record<'_>) {
    let fields = &record.fields;
    let line = record.line;
    let load = &mut open.load;
    if let (Some(total), Some(vram)) =
        (fields.get("size").and_then(size), fields.get("vram").and_then(size))
    {
        load.size_vram_and_total = Some(Seen { value: (vram, total), line });
    }
    if let Some(library) = fields.get("inference") {
        let library = library
            .split_once("Library:")
            .map_or(library, |(_, rest)| rest.split([' ', '}']).next().unwrap_or_default());
        load.inference_library = Some(Seen { value: kept(library), line });
    }
    load.model.name = fields.get("name").map(kept).or(load.model.name.take());
    load.model.path = fields.get("model").map(kept).or(load.model.path.take());
    if let Some(value) = fields.number("parallel") {
        load.requested.parallel.get_or_insert(Seen { value, line });
    }
    if let Some(value) = fields.number("ctx") {
        load.n_ctx_seq.get_or_insert(Seen { value, line });
    }
    if !matches!(load.outcome, LoadOutcome::Ready(_)) {
        load.outcome = LoadOutcome::Ready(Seen { value: None, line });
    }
}

/// The server's message has the runner's last words in it, so that it replaces them.
fn failed(open: &mut Open, record: &Record<'_>) {
    let value = record.fields.get("error").map(kept).unwrap_or_default();
    let known = matches!(open.load.outcome, LoadOutcome::Failed(_));
    if !known || slog(record) {
        open.load.outcome = LoadOutcome::Failed(Seen { value, line: record.line });
    }
}

/// A model was unloaded: the open load, or an earlier one that has its name.
pub(super) fn unloaded(streams: &mut Streams, store: &mut Store, record: &Record<'_>) {
    let path = record.fields.get("model");
    let name = record.fields.get("name");
    let is_it = |load: &Load| {
        let same = |known: &Option<String>, told: Option<&str>| {
            told.is_none() || known.is_none() || known.as_deref() == told
        };
        !matches!(load.outcome, LoadOutcome::Failed(_) | LoadOutcome::Unloaded(_))
            && same(&load.model.path, path)
            && (path.is_some() || same(&load.model.name, name))
    };
    let stream = streams.of(record, store);
    let load = match &mut stream.open {
        Some(open) if is_it(&open.load) => {
            open.stage = Stage::Ended;
            Some(&mut open.load)
        }
        _ => store.loads_mut().find(|load| is_it(load)),
    };
    if let Some(load) = load {
        load.outcome = LoadOutcome::Unloaded(record.line);
    }
}
