//! A scripted target on a machine with a virtual clock: for tests of statistics and of commands.
//!
//! Targets share a [`Machine`], so that one that slows down slows both of them, as a real one does.
//! Nothing here measures anything: all follows from the script and the seed, and an hour of samples
//! takes a moment.

mod noise;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::clock::Clock;
use super::sample::{Conditions, Metric, Part, Sample};
use super::target::{MeasureError, Structure, Target, TargetFacts};
use super::workload::Test;

use noise::State;
pub use noise::{Noise, Series, SeriesSample};

/// The machine that scripted targets run on: its clock and its noise.
#[derive(Debug)]
pub struct Machine {
    state: RefCell<State>,
}

impl Machine {
    /// With kinds of noise that add up; none makes every sample the same.
    pub fn new(seed: u64, noise: Vec<Noise>) -> Rc<Self> {
        Rc::new(Self { state: RefCell::new(State::new(seed, noise)) })
    }
}

impl Clock for Machine {
    fn now_s(&self) -> f64 {
        self.state.borrow().now_s
    }

    fn sleep(&self, seconds: f64) {
        self.state.borrow_mut().now_s += seconds.max(0.0);
    }
}

impl Clock for Rc<Machine> {
    fn now_s(&self) -> f64 {
        self.as_ref().now_s()
    }

    fn sleep(&self, seconds: f64) {
        self.as_ref().sleep(seconds);
    }
}

/// What a scripted target does at a given sample instead of the ordinary.
#[derive(Clone, Debug, PartialEq)]
pub enum Scripted {
    /// Fails in a way that asking again may help.
    Busy,
    /// Fails.
    Broken,
    /// Takes that many times as long.
    Slow(f64),
    /// Runs under these conditions.
    Under(Conditions),
}

/// Seconds of every sample beside its tokens: starting, loading.
const OVERHEAD_S: f64 = 0.5;

/// A scripted target.
#[derive(Clone, Debug)]
pub struct Mock {
    name: String,
    machine: Rc<Machine>,
    metrics: BTreeMap<Metric, f64>,
    slower: BTreeMap<Metric, f64>,
    script: BTreeMap<usize, Scripted>,
    parts: Vec<Part>,
    facts: TargetFacts,
    structure: Structure,
    calls: usize,
    taken: usize,
}

impl Mock {
    /// A target that measures nothing until it is told what.
    pub fn new(name: impl Into<String>, machine: &Rc<Machine>) -> Self {
        Self {
            name: name.into(),
            machine: machine.clone(),
            metrics: BTreeMap::new(),
            slower: BTreeMap::new(),
            script: BTreeMap::new(),
            parts: Vec::new(),
            facts: TargetFacts { engine: "mock".into(), ..TargetFacts::default() },
            structure: Structure::new(),
            calls: 0,
            taken: 0,
        }
    }

    /// Measures this too; `value` is what it is without noise.
    #[must_use]
    pub fn metric(mut self, metric: Metric, value: f64) -> Self {
        self.metrics.insert(metric, value);
        self
    }

    /// Takes `factor` times as long for what this metric measures.
    #[must_use]
    pub fn slower(mut self, metric: Metric, factor: f64) -> Self {
        self.slower.insert(metric, factor);
        self
    }

    /// Does that when it is asked for a sample for the `call`-th time, from 1; warm-up counts.
    #[must_use]
    pub fn at(mut self, call: usize, what: Scripted) -> Self {
        self.script.insert(call, what);
        self
    }

    /// Says where the time went, without noise.
    #[must_use]
    pub fn parts(mut self, parts: Vec<Part>) -> Self {
        self.parts = parts;
        self
    }

    /// What it says that it is.
    #[must_use]
    pub fn with_facts(mut self, facts: TargetFacts) -> Self {
        self.facts = facts;
        self
    }

    /// Its structure, whatever the test.
    #[must_use]
    pub fn with_structure(mut self, structure: Structure) -> Self {
        self.structure = structure;
        self
    }

