//! `gpuwhy export`: a recording for other programs.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::observe::record::{Recording, export};

use super::failure::Failure;
use super::recording;

/// Arguments of `gpuwhy export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The recording, made with --record
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// For which program
    #[arg(long, value_enum, default_value_t)]
    to: ExportFormat,

    /// Where to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Forms of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// Perfetto's own format, for ui.perfetto.dev and trace_processor
    #[default]
    Perfetto,
    /// Chrome's trace format, which chrome://tracing and ui.perfetto.dev open
    Chrome,
    /// One line for each span and sample
    Csv,
    /// The last value of each counter, as Prometheus reads it
    Prometheus,
}

/// Runs the command.
pub(super) fn run(args: &ExportArgs) -> Result<(), Failure> {
    let is_shown = args.output.is_none() && io::stdout().is_terminal();
    if args.to == ExportFormat::Perfetto && is_shown {
        return Err(Failure::new("Perfetto's format is not text, and stdout is a terminal")
            .hint("write it to a file with `-o FILE.pftrace`, and open that in ui.perfetto.dev"));
    }
    let mut events =
        Recording::open(&args.file).map_err(|e| recording::failure("read", &args.file, &e))?;
    if let Some(path) = &args.output {
        let failed = |e: io::Error| Failure::file("write", path, &e);
        let mut to = BufWriter::new(File::create(path).map_err(failed)?);
        write(args.to, &mut events, &mut to).and_then(|()| to.flush()).map_err(failed)?;
    } else {
        let mut to = BufWriter::new(io::stdout().lock());
        write(args.to, &mut events, &mut to).and_then(|()| to.flush())?;
    }
    recording::tell_cut(&args.file, events.cut());
    Ok(())
}

fn write(format: ExportFormat, events: &mut Recording, to: &mut dyn Write) -> io::Result<()> {
    match format {
        ExportFormat::Perfetto => export::perfetto(events, to),
        ExportFormat::Chrome => export::chrome(events, to),
        ExportFormat::Csv => export::csv(events, to),
        ExportFormat::Prometheus => export::prometheus(events, to),
    }
}
