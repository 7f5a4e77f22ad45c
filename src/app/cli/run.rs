//! `gpuwhy run`: generates text and reports what ran where, why, and how long it took.
//!
//! In text the generated text is the data on stdout and the report goes to stderr; in JSON and
//! Markdown the report is the data, with the text in it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;

use crate::app::report::{
    self, Output, Report, SourceKind, Style, Totals, contention, engine_facts, markdown, rss_bytes,
    session_report, text,
};
use crate::base::clock::now_ns;
use crate::base::event::{Event, Line, LoadStage, PlanFact, Span, SpanKind, Track, Warning};
use crate::base::sink::{Fanout, Sink};
use crate::engine::gguf::{Gguf, Value};
use crate::engine::model::store::builtin_prompt;
use crate::engine::runtime::{Engine, GenerationResult, Generator, Request};
use crate::engine::sched::{ComputeMode, dump};
use crate::engine::tokenizer::Tokenizer;
use crate::engine::tokenizer::chat::Message;
use crate::observe::session::Session;
use crate::observe::telemetry::host::ProcessorCounters;

use super::failure::Failure;
use super::flags::{Format, RuntimeArgs, SamplingArgs};
use super::progress::BytesBar;
use super::recording::Recording;
use super::source::ModelArgs;
use super::{output, stop};

/// Arguments of `gpuwhy run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// The prompt; several are several requests
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Vec<String>,

    /// Read the prompt from a file; without -p and -f it is read from stdin where that is a pipe or
    /// a file
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompt")]
    file: Option<PathBuf>,

    /// Tokens to generate at most; -1 goes on until the model ends or the context is full
    #[arg(short, long, value_name = "N", default_value_t = 128, allow_negative_numbers = true)]
    n_predict: i64,

    /// [-cnv] Apply the model's chat template to the prompt
    #[arg(long)]
    chat: bool,

    /// [-sys] System prompt, with --chat
    #[arg(long, value_name = "TEXT", requires = "chat", allow_hyphen_values = true)]
    system_prompt: Option<String>,

    /// Read \n, \t, \r, \\, \' and \" in the prompt as in C
    #[arg(short, long)]
    escape: bool,

    /// Go on after a token that ends generation
    #[arg(long)]
    ignore_eos: bool,

    /// Time every node: tells which operation is slow, and slows every split down
    #[arg(long)]
    per_node: bool,

    /// Print every way the graph was cut to stderr, as GGML_SCHED_DEBUG=2 does, with the causes
    #[arg(long)]
    splits_dump: bool,

    /// Record everything that happens, and the machine's counters meanwhile, to a new file for `export`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// How to report
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Print nothing but the result: no progress, and in text no report
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    runtime: RuntimeArgs,

    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Runs the command.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let prompts = prompts(args)?;
    let session = Arc::new(Shared::default());
    let plans = Arc::new(Plans::default());
    let title = format!("gpuwhy run {}", args.model.name().unwrap_or("(built-in model)"));
    let recording =
        args.record.as_deref().map(|path| Recording::start(path, &title)).transpose()?;
    let mut readers: Vec<Arc<dyn Sink>> = vec![session.clone(), plans.clone()];
    readers.extend(recording.iter().map(Recording::sink));
    let sink: Arc<dyn Sink> = Arc::new(Fanout::new(readers));
    let start_ns = now_ns();
    let gguf = args.model.open(args.quiet)?;
    let (track, kind) = (Track::Host, SpanKind::Load { stage: LoadStage::Header });
    sink.record(Event::Span(Span { track, kind, start_ns, end_ns: now_ns(), bytes: 0, tokens: 0 }));
    let rss_before_bytes = rss_bytes();
    let mut engine = load(args, &gguf, &sink)?;
    let facts = engine_facts(engine.setup(), rss_before_bytes);
    tell(&sink, &report::load_lines(&facts));
    sink.record(Event::Setup(Arc::new(facts)));
    let tokenizer = Arc::clone(engine.tokenizer());
    let requests = requests(args, &engine, &tokenizer, &prompts, sink.as_ref())?;
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
    tell(&sink, &session.timing_lines());
    let mut session = session.take();
    let report = session_report(&mut session, SourceKind::Run, Some(totals));
    let report = report.ok_or_else(|| Failure::new("the session tells of no model"))?;
    if let Some(recording) = recording {
        recording.finish(args.quiet);
    }
    if args.splits_dump {
        plans.print();
    }
    texts.failure()?;
    print(args, &report)
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
    let mut bar = BytesBar::new("loading weights", args.quiet);
    Ok(Engine::load(Arc::clone(gguf), options, sink, &mut |p| bar.load(p))?)
}