    /// Samples that it gave.
    pub fn samples_taken(&self) -> usize {
        self.taken
    }
}

/// Whether a test measures it.
fn applies(metric: Metric, test: &Test) -> bool {
    match metric {
        Metric::PromptTokensPerS | Metric::FirstTokenMs => test.prompt_tokens > 0,
        Metric::DecodeTokensPerS | Metric::InterTokenMs | Metric::InterTokenP99Ms => {
            test.generate_tokens > 0
        }
        Metric::ThroughputTokensPerS => test.generate_tokens > 0 && test.concurrency > 1,
        Metric::LoadMs => test.reload,
    }
}

impl Target for Mock {
    fn name(&self) -> &str {
        &self.name
    }

    fn facts(&mut self) -> Result<TargetFacts, MeasureError> {
        Ok(self.facts.clone())
    }

    fn structure(&mut self, _test: &Test) -> Result<Structure, MeasureError> {
        Ok(self.structure.clone())
    }

    fn sample(&mut self, test: &Test) -> Result<Sample, MeasureError> {
        self.calls += 1;
        let scripted = self.script.get(&self.calls);
        let mut machine = self.machine.state.borrow_mut();
        match scripted {
            Some(Scripted::Busy) => {
                return Err(
                    MeasureError::new(format!("{}: scripted to be busy", self.name)).transient()
                );
            }
            Some(Scripted::Broken) => {
                return Err(MeasureError::new(format!("{}: scripted failure", self.name)));
            }
            _ => {}
        }
        let more = if let Some(Scripted::Slow(factor)) = scripted { factor.ln() } else { 0.0 };
        let weather = machine.next();
        let mut sample = Sample { parts: self.parts.clone(), ..Sample::default() };
        for (&metric, &value) in self.metrics.iter().filter(|(m, _)| applies(**m, test)) {
            let slower = self.slower.get(&metric).copied().unwrap_or(1.0);
            let factor = (machine.of(&weather, metric) + more).exp() * slower;
            let value = if metric.higher_is_better() { value / factor } else { value * factor };
            sample.metrics.insert(metric, value);
        }
        if let Some(conditions) = weather.conditions {
            sample.conditions = conditions;
        }
        if let Some(Scripted::Under(conditions)) = scripted {
            sample.conditions = conditions.clone();
        }
        let speed = |metric| sample.metrics.get(&metric).copied().unwrap_or(f64::INFINITY);
        machine.now_s += OVERHEAD_S
            + f64::from(test.prompt_tokens) / speed(Metric::PromptTokensPerS)
            + f64::from(test.generate_tokens) / speed(Metric::DecodeTokensPerS);
        self.taken += 1;
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test() -> Test {
        toml::from_str("name = 't'\ngenerate_tokens = 32\nprompt_tokens = 16").unwrap()
    }

    #[test]
    fn without_noise_every_sample_is_what_was_scripted() {
        let machine = Machine::new(1, vec![]);
        let mut mock = Mock::new("m", &machine)
            .metric(Metric::DecodeTokensPerS, 64.0)
            .metric(Metric::FirstTokenMs, 10.0)
            .metric(Metric::LoadMs, 10.0)
            .slower(Metric::DecodeTokensPerS, 2.0)
            .at(2, Scripted::Slow(4.0));
        let first = mock.sample(&test()).unwrap().metrics;
        assert_eq!(first.len(), 2, "this test loads nothing");
        assert_eq!(first[&Metric::DecodeTokensPerS], 32.0);
        assert_eq!(machine.now_s(), OVERHEAD_S + 1.0);
        let second = mock.sample(&test()).unwrap().metrics;
        assert!((second[&Metric::FirstTokenMs] - 40.0).abs() < 1e-9);
        assert!((second[&Metric::DecodeTokensPerS] - 8.0).abs() < 1e-9);
    }
}
