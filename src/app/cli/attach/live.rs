//! All that runs while a server is watched: the watcher, the sampler of its processes, the recording.
//!
//! What wants to show it live hands in a sink of its own; the report is made from the session.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::app::cli::failure::Failure;
use crate::app::cli::flags::Format;
use crate::app::cli::output;
use crate::app::cli::recording::Recording;
use crate::base::event::Event;
use crate::base::sink::{Buffer, Fanout, Sink};
use crate::observe::attach::{FoundServer, LogChoice, Target, WatchOptions, Watcher};
use crate::observe::logs::Source;
use crate::observe::session::Session;
use crate::observe::telemetry::{Sampler, SamplerOptions};

use super::{AttachArgs, target};

/// Events that wait to be taken in: a long log comes at once.
const WAITING_MAX: usize = 1 << 18;

/// Warnings that are kept.
const WARNINGS_MAX: usize = 20;

/// A server that is watched.
pub(super) struct Live {
    watcher: Option<Watcher>,
    sampler: Option<Arc<Sampler>>,
    recording: Option<Recording>,
    events: Arc<Buffer>,
    taken: Vec<Event>,
    session: Session,
    warnings: Vec<String>,
    quiet: bool,
}

impl Live {
    /// Finds the server and begins to watch it. What happens goes to `readers` too.
    pub(super) fn start(
        args: &AttachArgs,
        mut readers: Vec<Arc<dyn Sink>>,
    ) -> Result<Self, Failure> {
        let mut options = WatchOptions {
            target: Target::parse(&args.target)?,
            every: Duration::from_millis(args.every),
            key: args.api_key(),
            log: log_choice(args),
            ..WatchOptions::default()
        };
        let place = target::resolve(&options)?;
        if options.target == Target::Here {
            // From now on this one is meant, whatever else is started.
            options.target = match &place.process {
                Some(process) => Target::Pid(process.pid),
                None => Target::Url(place.address.clone()),
            };
        }
        let events = Arc::new(Buffer::new(WAITING_MAX));
        readers.push(events.clone());
        let recording = args.record.as_deref().map(|path| recording(path, &place.address));
        let recording = recording.transpose()?;
        readers.extend(recording.as_ref().map(Recording::sink));
        let sink: Arc<dyn Sink> = Arc::new(Fanout::new(readers));
        // The counters of this machine say nothing of a server on another one.
        let pids = place.process.as_ref().map(FoundServer::working_pids).unwrap_or_default();
        let sampled = SamplerOptions { pids, ..SamplerOptions::default() };
        let is_here = place.address.is_local();
        let sampler = is_here.then(|| Arc::new(Sampler::start(&sampled, &sink)));
        options.sampler.clone_from(&sampler);
        output::stderr(&format!(
            "watching {} for {} s (Ctrl-C ends it)\n",
            place.address,
            args.duration.as_secs_f64()
        ));
        Ok(Self {
            watcher: Some(Watcher::start(options, &sink)),
            sampler,
            recording,
            events,
            taken: Vec::new(),
            session: Session::new(),
            warnings: Vec::new(),
            quiet: args.format != Format::Text,
        })
    }

    /// Takes in what happened since the last call.
    pub(super) fn take(&mut self) {
        self.events.swap(&mut self.taken);
        for event in &self.taken {
            if let Event::Warning(warning) = event
                && self.warnings.len() < WARNINGS_MAX
            {
                self.warnings.push(warning.text.clone());
            }
            self.session.take(event);
        }
    }

    /// The session so far.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Ends it, and gives what it came to with what went wrong on the way.
    pub(super) fn finish(mut self) -> (Session, Vec<String>) {
        // Both emit until they are gone; the watcher holds the sampler too.
        drop(self.watcher.take());
        drop(self.sampler.take());
        self.take();
        if self.events.lost() > 0 {
            let lost = self.events.lost();
            self.warnings.push(format!("{lost} events came too fast to be taken in"));
        }
        if let Some(recording) = self.recording.take() {
            recording.finish(self.quiet);
        }
        (self.session, self.warnings)
    }
}

fn log_choice(args: &AttachArgs) -> LogChoice {
    match &args.log {
        _ if args.no_log => LogChoice::Off,
        Some(source) => LogChoice::At(Source::parse(source)),
        None => LogChoice::Find,
    }
}

fn recording(path: &Path, address: &dyn std::fmt::Display) -> Result<Recording, Failure> {
    Recording::of_another(path, &format!("attach {address}"))
}
