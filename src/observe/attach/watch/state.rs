//! What the watcher knows of its server from one beat to the next: where it is, whether it answers,
//! and which log and processes are its own.

use std::sync::Arc;

use crate::base::clock::now_ns;
use crate::base::counter::Subject;
use crate::base::event::{AbsentReason, Event, ServerFact, ServerState, Warning};
use crate::base::sink::Sink;
use crate::observe::attach::BaseUrl;
use crate::observe::attach::detect::{Protocol, detect};
use crate::observe::attach::discover::{FoundServer, telling_options};
use crate::observe::attach::http::{Client, ErrorKind, HttpError};
use crate::observe::attach::log_follow::LogFollower;
use crate::observe::attach::log_place::{LogPlace, log_place};
use crate::observe::attach::processes::ProcessInfo;
use crate::observe::attach::target::{NotFound, Place, find};
use crate::observe::telemetry::host::process;
use crate::observe::telemetry::{Readings, Unread};

use super::llama::Llama;
use super::ollama::OllamaWatch;
use super::vllm::Listed;
use super::{LogChoice, WatchOptions};

/// What changes seldom is asked for again after so long.
const FACTS_NS: u64 = 10_000_000_000;

/// How a server is spoken with.
enum Serving {
    Llama(Llama),
    Ollama(OllamaWatch),
    Listed(Listed),
}

/// A server that was found.
struct Found {
    place: Place,
    /// When its process was started, in the system's ticks.
    started: Option<u64>,
    /// Nothing until it has said what it is.
    serving: Option<Serving>,
    version: String,
    described_ns: Option<u64>,
}

/// All of it.
pub(super) struct Watch {
    options: WatchOptions,
    sink: Arc<dyn Sink>,
    found: Option<Found>,
    /// Where it was, once it was found.
    place: Option<Place>,
    told: Option<Arc<ServerFact>>,
    follower: Option<LogFollower>,
    /// What is told of the log, as a detail of the server.
    log_told: Option<String>,
}

impl Watch {
    pub(super) fn new(options: WatchOptions, sink: Arc<dyn Sink>) -> Self {
        let mut watch = Self {
            options,
            sink,
            found: None,
            place: None,
            told: None,
            follower: None,
            log_told: None,
        };
        if let LogChoice::At(source) = watch.options.log.clone() {
            watch.follow(source);
        }
        watch
    }

    /// Looks once at everything.
    pub(super) fn beat(&mut self, to: &mut Readings) {
        if self.has_ended() {
            self.lose(to);
        }
        if self.found.is_none() {
            self.look_for(to);
        }
        let Some(found) = &mut self.found else { return };
        match found.is_alive(&self.options) {
            Ok(()) => {
                let is_due = found.is_due(to.at_ns());
                if is_due || self.told.as_ref().is_none_or(|t| t.state != ServerState::Up) {
                    self.describe(to);
                }
                if let Some(Found { serving: Some(serving), .. }) = &mut self.found {
                    to.present(Some(Subject::Server));
                    serving.read(self.told.as_ref().and_then(|fact| fact.slots), to);
                }
            }
            Err(error) => self.has_not_answered(&error, to),
        }
    }

    /// Whether the process that was found is no more, or another has its id.
    fn has_ended(&self) -> bool {
        let Some(Found { place, started: Some(started), .. }) = &self.found else { return false };
        let pid = place.process.as_ref().map(|p| p.pid);
        pid.is_some_and(|pid| started_ticks(&self.options, pid) != Some(*started))
    }

    /// The server is gone: whatever is there next is looked at anew.
    fn lose(&mut self, to: &mut Readings) {
        let Some(found) = self.found.take() else { return };
        let known = match &self.told {
            Some(told) => told.as_ref().clone(),
            None => found.fact(ServerState::Down, to.at_ns(), &[]),
        };
        let fact = ServerFact {
            at_ns: to.at_ns(),
            engine: known.engine,
            engine_version: known.engine_version,
            url: known.url,
            state: ServerState::Down,
            ..ServerFact::default()
        };
        self.tell(fact, to);
    }

    fn look_for(&mut self, to: &mut Readings) {
        let table = (self.options.processes)();
        let variable = self.options.ollama_variable.as_deref();
        match find(&self.options.target, &table, variable, self.place.as_ref()) {
            Ok(place) => {
                let pid = place.process.as_ref().map(|p| p.pid);
                self.found = Some(Found {
                    started: pid.and_then(|pid| started_ticks(&self.options, pid)),
                    place,
                    serving: None,
                    version: String::new(),
                    described_ns: None,
                });
            }
            Err(why) => to.absent(Some(Subject::Server), None, not_found(&why)),
        }
    }

