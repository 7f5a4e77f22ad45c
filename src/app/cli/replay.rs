//! `gpuwhy replay`: a recording in the dashboard, or its report.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::app::report::attach::attach_report;
use crate::app::report::{SourceKind, markdown, session_report, text};
use crate::app::tui::{Replay, ThemeChoice};
use crate::observe::record::Recording;
use crate::observe::session::Session;

use super::failure::{Failure, of_verdict};
use super::flags::Format;
use super::{attach, dashboard, output, recording};

/// Arguments of `gpuwhy replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The recording, made with --record
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print the session's report instead of opening the dashboard [default: text where stdout is no
    /// terminal]
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Colours of the dashboard
    #[arg(long, value_enum, default_value_t, conflicts_with = "format")]
    theme: ThemeChoice,
}

/// Runs the command.
pub(super) fn run(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let format = args.format.or((!std::io::stdout().is_terminal()).then_some(Format::Text));
    if let Some(format) = format {
        return report(args, format);
    }
    let failed = |e| recording::failure("read", &args.file, &e);
    let mut replay = Replay::open(&args.file).map_err(failed)?;
    let title = replay.title().to_string();
    dashboard::show(&mut replay, &title, args.theme, SourceKind::Replay)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the report of the whole recording.
fn report(args: &ReplayArgs, format: Format) -> Result<ExitCode, Failure> {
    let path = args.file.display();
    let mut events =
        Recording::open(&args.file).map_err(|e| recording::failure("read", &args.file, &e))?;
    let mut session = Session::new();
    for event in events.by_ref() {
        session.take(&event);
    }
    recording::tell_cut(&args.file, events.cut());
    if let Some(report) = attach_report(&mut session, SourceKind::Replay) {
        attach::print(format, &report)?;
        return Ok(of_verdict(report.verdict));
    }
    let Some(report) = session_report(&mut session, SourceKind::Replay, None) else {
        return Err(Failure::new(format!(
            "{path} tells of no model that this program ran, nor of a server"
        ))
        .hint("in a terminal, `gpuwhy replay` shows what it holds"));
    };
    match format {
        Format::Json => output::json(&report)?,
        Format::Markdown => output::stdout(markdown(&report).as_bytes())?,
        Format::Text => {
            let style = output::style(&std::io::stdout());
            output::stdout(text(&report, style).as_bytes())?;
        }
    }
    Ok(of_verdict(report.verdict))
}
