//! What one source read at one time, and what it could not read: told once, tried again seldom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::{Event, Sample, SubjectFact};

use super::unread::Unread;

/// How long something absent is left alone.
const RETRY_NS: u64 = 10_000_000_000;

/// What an absence is of; `None` stands for all.
type Of = (Option<Subject>, Option<Counter>);

/// Collects the events of one source.
#[derive(Debug)]
pub struct Readings {
    source: Source,
    at_ns: u64,
    events: Vec<Event>,
    /// What is absent, and since when that was last tried.
    absent: BTreeMap<Of, u64>,
    known: BTreeSet<Subject>,
}

impl Readings {
    /// Nothing read yet.
    pub fn new(source: Source) -> Self {
        let (absent, known) = (BTreeMap::new(), BTreeSet::new());
        Self { source, at_ns: 0, events: Vec::new(), absent, known }
    }

    /// Begins a reading: what follows was read at `at_ns`.
    pub fn begin(&mut self, at_ns: u64) {
        self.at_ns = at_ns;
    }

    /// When the reading in progress began.
    pub fn at_ns(&self) -> u64 {
        self.at_ns
    }

    /// A counter's value.
    pub fn sample(&mut self, subject: Subject, counter: Counter, value: f64) {
        self.sample_at(self.at_ns, subject, counter, value);
    }

    /// A counter's value at another time than the reading's.
    pub fn sample_at(&mut self, at_ns: u64, subject: Subject, counter: Counter, value: f64) {
        // What is back may be told absent again later.
        if !self.absent.is_empty() {
            self.absent.remove(&(Some(subject), Some(counter)));
        }
        self.events.push(Event::Sample(Sample { at_ns, subject, counter, value }));
    }

    /// Something else that became known by this reading.
    pub fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// All of a subject, or of the source, could be read: should it be absent again, that is told again.
    pub fn present(&mut self, subject: Option<Subject>) {
        self.absent.remove(&(subject, None));
    }

    /// Whether something is worth trying: it was never absent, or that is long ago.
    pub fn wants(&self, subject: Option<Subject>, counter: Option<Counter>) -> bool {
        let tried = self.absent.get(&(subject, counter));
        tried.is_none_or(|tried_ns| self.at_ns.saturating_sub(*tried_ns) >= RETRY_NS)
    }

    /// Something could not be read. It is told unless it was absent before.
    pub fn absent(&mut self, subject: Option<Subject>, counter: Option<Counter>, why: Unread) {
        if self.absent.insert((subject, counter), self.at_ns).is_none() {
            self.events.push(Event::Absent(why.absent(self.at_ns, self.source, subject, counter)));
        }
    }

    /// Whether a subject has been described.
    pub fn knows(&self, subject: Subject) -> bool {
        self.known.contains(&subject)
    }

    /// Describes a subject, the first time.
    pub fn describe(
        &mut self,
        subject: Subject,
        name: impl Into<String>,
        details: Vec<(String, String)>,
    ) {
        if self.known.insert(subject) {
            let fact = SubjectFact { subject, name: name.into(), details };
            self.events.push(Event::Subject(Arc::new(fact)));
        }
    }

    /// A subject is gone: should its number come back, it is another one.
    pub fn forget(&mut self, subject: Subject) {
        self.known.remove(&subject);
        self.absent.retain(|of, _| of.0 != Some(subject));
    }

    /// What was read since the last call.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

#[cfg(test)]
mod tests {
    use crate::base::event::AbsentReason;

    use super::*;

    #[test]
    fn absence_is_told_once_until_it_ends() {
        let mut readings = Readings::new(Source::Nvml);
        let of = (Some(Subject::Gpu(0)), Some(Counter::Power));
        let why = || Unread::new(AbsentReason::NotSupported, "no", "");
        readings.begin(5);
        assert!(readings.wants(of.0, of.1));
        readings.absent(of.0, of.1, why());
        assert!(matches!(&readings.take()[..], [Event::Absent(a)] if a.at_ns == 5));
        readings.begin(6);
        assert!(!readings.wants(of.0, of.1));
        readings.begin(5 + RETRY_NS);
        assert!(readings.wants(of.0, of.1));
        readings.absent(of.0, of.1, why());
        assert!(readings.take().is_empty() && !readings.wants(of.0, of.1));
        readings.sample(Subject::Gpu(0), Counter::Power, 1.0);
        assert!(readings.wants(of.0, of.1));
        readings.absent(of.0, of.1, why());
        assert_eq!(readings.take().len(), 2);
    }

    #[test]
    fn a_subject_is_described_once_until_it_is_gone() {
        let mut readings = Readings::new(Source::Process);
        let thread = Subject::Thread(7);
        readings.describe(thread, "a", vec![]);
        readings.describe(thread, "a", vec![]);
        assert_eq!(readings.take().len(), 1);
        readings.forget(thread);
        readings.describe(thread, "b", vec![]);
        assert_eq!(readings.take().len(), 1);
    }
}