    /// Tells what kind of trouble it is. A server that does not answer in time is still there.
    fn has_not_answered(&mut self, error: &HttpError, to: &mut Readings) {
        let was_up = self.told.as_ref().is_some_and(|t| t.state == ServerState::Up);
        match error.kind {
            ErrorKind::Busy => self.tell_state(ServerState::Loading, to),
            ErrorKind::Timeout if was_up => {
                let hint =
                    "a server in the middle of a long prompt, or one that is stuck, is silent";
                let why = Unread::new(AbsentReason::Unreadable, error.what.clone(), hint);
                to.absent(Some(Subject::Server), None, why);
            }
            ErrorKind::Unauthorized => {
                let hint = "give the server's key with --api-key";
                let why = Unread::new(AbsentReason::NoPermission, error.what.clone(), hint);
                to.absent(Some(Subject::Server), None, why);
                self.tell_state(ServerState::Up, to);
            }
            _ => {
                let hint = error.hint.clone().unwrap_or_default();
                let why = Unread::new(AbsentReason::Unreadable, error.what.clone(), hint);
                to.absent(Some(Subject::Server), None, why);
                self.lose(to);
            }
        }
    }

    /// Asks what the server is, and tells it if that is news.
    fn describe(&mut self, to: &mut Readings) {
        let table = (self.options.processes)();
        let Some(mut found) = self.found.take() else { return };
        // What computes for it may be another process than before.
        let variable = self.options.ollama_variable.as_deref();
        if let Ok(now) = find(&self.options.target, &table, variable, Some(&found.place))
            && now.address == found.place.address
        {
            found.place = now;
        }
        found.described_ns = Some(to.at_ns());
        let mut fact = found.fact(ServerState::Up, to.at_ns(), &table);
        let options = &self.options;
        let described = found.serving.as_mut().map(|serving| {
            serving.describe(&mut fact, &found.place, &|address| client(options, address))
        });
        self.place = Some(found.place.clone());
        self.found = Some(found);
        match described {
            Some(Err(error)) => self.has_not_answered(&error, to),
            _ => self.tell(fact, to),
        }
    }

    /// Tells a state in which nothing else is known.
    fn tell_state(&mut self, state: ServerState, to: &mut Readings) {
        let Some(found) = &self.found else { return };
        let table = if found.place.process.is_some() && self.told.is_none() {
            (self.options.processes)()
        } else {
            Vec::new()
        };
        let fact = found.fact(state, to.at_ns(), &table);
        self.place = Some(found.place.clone());
        self.tell(fact, to);
    }

    /// Tells a fact, unless nothing of it is new, and hands its processes and its log on.
    fn tell(&mut self, mut fact: ServerFact, to: &mut Readings) {
        if fact.state != ServerState::Down {
            self.follow_log_of(fact.pid);
            let log = self.log_told.iter().map(|told| ("log".to_string(), told.clone()));
            fact.details.extend(log);
        }
        if let Some(told) = &self.told {
            let before = ServerFact { at_ns: fact.at_ns, ..told.as_ref().clone() };
            if before == fact {
                return;
            }
        }
        if let Some(sampler) = &self.options.sampler {
            sampler.watch(&fact.working_pids);
        }
        let fact = Arc::new(fact);
        to.tell(Event::Server(Arc::clone(&fact)));
        self.told = Some(fact);
    }

    /// Follows the log of a process, if that is wanted and it is not followed already.
    fn follow_log_of(&mut self, pid: Option<u32>) {
        let (LogChoice::Find, Some(pid)) = (&self.options.log, pid) else { return };
        match log_place(&self.options.roots, pid) {
            LogPlace::At(source) => {
                let followed =
                    self.follower.as_ref().filter(|f| *f.source() == source && !f.has_ended());
                // One that could not be opened is not tried at every beat.
                let tried = self.log_told.as_deref().is_some_and(|t| t.starts_with(&source.name()));
                if followed.is_none() && (!tried || self.follower.is_some()) {
                    self.follow(source);
                }
            }
            LogPlace::Nowhere { why, hint } => {
                self.log_told = Some(format!("none: {why}; {hint}"));
            }
        }
    }

    fn follow(&mut self, source: crate::observe::logs::Source) {
        // The one before is ended first, so that none of its lines come among the new ones.
        self.follower = None;
        let name = source.name();
        self.log_told = Some(match LogFollower::start(source, &self.sink) {
            Ok(follower) => {
                self.follower = Some(follower);
                name
            }
            Err(error) => {
                let text = format!("the log {name} is not followed: {error}; {}", error.hint());
                self.sink.record(Event::Warning(Warning { at_ns: now_ns(), text }));
                format!("{name}, which cannot be read")
            }
        });
    }
}

