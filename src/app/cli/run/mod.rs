//! `gpuwhy run`: generates text and reports what ran where, why, and how long it took.
//!
//! In text the generated text is the data on stdout and the report goes to stderr; in JSON and
//! Markdown the report is the data, with the text in it. With `--tui` the dashboard shows it meanwhile.

mod prompts;
mod texts;
mod work;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use clap::Args;

use crate::app::report::{Report, SourceKind, Style, markdown, text};
use crate::app::tui::{Live, ThemeChoice};
use crate::base::event::{Event, PlanFact};
use crate::base::sink::{Buffer, Sink};
use crate::engine::gguf::Gguf;
use crate::engine::sched::dump;
use crate::observe::telemetry::{Sampler, SamplerOptions};

use super::failure::Failure;
use super::flags::{Format, RuntimeArgs, SamplingArgs};
use super::recording::Recording;
use super::source::ModelArgs;
use super::{dashboard, output, stop};

use work::{Watched, open, work};

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

    /// Record everything that happens, and the machine's counters meanwhile, to a new file for `replay` and
    /// `export`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Watch it in the dashboard: layers, splits, copies, stalls, findings
    #[arg(long, conflicts_with_all = ["format", "splits_dump"])]
    tui: bool,

    /// Colours of the dashboard
    #[arg(long, value_enum, default_value_t, requires = "tui")]
    theme: ThemeChoice,

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

/// Events that wait for the dashboard at most: some seconds of them.
const EVENTS_MAX: usize = 1 << 18;

/// Runs the command.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let prompts = prompts::prompts(args)?;
    let plans = Arc::new(Plans::default());
    let title = args.model.name().unwrap_or("built-in model").to_string();
    let recording = args
        .record
        .as_deref()
        .map(|path| Recording::start(path, &format!("gpuwhy run {title}")))
        .transpose()?;
    let mut readers: Vec<Arc<dyn Sink>> = vec![plans.clone()];
    readers.extend(recording.iter().map(Recording::sink));
    let buffer = args.tui.then(|| Arc::new(Buffer::new(EVENTS_MAX)));
    readers.extend(buffer.iter().map(|b| Arc::clone(b) as Arc<dyn Sink>));
    let watched = Watched::new(readers);
    let gguf = open(args, &watched)?;
    let done = match buffer {
        Some(buffer) => show(args, &title, (&gguf, &prompts), &watched, buffer),
        None => work(args, &gguf, &prompts, &watched),
    };
    if let Some(recording) = recording {
        recording.finish(args.quiet);
    }
    let (report, mut texts) = done?;
    if args.splits_dump {
        plans.print();
    }
    texts.failure()?;
    print(args, &report)
}

/// Works on a thread of its own while the dashboard shows it. Who leaves the dashboard ends the work.
fn show(
    args: &RunArgs,
    title: &str,
    (gguf, prompts): (&Arc<Gguf>, &[String]),
    watched: &Watched,
    buffer: Arc<Buffer>,
) -> Result<(Report, texts::Texts), Failure> {
    // A recording samples already, into the same events.
    let sampler = args.record.is_none().then(|| {
        let options =
            SamplerOptions { pids: vec![std::process::id()], ..SamplerOptions::default() };
        Sampler::start(&options, watched.sink())
    });
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&has_ended);
    let done = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let done = work(args, gguf, prompts, watched);
            if done.is_err() {
                stop::request();
            }
            has_ended.store(true, Ordering::Relaxed);
            done
        });
        let mut live = Live::new(buffer, Box::new(move || ended.load(Ordering::Relaxed)));
        let shown = dashboard::show(&mut live, title, args.theme, SourceKind::Run);
        stop::request();
        let done = worker.join();
        // Why there is no dashboard matters more than what its run came to.
        shown.and_then(|_| {
            done.unwrap_or_else(|_| Err(Failure::new("the engine's thread ended unexpectedly")))
        })
    });
    drop(sampler);
    done
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
