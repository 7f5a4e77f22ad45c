//! `gpuwhy attach`: watches a server that runs already, and says what it does and what to change.
//!
//! In a terminal the dashboard opens; otherwise, or where one is asked for, a report is printed at the
//! end. Reads only, unless `--probe` asks for one small request. Exit code 1 when a finding is a warning or
//! worse, 2 when no server was found.

mod live;
mod probe;
mod target;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;

use crate::app::report::SourceKind;
use crate::app::report::attach::{
    AttachReport, ProbeFacts, attach_markdown, attach_report, attach_text,
};
use crate::app::report::log::Redactor;
use crate::app::tui::{self, ThemeChoice};
use crate::base::event::{ServerFact, ServerState};

use super::dashboard;
use super::failure::{Failure, of_verdict};
use super::flags::Format;
use super::output;
use super::stop;

use live::{Live, Taken};
use probe::Probe;

/// How often what happened is taken in.
const TICK: Duration = Duration::from_millis(50);

/// How long it watches for a report where nothing is said.
const WATCHED: Duration = Duration::from_secs(10);

/// How long a probe waits for the server to be ready.
const READY: Duration = Duration::from_secs(30);

/// Arguments of `gpuwhy attach`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a target: the Ollama, llama-server or vLLM that runs on this machine. Nothing is \
changed and no tokens are asked for, unless --probe says so.\n\n\
Examples:\n  gpuwhy attach\n  gpuwhy attach :11434\n  gpuwhy attach 4711 --for 60 --format json\n  \
gpuwhy attach http://gpu-box:8000 --log server.log\n  gpuwhy attach --record slow.gpuwhy --probe"
)]
pub(super) struct AttachArgs {
    /// The server: its address or its process id
    #[arg(value_name = "TARGET", default_value = "", hide_default_value = true)]
    target: String,

    /// Its log: a file, - for standard input, journald:UNIT or docker:NAME [default: found by its
    /// process]
    #[arg(long, value_name = "SOURCE")]
    log: Option<String>,

    /// Follow no log
    #[arg(long, conflicts_with = "log")]
    no_log: bool,

    /// Record everything into a file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Send one request of 32 tokens, and report how long it took
    #[arg(long)]
    probe: bool,

    /// How long to watch for a report [default: 10]; Ctrl-C ends it before
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,

    /// Time between two looks at the server
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    every: u64,

    /// Print a report at the end instead of opening the dashboard [default: text with --for or --probe,
    /// and where stdout is no terminal]
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Colours of the dashboard
    #[arg(long, value_enum, default_value_t, conflicts_with = "format")]
    theme: ThemeChoice,

    /// Key that the server asks for [or OPENAI_API_KEY]
    #[arg(long, value_name = "KEY", env = "GPUWHY_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is a number of seconds".to_string())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= Duration::from_hours(24 * 365) => Ok(duration),
        _ => Err("it is from 0 to a year".to_string()),
    }
}

/// Runs the command.
pub(super) fn run(args: &AttachArgs) -> Result<ExitCode, Failure> {
    let mut live = Live::start(args)?;
    if args.opens_dashboard() {
        let (title, events) = (live.title().to_string(), Arc::clone(live.events()));
        let mut feed = tui::Live::new(events, Box::new(|| false));
        dashboard::show(&mut feed, &title, args.theme, SourceKind::Attach)?;
        live.finish(false);
        return Ok(ExitCode::SUCCESS);
    }
    let mut taken = Taken::default();
    let probe = watch(args, &live, &mut taken)?;
    live.finish(args.format() != Format::Text);
    taken.take(live.events());
    let mut session = taken.session;
    let Some(mut report) = attach_report(&mut session, SourceKind::Attach) else {
        let why = session.absent.values().next().map(|a| a.text.clone());
        let why = why.unwrap_or_else(|| "it has told nothing yet".to_string());
        return Err(Failure::new(format!("no server was found: {why}"))
            .hint("give more time with --for, or check the address"));
    };
    report.timings.probe = probe;
    if live.events().lost() > 0 {
        let lost = live.events().lost();
        report.warnings.push(format!("{lost} events came too fast to be taken in"));
    }
    print(args.format(), &report)?;
    Ok(of_verdict(report.verdict))
}

/// Prints a report.
pub(super) fn print(format: Format, report: &AttachReport) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(report),
        Format::Markdown => {
            // It is made to be pasted where others read it.
            let (text, mut redactor) = (attach_markdown(report), Redactor::new());
            let lines = text.lines().map(|line| redactor.redact(line) + "\n");
            output::stdout(lines.collect::<String>().as_bytes())
        }
        Format::Text => {
            let style = output::style(&std::io::stdout());
            output::stdout(attach_text(report, style).as_bytes())
        }
    }
}

/// Takes in what happens until the time is over or somebody asks to stop, and until a probe that was
/// asked for has its answer.
fn watch(args: &AttachArgs, live: &Live, taken: &mut Taken) -> Result<Option<ProbeFacts>, Failure> {
    let stop = stop::on_ctrl_c();
    let lasts = args.duration.unwrap_or(WATCHED);
    let (begun, mut probe) = (Instant::now(), None);
    output::stderr(&format!("{} for {} s (Ctrl-C ends it)\n", live.title(), lasts.as_secs_f64()));
    loop {
        taken.take(live.events());
        let stops = stop.load(Ordering::Relaxed);
        let server = taken.session.server.clone();
        if args.probe && probe.is_none() {
            if let Some(fact) = server.filter(|fact| is_ready(fact)) {
                probe = Some(Probe::send(&fact, args.api_key().as_deref())?);
            } else if begun.elapsed() >= READY.max(lasts) {
                return Err(Failure::new("the server does not become ready, so no probe was sent")
                    .hint("see its log"));
            }
        }
        let waits = args.probe && !probe.as_ref().is_some_and(Probe::has_ended);
        if stops || (begun.elapsed() >= lasts && !waits) {
            break;
        }
        std::thread::sleep(TICK.min(lasts));
    }
    Ok(probe.and_then(Probe::facts))
}

fn is_ready(fact: &ServerFact) -> bool {
    fact.state == ServerState::Up && !fact.engine.is_empty()
}

impl AttachArgs {
    /// Whether somebody wants to see it, rather than to read a report of it.
    fn opens_dashboard(&self) -> bool {
        let wants_report = self.format.is_some() || self.duration.is_some() || self.probe;
        !wants_report && std::io::stdout().is_terminal()
    }

    fn format(&self) -> Format {
        self.format.unwrap_or_default()
    }

    fn api_key(&self) -> Option<String> {
        let variable = || std::env::var("OPENAI_API_KEY").ok();
        self.api_key.clone().or_else(variable).filter(|key| !key.trim().is_empty())
    }
}