impl Found {
    /// Whether it answers, and at first what it is.
    fn is_alive(&mut self, options: &WatchOptions) -> Result<(), HttpError> {
        if self.serving.is_none() {
            let client = client(options, &self.place.address);
            let found = again_if_cut_off(|| detect(&client))?;
            self.version = found.version;
            self.serving = Some(match found.protocol {
                Protocol::LlamaServer => Serving::Llama(Llama::new(client)),
                Protocol::Ollama => Serving::Ollama(OllamaWatch::new(client)),
                Protocol::Vllm => Serving::Listed(Listed::new(client, true)),
                Protocol::OpenAi => Serving::Listed(Listed::new(client, false)),
            });
        }
        let Some(serving) = &mut self.serving else { return Ok(()) };
        again_if_cut_off(|| match serving {
            Serving::Llama(llama) => llama.is_alive(),
            Serving::Ollama(ollama) => ollama.is_alive(),
            Serving::Listed(listed) => listed.is_alive(),
        })
    }

    /// Whether what it is should be asked again.
    fn is_due(&self, now_ns: u64) -> bool {
        let is_old = self.described_ns.is_none_or(|at| now_ns.saturating_sub(at) >= FACTS_NS);
        is_old || matches!(&self.serving, Some(Serving::Ollama(ollama)) if ollama.has_changed())
    }

    /// What is known of it without asking it for more.
    fn fact(&self, state: ServerState, at_ns: u64, table: &[ProcessInfo]) -> ServerFact {
        let process = self.place.process.as_ref();
        let protocol = match &self.serving {
            Some(Serving::Llama(_)) => Some(Protocol::LlamaServer),
            Some(Serving::Ollama(_)) => Some(Protocol::Ollama),
            Some(Serving::Listed(listed)) if listed.is_vllm => Some(Protocol::Vllm),
            Some(Serving::Listed(_)) => Some(Protocol::OpenAi),
            None => process.map(|p| p.protocol),
        };
        let engine = match protocol {
            Some(Protocol::LlamaServer) => "llama.cpp",
            Some(Protocol::Ollama) => "ollama",
            Some(Protocol::Vllm) => "vllm",
            Some(Protocol::OpenAi) => "openai",
            None => "",
        };
        let info = process.and_then(|p| table.iter().find(|info| info.pid == p.pid));
        ServerFact {
            at_ns,
            engine: engine.to_string(),
            engine_version: self.version.clone(),
            url: self.place.address.to_string(),
            state,
            pid: process.map(|p| p.pid),
            working_pids: process.map(FoundServer::working_pids).unwrap_or_default(),
            slots: None,
            models: Vec::new(),
            details: info.map(telling_options).unwrap_or_default(),
        }
    }
}

impl Serving {
    fn describe(
        &mut self,
        fact: &mut ServerFact,
        place: &Place,
        make: &dyn Fn(&BaseUrl) -> Client,
    ) -> Result<(), HttpError> {
        let process = place.process.as_ref();
        match self {
            Self::Llama(llama) => llama.describe(fact, process, make),
            Self::Ollama(ollama) => ollama.describe(fact, process, make),
            Self::Listed(listed) => {
                let said = fact.details.iter().find(|(name, _)| name == "max-num-seqs");
                fact.slots = said.and_then(|(_, value)| value.parse().ok());
                listed.describe(fact);
                Ok(())
            }
        }
    }

    fn read(&mut self, slots: Option<u64>, to: &mut Readings) {
        match self {
            Self::Llama(llama) => llama.read(to),
            Self::Ollama(ollama) => ollama.read(to),
            Self::Listed(listed) => listed.read(slots, to),
        }
    }
}

/// Asks once more when a connection that was kept open turned out to be closed.
fn again_if_cut_off<T>(mut ask: impl FnMut() -> Result<T, HttpError>) -> Result<T, HttpError> {
    match ask() {
        Err(error) if error.kind == ErrorKind::Disconnected => ask(),
        other => other,
    }
}

fn client(options: &WatchOptions, address: &BaseUrl) -> Client {
    let client = Client::new(address.clone(), options.limits);
    // A key that cannot be one was refused before anything was watched.
    client.clone().with_key(options.key.as_deref()).unwrap_or(client)
}

/// When a process was started; with its id that names it for good.
fn started_ticks(options: &WatchOptions, pid: u32) -> Option<u64> {
    let text = options.roots.text(&format!("proc/{pid}/stat")).ok()?;
    process::stat(&text).map(|stat| stat.started_ticks)
}

fn not_found(why: &NotFound) -> Unread {
    let (text, hint) = match why {
        NotFound::Nothing => (
            "no Ollama, llama-server or vLLM runs here".to_string(),
            "start one, or give its address",
        ),
        NotFound::NoProcess(pid) => {
            (format!("there is no process {pid}"), "for a port, write it like :11434")
        }
        NotFound::NoServer(pid) => (
            format!("process {pid} is no Ollama, llama-server or vLLM"),
            "give the server's address",
        ),
        NotFound::Several(all) => (
            format!("{} servers run here", all.len()),
            "say which one: its address or its process id",
        ),
    };
    Unread::new(AbsentReason::Unreadable, text, hint)
}
