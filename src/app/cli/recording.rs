//! `--record FILE`: everything that happens, and what the machine's counters say meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::sink::Sink;
use crate::base::units::Bytes;
use crate::observe::record::{Cut, RecordError, Recorder};
use crate::observe::telemetry::{Sampler, SamplerOptions};

use super::failure::Failure;
use super::output;

/// A recording that goes on.
pub(super) struct Recording {
    recorder: Arc<Recorder>,
    sampler: Option<Sampler>,
    path: PathBuf,
}

impl Recording {
    /// Starts a new file, and to sample this machine and this process.
    pub(super) fn start(path: &Path, title: &str) -> Result<Self, Failure> {
        let recorder = Recorder::create(path, title).map_err(|e| failure("record to", path, &e))?;
        let recorder = Arc::new(recorder);
        let sink: Arc<dyn Sink> = recorder.clone();
        let pids = vec![std::process::id()];
        let sampler = Sampler::start(&SamplerOptions { pids, ..SamplerOptions::default() }, &sink);
        Ok(Self { recorder, sampler: Some(sampler), path: path.to_path_buf() })
    }

    /// Starts a new file for somebody who samples what there is to sample.
    pub(super) fn of_another(path: &Path, title: &str) -> Result<Self, Failure> {
        let recorder = Recorder::create(path, title).map_err(|e| failure("record to", path, &e))?;
        Ok(Self { recorder: Arc::new(recorder), sampler: None, path: path.to_path_buf() })
    }

    /// Where events go.
    pub(super) fn sink(&self) -> Arc<dyn Sink> {
        self.recorder.clone()
    }

    /// Ends it. A recording that had to stop is told, and fails nothing else.
    pub(super) fn finish(self, quiet: bool) {
        drop(self.sampler);
        let state = self.recorder.finish();
        let path = self.path.display();
        if let Some(why) = &state.stopped {
            output::stderr(&format!("warning: {path} ends early: {why}\n"));
        }
        if state.lost > 0 {
            output::stderr(&format!("warning: {path} lacks {} events\n", state.lost));
        }
        if !quiet {
            let (events, bytes) = (state.events, Bytes(state.bytes));
            output::stderr(&format!("{path}: {events} events, {bytes}\n"));
        }
    }
}

/// Says where a recording that was read breaks off.
pub(super) fn tell_cut(path: &Path, cut: Option<Cut>) {
    if let Some(Cut { bytes_read, bytes_left }) = cut {
        output::stderr(&format!(
            "warning: {} breaks off after {bytes_read} bytes, with {bytes_left} more that cannot be \
             read\n",
            path.display()
        ));
    }
}

/// What to tell when a recording cannot be made or read.
pub(super) fn failure(what: &str, path: &Path, error: &RecordError) -> Failure {
    let failure = Failure::new(format!("cannot {what} {}: {error}", path.display()));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
