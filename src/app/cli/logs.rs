//! `gpuwhy logs`: reads what an engine logged, and says why it is slow and what to change.
//!
//! Exit code 1 when a finding is a warning or worse, so that a script can ask.

use std::process::ExitCode;

use clap::Args;

use crate::advise::diagnose::{Diagnosis, Facts, Finding, changes, diagnose};
use crate::app::report::Table;
use crate::app::report::log::{
    Redactor, build_log_report, diff_markdown, diff_report, diff_text, log_markdown, log_text,
};
use crate::observe::logs::LogSession;

use super::failure::{EXIT_FINDINGS, Failure, of_verdict};
use super::flags::Format;
use super::log_source::{self, Look, read};
use super::output;

/// Arguments of `gpuwhy logs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Sources: a file (also packed by gzip or Zstandard), several files in order, - for standard \
input, journald:UNIT, docker:NAME. Without one: what is piped in, or else the places where Ollama \
keeps its log on this system.\n\n\
Examples:\n  gpuwhy logs server.log\n  gpuwhy logs journald:ollama\n  \
docker logs ollama 2>&1 | gpuwhy logs -\n  gpuwhy logs --follow docker:ollama\n  \
gpuwhy logs --format markdown server.log     # to paste into an issue, redacted\n  \
gpuwhy logs --diff fast.log slow.log"
)]
pub(super) struct LogsArgs {
    /// Where the log is
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,

    /// Compare two logs: what changed between a fast run and a slow one
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "sources")]
    diff: Vec<String>,

    /// Go on reading as the log grows, through rotation; report whenever the findings change, and at
    /// the end. As JSON, every report is one line
    #[arg(long, short = 'F', requires = "sources", conflicts_with_all = ["diff", "list_unknown"])]
    follow: bool,

    /// How to report
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Take out users, hosts, addresses, keys and prompts; Markdown does so without being asked
    #[arg(long, overrides_with = "no_redact")]
    redact: bool,

    /// Leave everything in, in Markdown too
    #[arg(long, overrides_with = "redact")]
    no_redact: bool,

    /// List the kinds of lines that no pattern knows, the most frequent first
    #[arg(long, conflicts_with = "diff")]
    list_unknown: bool,
}

/// Runs the command.
pub(super) fn run(args: &LogsArgs) -> Result<ExitCode, Failure> {
    if let [before, after] = args.diff.as_slice() {
        return compare(args, before, after);
    }
    if args.follow {
        return match args.sources.as_slice() {
            [source] => follow(args, source),
            _ => Err(Failure::new("--follow takes one source")),
        };
    }
    let session = read(&args.sources)?;
    if args.list_unknown {
        list_unknown(args, &session)?;
        return Ok(ExitCode::SUCCESS);
    }
    let diagnosis = diagnose(&Facts::of_log(&session));
    report(args, &session, &diagnosis)
}

fn redacts(args: &LogsArgs) -> bool {
    args.redact || (args.format == Format::Markdown && !args.no_redact)
}

fn report(
    args: &LogsArgs,
    session: &LogSession,
    diagnosis: &Diagnosis,
) -> Result<ExitCode, Failure> {
    let mut report = build_log_report(session, diagnosis);
    if redacts(args) {
        Redactor::new().report(&mut report);
    }
    match args.format {
        Format::Json if args.follow => output::json_line(&report)?,
        Format::Json => output::json(&report)?,
        Format::Markdown => output::stdout(log_markdown(&report).as_bytes())?,
        Format::Text => {
            let style = output::style(&std::io::stdout());
            output::stdout(log_text(&report, style).as_bytes())?;
        }
    }
    Ok(of_verdict(report.verdict))
}

fn compare(args: &LogsArgs, before: &str, after: &str) -> Result<ExitCode, Failure> {
    let (a, b) = (read(&[before.to_string()])?, read(&[after.to_string()])?);
    let diagnoses = (diagnose(&Facts::of_log(&a)), diagnose(&Facts::of_log(&b)));
    let changes = changes(&a, &b);
    let mut diff = diff_report((before, after), &changes, (&diagnoses.0, &diagnoses.1));
    if redacts(args) {
        Redactor::new().diff(&mut diff);
    }
    match args.format {
        Format::Json => output::json(&diff)?,
        Format::Markdown => output::stdout(diff_markdown(&diff).as_bytes())?,
        Format::Text => {
            let style = output::style(&std::io::stdout());
            output::stdout(diff_text(&diff, style).as_bytes())?;
        }
    }
    let worse = !diff.problems_new.is_empty();
    Ok(if worse { ExitCode::from(EXIT_FINDINGS) } else { ExitCode::SUCCESS })
}

/// Reports whenever what is found changes, until Ctrl-C or the end of the log, and then once more.
fn follow(args: &LogsArgs, source: &str) -> Result<ExitCode, Failure> {
    let mut before = None;
    let mut code = ExitCode::SUCCESS;
    log_source::follow(source, |session, look| {
        let diagnosis = diagnose(&Facts::of_log(session));
        let rules = |found: &[Finding]| found.iter().map(|f| f.rule).collect::<Vec<_>>();
        let follow = diagnosis.consequences.iter().map(|(f, _)| f.rule).collect::<Vec<_>>();
        let now = (rules(&diagnosis.findings), follow, rules(&diagnosis.benign));
        if look == Look::Last || before.as_ref() != Some(&now) {
            if args.format != Format::Json {
                let between = if before.is_some() { "\n" } else { "" };
                let head = head_of_look(session, look, args.format);
                output::stdout(format!("{between}{head}\n\n").as_bytes())?;
            }
            code = report(args, session, &diagnosis)?;
            before = Some(now);
        }
        Ok(())
    })?;
    Ok(code)
}

/// When a followed log was looked at, and how far it was read: one report comes after another.
fn head_of_look(session: &LogSession, look: Look, format: Format) -> String {
    let mark = if format == Format::Markdown { "## " } else { "== " };
    let what = if look == Look::Last { "at the end, after" } else { "so far," };
    format!("{mark}{}, {what} {} lines", output::utc_now(), session.counts.lines)
}

/// Prints the kinds of lines that no pattern knows.
fn list_unknown(args: &LogsArgs, session: &LogSession) -> Result<(), Failure> {
    let mut table = Table::new(&[">times", ">first at line", "kind of line"]);
    let mut redactor = Redactor::new();
    for (shape, line, count) in &session.counts.unknown_shapes {
        let shape = if redacts(args) { redactor.redact(shape) } else { shape.clone() };
        table.row([count.to_string(), line.0.to_string(), shape]);
    }
    let style = output::style(&std::io::stdout());
    let text = match args.format {
        Format::Markdown => table.markdown(),
        Format::Text => table.text("", style),
        Format::Json => {
            let rows = session.counts.unknown_shapes.iter();
            let rows = rows.map(|(shape, line, count)| {
                serde_json::json!({ "shape": shape, "line": line.0, "count": count })
            });
            return output::json(&rows.collect::<Vec<_>>());
        }
    };
    output::stdout(text.as_bytes())
}
