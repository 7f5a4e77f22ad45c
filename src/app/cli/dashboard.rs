//! What every command that opens the dashboard does alike: signals, failures, the report that `e` writes.

use std::fs::OpenOptions;
use std::io::{self, Write};

use crate::app::report::attach::attach_report;
use crate::app::report::log::AnyReport;
use crate::app::report::{SourceKind, session_report};
use crate::app::tui::{self, End, Feed, ThemeChoice};
use crate::observe::session::Session;

use super::failure::Failure;
use super::stop;

/// Reports that are written beside each other at most.
const REPORTS_MAX: u32 = 1000;

/// Opens the dashboard on a feed until somebody quits; `title` says what is watched.
pub(super) fn show(
    feed: &mut dyn Feed,
    title: &str,
    theme: ThemeChoice,
    kind: SourceKind,
) -> Result<End, Failure> {
    let options = tui::Options {
        title: title.to_string(),
        theme,
        stop: stop::on_ctrl_c(),
        export: Box::new(move |session: &Session| export(session, kind)),
    };
    tui::run(feed, options).map_err(|error| {
        let failure = Failure::new(format!("no dashboard: {error}"));
        match error.kind() {
            io::ErrorKind::Unsupported => failure.hint("--format text prints a report instead"),
            _ => failure,
        }
    })
}

/// Writes the report of a session so far to a new file of the working directory.
fn export(session: &Session, kind: SourceKind) -> Result<String, String> {
    let mut session = session.clone();
    let report = match attach_report(&mut session, kind) {
        Some(report) => Some(AnyReport::Attach(Box::new(report))),
        None => session_report(&mut session, kind, None).map(|r| AnyReport::Run(Box::new(r))),
    };
    let Some(report) = report else {
        return Err("no engine has told of its model yet".to_string());
    };
    let mut text = serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?;
    text.push('\n');
    for number in 1..=REPORTS_MAX {
        let name = format!("gpuwhy-report-{number}.json");
        match OpenOptions::new().write(true).create_new(true).open(&name) {
            Ok(mut file) => {
                file.write_all(text.as_bytes()).map_err(|e| format!("cannot write {name}: {e}"))?;
                return Ok(format!("the report is in {name}"));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("cannot write {name}: {error}")),
        }
    }
    Err("there are too many reports here already".to_string())
}
