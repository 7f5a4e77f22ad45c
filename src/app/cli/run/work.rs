//! The work of a run: loads the model, generates, and tells everything as events.
//!
//! Who watches decides nothing here: a report at the end, a recording and a dashboard read the same
//! events.

use std::sync::{Arc, Mutex, PoisonError};

use crate::app::report::{
    self, Report, SourceKind, contention, engine_facts, rss_bytes, session_report,
};
use crate::base::clock::now_ns;
use crate::base::event::{Event, Line, LoadStage, Span, SpanKind, Track, Warning};
use crate::base::sink::{Fanout, Sink};
use crate::engine::gguf::{Gguf, Value};
use crate::engine::runtime::{Engine, GenerationResult, Generator, Request};
use crate::engine::sched::ComputeMode;
use crate::engine::tokenizer::Tokenizer;
use crate::observe::session::Session;
use crate::observe::telemetry::host::ProcessorCounters;

use super::super::failure::Failure;
use super::super::progress::BytesBar;
use super::super::stop;
use super::RunArgs;
use super::prompts::requests;
use super::texts::{Texts, totals};

/// Where the events of a run go.
pub(super) struct Watched {
    session: Arc<Shared>,
    sink: Arc<dyn Sink>,
}

impl Watched {
    /// Folds events for the report, and hands them to `readers`.
    pub(super) fn new(readers: Vec<Arc<dyn Sink>>) -> Self {
        let session = Arc::new(Shared::default());
        let mut all: Vec<Arc<dyn Sink>> = vec![session.clone()];
        all.extend(readers);
        Self { session, sink: Arc::new(Fanout::new(all)) }
    }

    /// Where to tell.
    pub(super) fn sink(&self) -> &Arc<dyn Sink> {
        &self.sink
    }
}

/// Opens the model, which makes one with random weights first.
pub(super) fn open(args: &RunArgs, watched: &Watched) -> Result<Arc<Gguf>, Failure> {
    let start_ns = now_ns();
    let gguf = args.model.open(args.quiet)?;
    let (track, kind) = (Track::Host, SpanKind::Load { stage: LoadStage::Header });
    let (end_ns, bytes, tokens) = (now_ns(), 0, 0);
    watched.sink.record(Event::Span(Span { track, kind, start_ns, end_ns, bytes, tokens }));
    Ok(gguf)
}

/// Generates what `args` ask for; the report, with the texts.
pub(super) fn work(
    args: &RunArgs,
    gguf: &Arc<Gguf>,
    prompts: &[String],
    watched: &Watched,
) -> Result<(Report, Texts), Failure> {
    let sink = &watched.sink;
    let rss_before_bytes = rss_bytes();
    let mut engine = load(args, gguf, sink)?;
    let facts = engine_facts(engine.setup(), rss_before_bytes);
    tell(sink, &report::load_lines(&facts));
    sink.record(Event::Setup(Arc::new(facts)));
    let tokenizer = Arc::clone(engine.tokenizer());
    let requests = requests(args, &engine, &tokenizer, prompts, sink.as_ref())?;
    let mut texts = Texts::new(args, requests.len());
    let before = ProcessorCounters::now();
    let results = generate(&mut engine, &tokenizer, requests, &mut texts);
    texts.end();
    let results = results?;
    let totals = totals(&results, &texts);
    let mut facts = engine_facts(engine.setup(), rss_before_bytes);
    facts.processor_use = before.zip(ProcessorCounters::now()).map(|(b, now)| now.since(b).into());
    for text in facts.processor_use.iter().flat_map(contention) {
        sink.record(Event::Warning(Warning { at_ns: now_ns(), text }));
    }
    sink.record(Event::Setup(Arc::new(facts)));
    tell(sink, &watched.session.timing_lines());
    let mut session = watched.session.take();
    let report = session_report(&mut session, SourceKind::Run, Some(totals));
    let report = report.ok_or_else(|| Failure::new("the session tells of no model"))?;
    Ok((report, texts))
}

/// Writes lines to the log: for `-v`, and for whoever reads the session.
fn tell(sink: &Arc<dyn Sink>, lines: &[String]) {
    for line in lines {
        tracing::info!("{line}");
        sink.record(Event::Line(Line { at_ns: now_ns(), text: line.clone() }));
    }
}

/// Folds events of all threads into one session.
#[derive(Default)]
struct Shared(Mutex<Session>);

impl Shared {
    fn timing_lines(&self) -> Vec<String> {
        report::session_timing_lines(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The session so far; it begins anew.
    fn take(&self) -> Session {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for Shared {
    fn record(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(&event);
    }
}

fn load(args: &RunArgs, gguf: &Arc<Gguf>, sink: &Arc<dyn Sink>) -> Result<Engine, Failure> {
    let mut options = args.runtime.options(context_trained(gguf))?;
    if args.per_node {
        options.mode = ComputeMode::Nodes;
    }
    let mut bar = BytesBar::new("loading weights", args.quiet || args.tui);
    Ok(Engine::load(Arc::clone(gguf), options, sink, &mut |p| bar.load(p))?)
}

/// The context that a model was trained with, or a large number when its header does not say: then
/// loading will complain with the details.
fn context_trained(gguf: &Gguf) -> usize {
    let arch = gguf.metadata().str("general.architecture").unwrap_or_default();
    let value = gguf.get(&format!("{arch}.context_length")).and_then(Value::as_integer);
    value.and_then(|v| usize::try_from(v).ok()).unwrap_or(usize::MAX)
}

fn generate(
    engine: &mut Engine,
    tokenizer: &Tokenizer,
    requests: Vec<Request>,
    texts: &mut Texts,
) -> Result<Vec<GenerationResult>, Failure> {
    let stop = stop::on_ctrl_c();
    let mut generator = Generator::new(engine, tokenizer);
    for request in requests {
        generator.push(request)?;
    }
    Ok(generator.run(stop, &mut |id, piece| texts.push(id, piece))?)
}
