//! `gpuwhy doctor`: looks at the machine without running a model, and says what is wrong with it.
//!
//! Reads only: no model is loaded, no setting changed, nothing asked of a server that costs tokens.
//! What cannot be read is a fact with a hint. Exit code 1 when a finding is a warning or worse.

mod look;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::advise::diagnose::{Facts, diagnose};
use crate::app::report::{DoctorFact, DoctorReport, doctor_markdown, doctor_report, doctor_text};
use crate::observe::inspect::Inspection;
use crate::observe::logs::{Engine, LineId, LogSession, Seen, Setting};
use crate::observe::session::Session;
use crate::observe::telemetry::host::Roots;

use super::failure::{Failure, of_verdict};
use super::flags::Format;
use super::{log_source, output};

/// Arguments of `gpuwhy doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// How to report
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Take out users, hosts, addresses and keys; Markdown does so without being asked
    #[arg(long, overrides_with = "no_redact")]
    redact: bool,

    /// Leave everything in, in Markdown too
    #[arg(long, overrides_with = "redact")]
    no_redact: bool,

    /// Do not look for a log of Ollama
    #[arg(long)]
    no_log: bool,

    /// Look at the files of a system below this folder instead of this one: a mounted disk, or a copy.
    /// Nothing is asked of servers and drivers then
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let mut report = match &args.root {
        Some(folder) => elsewhere(folder)?,
        None => here(args),
    };
    if args.redact || (args.format == Format::Markdown && !args.no_redact) {
        report.redact();
    }
    match args.format {
        Format::Json => output::json(&report)?,
        Format::Markdown => output::stdout(doctor_markdown(&report).as_bytes())?,
        Format::Text => {
            let style = output::style(&std::io::stdout());
            output::stdout(doctor_text(&report, style).as_bytes())?;
        }
    }
    Ok(of_verdict(report.verdict))
}

/// The files of another system.
fn elsewhere(folder: &std::path::Path) -> Result<DoctorReport, Failure> {
    if !folder.is_dir() {
        return Err(Failure::new(format!("{} is no folder", folder.display())));
    }
    let roots = Roots::under(folder);
    let servers = look::ollama_below(&roots);
    let machine = Inspection::of(&roots, &servers);
    let mut log = LogSession::default();
    take_settings(&mut log, &machine, "");
    Ok(judge(&log, None, &machine, ""))
}

/// This machine.
fn here(args: &DoctorArgs) -> DoctorReport {
    let roots = Roots::default();
    let servers = look::servers();
    let ollama = look::ollama_pids(&servers);
    let mut machine = Inspection::of(&roots, &ollama);
    let mut session = Session::new();
    let version = look::ask(&servers, &mut session, &mut machine);
    look::watch(&roots, &mut session, &mut machine);
    look::own_engine(&mut machine);
    let mut log = if args.no_log { LogSession::default() } else { usual_log(&mut machine) };
    take_settings(&mut log, &machine, &version);
    judge(&log, Some(&session), &machine, &version)
}

fn usual_log(machine: &mut Inspection) -> LogSession {
    match log_source::usual() {
        Ok((place, log)) => {
            machine.see("log", "last log", format!("{place}, {} lines", log.counts.lines));
            log
        }
        Err(tried) => {
            let hint = "gpuwhy logs SOURCE reads another one";
            machine.see_with("log", "last log", format!("none in {}", tried.join(", ")), hint);
            LogSession::default()
        }
    }
}

/// What was found set counts as if the server's log had said so; a log's own lines come first.
fn take_settings(log: &mut LogSession, machine: &Inspection, version: &str) {
    if machine.settings.is_empty() && version.is_empty() {
        return;
    }
    if log.engine == Engine::Unknown {
        log.engine = Engine::Ollama;
    }
    let line = LineId::default();
    if log.version.is_none() && !version.is_empty() {
        log.version = Some(Seen { value: version.to_string(), line });
    }
    for (name, setting) in &machine.settings {
        let value = setting.value.clone();
        log.settings.entry(name.clone()).or_insert(Setting { value, line });
    }
}

fn judge(
    log: &LogSession,
    live: Option<&Session>,
    machine: &Inspection,
    version: &str,
) -> DoctorReport {
    let facts = Facts { log, live, machine: Some(machine) };
    let diagnosis = diagnose(&facts);
    let seen = machine.seen.iter().map(|s| DoctorFact {
        part: s.part.to_string(),
        name: s.name.clone(),
        value: s.value.clone(),
        hint: s.hint.clone(),
    });
    let engine = if log.engine == Engine::Ollama { "ollama" } else { "unknown" };
    doctor_report(log, &diagnosis, (engine, version), seen.collect())
}
