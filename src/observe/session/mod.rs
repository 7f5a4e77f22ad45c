//! A session as far as it has come, in bounded memory: what panels show and what rules ask.
//!
//! Events of any source go in, live or from a recording, and the same events give the same session.
//! Nothing here draws a conclusion, reads a clock or does I/O: "now" is the time of the last event.
//! Invariant: memory depends on the model and the machine, not on how long the session lasts.

mod cuts;
mod followed;
mod recent;
mod requests;
mod series;
mod stalls;
mod sums;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::{
    Absent, DeviceFact, DeviceIndex, Event, PlanFact, ServerFact, SubjectFact,
};
use crate::base::setup::SetupFact;

pub use cuts::{Cut, CutPhase, InputSums, OutputSums, SplitSums, SplitTotals, empty_sums};
pub use followed::{Followed, FollowedLine};
pub use recent::{Recent, RecentUbatch};
pub use requests::{EndedRequest, Requests, RunningRequest};
pub use series::{Counters, Point, Series};
pub use stalls::{DeviceSums, On, Stalls};
pub use sums::{FirstToken, LoadTimings, PhaseParts, PhaseSums, Sums};

/// Names of subjects that are kept: threads come and go.
const SUBJECTS_MAX: usize = 8192;

/// Absences that are kept, the newest ones.
const ABSENT_MAX: usize = 1024;

/// Plans that are kept by number, the newest ones.
const PLANS_MAX: usize = 256;

/// A session so far.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Sums over all spans: by split and copy, by phase, by device.
    pub sums: Sums,
    /// The last ubatches with all their spans.
    pub recent: Recent,
    /// How the engine has set up its model, if it is ours.
    pub setup: Option<Arc<SetupFact>>,
    /// The foreign server, if one is watched, as it is now.
    pub server: Option<Arc<ServerFact>>,
    /// How often the server was gone and found again.
    pub server_restarts: u64,
    /// What was sampled.
    pub counters: Counters,
    /// What subjects are.
    pub subjects: BTreeMap<Subject, Arc<SubjectFact>>,
    /// What tells nothing, and why, by what it is of.
    pub absent: BTreeMap<(Source, Option<Subject>, Option<Counter>), Absent>,
    /// Requests.
    pub requests: Requests,
    /// The log that is followed, or that our own engine writes.
    pub log: Followed,
    /// Plans by number.
    pub plans: BTreeMap<u32, Arc<PlanFact>>,
    /// Time of the first event that has one.
    pub first_ns: Option<u64>,
    /// Time of the latest event.
    pub last_ns: u64,
    /// How many events there were.
    pub events: u64,
}

impl Session {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next event.
    pub fn take(&mut self, event: &Event) {
        self.events += 1;
        if let Some(at_ns) = event.at_ns() {
            let start_ns = match event {
                Event::Span(span) => span.start_ns,
                _ => at_ns,
            };
            self.first_ns = Some(self.first_ns.map_or(start_ns, |first| first.min(start_ns)));
            self.last_ns = self.last_ns.max(at_ns);
        }
        self.sums.take(event);
        match event {
            Event::Span(span) => self.recent.span(span),
            Event::Plan(plan) => {
                self.plans.insert(plan.id, Arc::clone(plan));
                while self.plans.len() > PLANS_MAX {
                    self.plans.pop_first();
                }
            }
            Event::Setup(setup) => self.setup = Some(Arc::clone(setup)),
            Event::Server(server) => self.server(server),
            Event::Subject(fact) => self.subject(fact),
            Event::Sample(sample) => {
                self.present(sample.subject, sample.counter);
                self.counters.sample(sample);
            }
            Event::Absent(absent) => {
                let of = (absent.source, absent.subject, absent.counter);
                self.absent.insert(of, absent.clone());
                if self.absent.len() > ABSENT_MAX {
                    let oldest = self.absent.iter().min_by_key(|(_, a)| a.at_ns).map(|(of, _)| *of);
                    oldest.map(|of| self.absent.remove(&of));
                }
            }
            Event::Line(line) => self.log.line(line),
            Event::Request(step) => self.requests.step(step),
            Event::Device(_) | Event::Warning(_) => {}
        }
    }

    /// How long the session has lasted.
    pub fn duration_ns(&self) -> u64 {
        self.first_ns.map_or(0, |first| self.last_ns.saturating_sub(first))
    }

    /// A device that takes part.
    pub fn device(&self, index: DeviceIndex) -> Option<&DeviceFact> {
        self.sums.devices.iter().find(|d| d.index == index)
    }

    /// A device's name; its number when the session never told it.
    pub fn device_name(&self, index: DeviceIndex) -> String {
        self.device(index).map_or_else(|| format!("device {}", index.0), |d| d.name.clone())
    }

    /// A subject's name, if it has one.
    pub fn name(&self, subject: Subject) -> Option<&str> {
        self.subjects.get(&subject).map(|s| s.name.as_str()).filter(|n| !n.is_empty())
    }

    /// The last value of a counter.
    pub fn value(&self, subject: Subject, counter: Counter) -> Option<f64> {
        self.counters.get(subject, counter).map(|s| s.last().value)
    }

    /// Keeps what a subject is. Of too many, those stay of which samples are kept.
    fn subject(&mut self, fact: &Arc<SubjectFact>) {
        self.subjects.insert(fact.subject, Arc::clone(fact));
        if self.subjects.len() > SUBJECTS_MAX {
            let counters = &self.counters;
            self.subjects.retain(|s, _| *s == fact.subject || counters.of(*s).next().is_some());
        }
    }

    fn server(&mut self, server: &Arc<ServerFact>) {
        use crate::base::event::ServerState::Down;
        let was_down = self.server.as_ref().is_some_and(|s| s.state == Down);
        if was_down && server.state != Down {
            self.server_restarts += 1;
        }
        self.server = Some(Arc::clone(server));
    }

    /// What is sampled again is no longer absent.
    fn present(&mut self, subject: Subject, counter: Counter) {
        if self.absent.is_empty() {
            return;
        }
        self.absent.retain(|(source, of, what), _| match (of, what) {
            (Some(of), Some(what)) => (*of, *what) != (subject, counter),
            (Some(of), None) => *of != subject,
            (None, None) => source_of(subject) != Some(*source),
            (None, Some(_)) => true,
        });
    }
}

/// The source whose being absent as a whole a sample of the subject disproves.
fn source_of(subject: Subject) -> Option<Source> {
    match subject {
        Subject::Host | Subject::Core(_) => Some(Source::Host),
        Subject::Process(_) | Subject::Thread(_) => Some(Source::Process),
        Subject::Gpu(_) | Subject::GpuProcess { .. } => Some(Source::Nvml),
        Subject::Server | Subject::Slot(_) => Some(Source::Server),
        Subject::Observer(_) => None,
    }
}
