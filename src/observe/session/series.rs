//! Samples of counters: the last ones, and what they were over the whole session.

use std::collections::{BTreeMap, VecDeque};

use crate::base::counter::{Counter, Course, Subject};
use crate::base::event::Sample;

/// Samples of one counter that are kept: a minute at four a second.
const POINTS_MAX: usize = 240;

/// Counters that are kept. Threads and processes come and go; the ones longest without a sample go.
const SERIES_MAX: usize = 4096;

/// A value at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// On the session's clock.
    pub at_ns: u64,
    /// In the counter's unit.
    pub value: f64,
}

/// Samples of one counter.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    course: Course,
    points: VecDeque<Point>,
    /// The first sample of the session.
    pub first: Point,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// How many samples there were.
    pub count: u64,
}

impl Series {
    fn new(course: Course, point: Point) -> Self {
        let (min, max, points) = (point.value, point.value, VecDeque::from([point]));
        Self { course, points, first: point, min, max, count: 1 }
    }

    fn push(&mut self, point: Point) {
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(point);
        self.min = self.min.min(point.value);
        self.max = self.max.max(point.value);
        self.count += 1;
    }

    /// The latest sample.
    pub fn last(&self) -> Point {
        self.points.back().copied().unwrap_or(self.first)
    }

    /// The latest samples, oldest first.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = Point> + ExactSizeIterator {
        self.points.iter().copied()
    }

    /// The samples since a time.
    pub fn since(&self, at_ns: u64) -> impl Iterator<Item = Point> {
        self.points().filter(move |p| p.at_ns >= at_ns)
    }

    /// What a person reads of it over time: of a level the values, of a total its growth per second.
    pub fn shown(&self) -> Vec<Point> {
        match self.course {
            Course::Level => self.points().collect(),
            Course::Total => {
                let pairs = self.points.iter().zip(self.points.iter().skip(1));
                pairs
                    .filter_map(|(a, b)| Some(Point { at_ns: b.at_ns, value: rate(*a, *b)? }))
                    .collect()
            }
        }
    }

    /// The growth per second between the last two samples; of a level nothing.
    pub fn rate(&self) -> Option<f64> {
        let mut latest = self.points.iter().rev();
        let (b, a) = (latest.next()?, latest.next()?);
        (self.course == Course::Total).then(|| rate(*a, *b)).flatten()
    }
}

/// Growth per second. What falls was counted anew.
fn rate(a: Point, b: Point) -> Option<f64> {
    let seconds = b.at_ns.checked_sub(a.at_ns).filter(|ns| *ns > 0)? as f64 / 1e9;
    (b.value >= a.value).then(|| (b.value - a.value) / seconds)
}

/// All counters.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    series: BTreeMap<(Subject, Counter), Series>,
}

impl Counters {
    pub(super) fn sample(&mut self, sample: &Sample) {
        let point = Point { at_ns: sample.at_ns, value: sample.value };
        let of = (sample.subject, sample.counter);
        if let Some(series) = self.series.get_mut(&of) {
            series.push(point);
            return;
        }
        if self.series.len() >= SERIES_MAX {
            let oldest = self.series.iter().min_by_key(|(_, s)| s.last().at_ns).map(|(of, _)| *of);
            oldest.map(|of| self.series.remove(&of));
        }
        self.series.insert(of, Series::new(sample.counter.course(), point));
    }

    /// One counter's samples.
    pub fn get(&self, subject: Subject, counter: Counter) -> Option<&Series> {
        self.series.get(&(subject, counter))
    }

    /// All counters of a subject.
    pub fn of(&self, subject: Subject) -> impl Iterator<Item = (Counter, &Series)> {
        let from = (subject, Counter::ALL[0]);
        let of = self.series.range(from..).take_while(move |((s, _), _)| *s == subject);
        of.map(|((_, counter), series)| (*counter, series))
    }

    /// Everything that was sampled, each once.
    pub fn subjects(&self) -> impl Iterator<Item = Subject> {
        let mut before = None;
        let all = self.series.keys().map(|(subject, _)| *subject);
        all.filter(move |subject| before.replace(*subject) != Some(*subject))
    }

    /// GPUs that were sampled, by NVML's index.
    pub fn gpus(&self) -> impl Iterator<Item = u8> {
        self.subjects().filter_map(|subject| match subject {
            Subject::Gpu(gpu) => Some(gpu),
            _ => None,
        })
    }
}