/// The context that a model was trained with, or a large number when its header does not say: then
/// loading will complain with the details.
pub(super) fn context_trained(gguf: &Gguf) -> usize {
    let arch = gguf.metadata().str("general.architecture").unwrap_or_default();
    let value = gguf.get(&format!("{arch}.context_length")).and_then(Value::as_integer);
    value.and_then(|v| usize::try_from(v).ok()).unwrap_or(usize::MAX)
}

/// The prompts: as typed, from a file, from a pipe, or the default one.
fn prompts(args: &RunArgs) -> Result<Vec<String>, Failure> {
    let mut prompts = match &args.file {
        Some(path) if path == Path::new("-") => vec![read_stdin()?],
        Some(path) => {
            vec![std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, &e))?]
        }
        None if !args.prompt.is_empty() => args.prompt.clone(),
        None if stdin_is_given() => vec![read_stdin()?],
        None => Vec::new(),
    };
    // A file that ends with a line break means the text before it.
    if args.prompt.is_empty() {
        for prompt in &mut prompts {
            if prompt.ends_with('\n') {
                prompt.pop();
            }
        }
        prompts.retain(|p| !p.is_empty());
    }
    if prompts.is_empty() {
        prompts.push(builtin_prompt().to_string());
    }
    if args.escape {
        prompts = prompts.iter().map(|p| unescape(p)).collect();
    }
    Ok(prompts)
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map_err(|e| Failure::new(format!("cannot read the prompt from stdin: {e}")))?;
    Ok(text)
}

/// Whether somebody wrote something for us: stdin is a pipe or a file. A terminal or `/dev/null`
/// gives nothing.
fn stdin_is_given() -> bool {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        use std::os::unix::fs::FileTypeExt;
        let handle = std::io::stdin().as_fd().try_clone_to_owned();
        let kind = handle.and_then(|fd| std::fs::File::from(fd).metadata()).map(|m| m.file_type());
        kind.is_ok_and(|k| k.is_fifo() || k.is_file())
    }
    #[cfg(not(unix))]
    {
        !std::io::IsTerminal::is_terminal(&std::io::stdin())
    }
}

