//! All that runs while a server is watched: the watcher, the sampler of its processes, the recording.
//!
//! What happens waits in one buffer, for the dashboard or for a report.

use std::sync::Arc;
use std::time::Duration;

use crate::app::cli::failure::Failure;
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

/// A server that is watched.
pub(super) struct Live {
    watcher: Option<Watcher>,
    sampler: Option<Arc<Sampler>>,
    recording: Option<Recording>,
    events: Arc<Buffer>,
    title: String,
}

impl Live {
    /// Finds the server and begins to watch it.
    pub(super) fn start(args: &AttachArgs) -> Result<Self, Failure> {
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
        let title = format!("attach {}", place.address);
        let recording = args.record.as_deref().map(|path| Recording::of_another(path, &title));
        let recording = recording.transpose()?;
        let events = Arc::new(Buffer::new(WAITING_MAX));
        let mut readers: Vec<Arc<dyn Sink>> = vec![events.clone()];
        readers.extend(recording.as_ref().map(Recording::sink));
        let sink: Arc<dyn Sink> = Arc::new(Fanout::new(readers));
        // The counters of this machine say nothing of a server on another one.
        let pids = place.process.as_ref().map(FoundServer::working_pids).unwrap_or_default();
        let sampled = SamplerOptions { pids, ..SamplerOptions::default() };
        let is_here = place.address.is_local();
        let sampler = is_here.then(|| Arc::new(Sampler::start(&sampled, &sink)));
        options.sampler.clone_from(&sampler);
        let watcher = Some(Watcher::start(options, &sink));
        Ok(Self { watcher, sampler, recording, events, title })
    }

    /// Where what happens waits to be taken.
    pub(super) fn events(&self) -> &Arc<Buffer> {
        &self.events
    }

    /// What is watched, in words.
    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// Ends it; the last events wait to be taken.
    pub(super) fn finish(&mut self, quiet: bool) {
        // Both emit until they are gone; the watcher holds the sampler too.
        drop(self.watcher.take());
        drop(self.sampler.take());
        if let Some(recording) = self.recording.take() {
            recording.finish(quiet);
        }
    }
}

/// What was taken in for a report.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) session: Session,
    events: Vec<Event>,
}

impl Taken {
    /// Takes in what happened since the last call.
    pub(super) fn take(&mut self, from: &Buffer) {
        from.swap(&mut self.events);
        for event in &self.events {
            self.session.take(event);
        }
    }
}

fn log_choice(args: &AttachArgs) -> LogChoice {
    match &args.log {
        _ if args.no_log => LogChoice::Off,
        Some(source) => LogChoice::At(Source::parse(source)),
        None => LogChoice::Find,
    }
}
