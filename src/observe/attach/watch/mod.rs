//! Watches a server that runs already: finds it, asks it again and again, and makes events of what it
//! tells.
//!
//! It only reads: no request costs tokens, loads a model or keeps one loaded. It has a thread of its own
//! and hands the processes that compute to the sampler and their log to a follower. Invariant: whatever
//! a server answers, or does not, watching goes on; after [`Watcher::stop`], or when it is dropped, no
//! thread of it is left.

mod endpoint;
mod llama;
mod ollama;
mod rate;
mod state;
mod vllm;

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::base::clock::now_ns;
use crate::base::counter::Source;
use crate::base::event::{AbsentReason, Event};
use crate::base::sink::Sink;
use crate::observe::logs;
use crate::observe::telemetry::host::Roots;
use crate::observe::telemetry::{Beat, Sampler, Unread};

use super::http::Limits;
use super::processes::{ProcessInfo, process_table};
use super::target::Target;

use state::Watch;

/// Tells the processes of this machine.
pub type ProcessSource = Arc<dyn Fn() -> Vec<ProcessInfo> + Send + Sync>;

/// Which log to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogChoice {
    /// The server's, where the system says that it is.
    #[default]
    Find,
    /// This one.
    At(logs::Source),
    /// None.
    Off,
}

/// What to watch, and how.
#[derive(Clone)]
pub struct WatchOptions {
    /// Which server.
    pub target: Target,
    /// Time between two readings.
    pub every: Duration,
    /// How long and how large an answer may be.
    pub limits: Limits,
    /// The key that the server asks for.
    pub key: Option<String>,
    /// Which log to follow.
    pub log: LogChoice,
    /// Who is told which processes compute for the server.
    pub sampler: Option<Arc<Sampler>>,
    /// The value of `OLLAMA_HOST`.
    pub ollama_variable: Option<String>,
    /// Tells the processes of this machine.
    pub processes: ProcessSource,
    /// Where the system's files are.
    pub roots: Roots,
}

impl Default for WatchOptions {
    /// The only server of this machine, once a second.
    fn default() -> Self {
        let limits = Limits {
            connect: Duration::from_secs(1),
            question: Duration::from_secs(2),
            document_bytes: 4 << 20,
            ..Limits::default()
        };
        Self {
            target: Target::Here,
            every: Duration::from_secs(1),
            limits,
            key: None,
            log: LogChoice::Find,
            sampler: None,
            ollama_variable: std::env::var("OLLAMA_HOST").ok(),
            processes: Arc::new(process_table),
            roots: Roots::default(),
        }
    }
}

impl fmt::Debug for WatchOptions {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchOptions")
            .field("target", &self.target)
            .field("every", &self.every)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// The thread that watches.
#[derive(Debug)]
pub struct Watcher {
    beat: Arc<Beat>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts to watch into `sink`.
    pub fn start(options: WatchOptions, sink: &Arc<dyn Sink>) -> Self {
        let beat = Arc::new(Beat::default());
        let (theirs, events) = (Arc::clone(&beat), Arc::clone(sink));
        let run = move || {
            let every = options.every;
            let mut watch = Watch::new(options, Arc::clone(&events));
            theirs.run(Source::Server, every, events.as_ref(), |to| watch.beat(to));
        };
        let thread = thread::Builder::new().name("watch-server".to_string()).spawn(run);
        let thread = match thread {
            Ok(thread) => Some(thread),
            Err(error) => {
                let text = format!("no thread could be started to watch the server: {error}");
                let why = Unread::new(AbsentReason::Unreadable, text, "");
                sink.record(Event::Absent(why.absent(now_ns(), Source::Server, None, None)));
                None
            }
        };
        Self { beat, thread }
    }

    /// Stops and waits for the thread, which takes as long as a reading does.
    pub fn stop(self) {}
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.beat.stop();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so; there is nothing to be added.
            drop(thread.join());
        }
    }
}
