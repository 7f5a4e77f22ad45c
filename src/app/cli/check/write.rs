//! The result in the forms that were asked for.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

use crate::app::cli::failure::Failure;
use crate::app::cli::output;
use crate::app::report::Style;
use crate::app::report::check::{
    CheckReport, bencher, benchstat, check_markdown, check_text, github, github_benchmark, junit,
};

use super::{CheckArgs, CheckFormat};

/// A form and the file that it goes to.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    format: CheckFormat,
    path: PathBuf,
}

/// `junit=check.xml`.
pub(super) fn destination(text: &str) -> Result<Destination, String> {
    let (format, path) = text.split_once('=').ok_or("it is FORMAT=FILE, like junit=check.xml")?;
    let format = CheckFormat::from_str(format, true).map_err(|_| {
        let known: Vec<String> = CheckFormat::value_variants()
            .iter()
            .filter_map(|f| f.to_possible_value().map(|v| v.get_name().to_string()))
            .collect();
        format!("'{format}' is no form; there are {}", known.join(", "))
    })?;
    if path.is_empty() {
        return Err("the file's name is missing".to_string());
    }
    Ok(Destination { format, path: PathBuf::from(path) })
}

/// Writes everything; files first, so that they are there when stdout ends.
pub(super) fn all(args: &CheckArgs, report: &CheckReport) -> Result<(), Failure> {
    for Destination { format, path } in &args.write {
        let text = text(report, *format, Style::Plain)?;
        std::fs::write(path, text).map_err(|e| Failure::file("write", path, &e))?;
    }
    if args.format == CheckFormat::Github {
        summary(report)?;
    }
    let style = output::style(&std::io::stdout());
    output::stdout(text(report, args.format, style)?.as_bytes())
}

/// Adds the Markdown to the job's summary, where the workflow has one.
fn summary(report: &CheckReport) -> Result<(), Failure> {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|p| !p.is_empty()) else {
        return Ok(());
    };
    let path = Path::new(&path);
    let file = OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut f| f.write_all(check_markdown(report).as_bytes()));
    written.map_err(|e| Failure::file("write", path, &e))
}

fn text(report: &CheckReport, format: CheckFormat, style: Style) -> Result<String, Failure> {
    Ok(match format {
        CheckFormat::Text => check_text(report, style),
        CheckFormat::Json => json(report)?,
        CheckFormat::Markdown => check_markdown(report),
        CheckFormat::Junit => junit(report),
        CheckFormat::Github => github(report),
        CheckFormat::Benchstat => benchstat(report, false),
        CheckFormat::BenchstatBaseline => benchstat(report, true),
        CheckFormat::BenchmarkBigger => json(&github_benchmark(report, true))?,
        CheckFormat::BenchmarkSmaller => json(&github_benchmark(report, false))?,
        CheckFormat::Bencher => json(&bencher(report))?,
    })
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    text.map(|t| t + "\n").map_err(|e| Failure::new(format!("cannot write the result: {e}")))
}