/// C's escapes that llama.cpp knows; anything else after a backslash stays as it is.
fn unescape(text: &str) -> String {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some(c @ ('\\' | '\'' | '"')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    out
}

fn requests(
    args: &RunArgs,
    engine: &Engine,
    tokenizer: &Tokenizer,
    prompts: &[String],
    sink: &dyn Sink,
) -> Result<Vec<Request>, Failure> {
    let template = if args.chat { Some(chat_template(tokenizer)?) } else { None };
    let sampler = args.sampling.options(engine.options().n_ctx)?;
    let mut requests = Vec::with_capacity(prompts.len());
    for (id, prompt) in prompts.iter().enumerate() {
        let start_ns = now_ns();
        let tokens = match &template {
            Some(template) => {
                let mut messages = Vec::new();
                messages.extend(args.system_prompt.iter().map(|s| Message::new("system", s)));
                messages.push(Message::new("user", prompt));
                let text = template.render(&messages, true, &serde_json::Map::new());
                tokenizer.encode_prompt(&text.map_err(Failure::new)?)
            }
            None => tokenizer.encode(prompt, true, true),
        };
        let (track, kind) = (Track::Host, SpanKind::Tokenise);
        let (bytes, n) = (prompt.len() as u64, tokens.len() as u32);
        sink.record(Event::Span(Span {
            track,
            kind,
            start_ns,
            end_ns: now_ns(),
            bytes,
            tokens: n,
        }));
        let mut sampler = sampler;
        sampler.seed = sampler.seed.wrapping_add(id as u64);
        requests.push(Request {
            id,
            prompt: tokens,
            n_predict: usize::try_from(args.n_predict).unwrap_or(usize::MAX),
            sampler,
            ignore_eog: args.ignore_eos,
        });
    }
    Ok(requests)
}

fn chat_template(tokenizer: &Tokenizer) -> Result<crate::engine::tokenizer::ChatTemplate, Failure> {
    let template = tokenizer.chat_template().map_err(Failure::new)?;
    template.ok_or_else(|| {
        Failure::new("--chat: the model's file has no chat template")
            .hint("leave --chat out to continue the prompt as plain text")
    })
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

/// The texts as they grow, and where they are shown meanwhile.
struct Texts {
    by_id: Vec<String>,
    shown: Shown,
    failure: Option<Failure>,
}

/// Where text goes while it is generated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Stdout,
    Stderr,
    /// Several texts would mix; each is printed to stdout when all are done.
    AtEnd,
    Nowhere,
}

impl Texts {
    fn new(args: &RunArgs, n: usize) -> Self {
        let shown = match args.format {
            Format::Text if n == 1 => Shown::Stdout,
            Format::Text => Shown::AtEnd,
            _ if args.quiet || n > 1 => Shown::Nowhere,
            _ => Shown::Stderr,
        };
        Self { by_id: vec![String::new(); n], shown, failure: None }
    }

    fn push(&mut self, id: usize, piece: &str) {
        if let Some(text) = self.by_id.get_mut(id) {
            text.push_str(piece);
        }
        match self.shown {
            Shown::Stdout => self.show(piece),
            Shown::Stderr => output::stderr(piece),
            Shown::AtEnd | Shown::Nowhere => {}
        }
    }

    /// Writes to stdout; when nobody reads any more, generation may stop.
    fn show(&mut self, text: &str) {
        if self.failure.is_none()
            && let Err(failure) = output::stdout(text.as_bytes())
        {
            self.failure = Some(failure);
            stop::request();
        }
    }

    /// Ends the last line, and prints what waited.
    fn end(&mut self) {
        if self.shown == Shown::AtEnd {
            for (id, text) in self.by_id.clone().iter().enumerate() {
                self.show(&format!("[{id}] {}\n", text.trim_end_matches('\n')));
            }
        } else if self.by_id.iter().any(|t| !t.is_empty() && !t.ends_with('\n')) {
            match self.shown {
                Shown::Stdout => self.show("\n"),
                Shown::Stderr => output::stderr("\n"),
                _ => {}
            }
        }
    }

    fn failure(&mut self) -> Result<(), Failure> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

fn totals(results: &[GenerationResult], texts: &Texts) -> Totals {
    let output = results.iter().map(|r| Output {
        id: r.id as u64,
        text: texts.by_id.get(r.id).cloned().unwrap_or_default(),
        tokens_prompt: r.n_prompt as u64,
        tokens_generated: r.tokens.len() as u64,
        finish: r.finish,
        first_token_ns: r.first_token_ns,
        total_ns: r.total_ns,
    });
    let token_ns = results.iter().map(|r| r.token_ns.clone()).collect();
    Totals { output: output.collect(), token_ns }
}

fn print(args: &RunArgs, report: &Report) -> Result<(), Failure> {
    match args.format {
        Format::Json => output::json(report),
        Format::Markdown => output::stdout(markdown(report).as_bytes()),
        Format::Text if args.quiet => Ok(()),
        Format::Text => {
            let style: Style = output::style(&std::io::stderr());
            output::stderr(&format!("\n{}", text(report, style)));
            Ok(())
        }
    }
}

/// Keeps the plans for `--splits-dump`.
#[derive(Default)]
struct Plans {
    seen: Mutex<(Vec<String>, Vec<Arc<PlanFact>>)>,
}

impl Sink for Plans {
    fn record(&self, event: Event) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Device(device) => seen.0.push(device.name),
            Event::Plan(plan) => seen.1.push(plan),
            _ => {}
        }
    }
}

impl Plans {
    fn print(&self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for plan in &seen.1 {
            let title = format!("plan {} for {} tokens\n", plan.id, plan.n_tokens);
            output::stderr(&format!("{title}{}\n", dump(plan, &seen.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_as_in_c() {
        assert_eq!(unescape(r#"a\nb\t\\n\"\x\"#), "a\nb\t\\n\"\\x\\");
    }
}
