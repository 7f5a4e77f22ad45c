//! A target with a witness beside it: each sample tells what else went on while it was taken.

use std::collections::BTreeMap;

use super::sample::{Conditions, Sample};
use super::target::{MeasureError, Structure, Target, TargetFacts};
use super::witness::Witness;
use super::workload::Test;

/// See the module.
pub struct Witnessed {
    target: Box<dyn Target>,
    witness: Witness,
    /// Processes of the target; `None` where it is a server whose process is not known, so that its
    /// own load cannot be told from that of others.
    processes: Option<Vec<u32>>,
    /// What is known of the machine that it runs on, beside what it tells itself.
    machine: BTreeMap<String, String>,
}

impl Witnessed {
    /// A target that is a child of this program, or a server with these processes.
    pub fn new(target: Box<dyn Target>, processes: Option<Vec<u32>>) -> Self {
        Self { target, witness: Witness::new(), processes, machine: BTreeMap::new() }
    }

    /// It runs on this machine.
    #[must_use]
    pub fn on(mut self, machine: BTreeMap<String, String>) -> Self {
        self.machine = machine;
        self
    }

    fn watch(
        &mut self,
        run: impl FnOnce(&mut dyn Target) -> Result<Sample, MeasureError>,
    ) -> Result<Sample, MeasureError> {
        let watch = self.witness.begin(self.processes.as_deref().unwrap_or_default());
        let mut sample = run(self.target.as_mut())?;
        let mut seen = watch.end();
        if self.processes.is_none() {
            seen.others_share = None;
            seen.foreign_gpu_processes.clear();
        }
        sample.conditions = joined(sample.conditions, seen);
        Ok(sample)
    }
}

/// What the target saw of the time that counts comes before what was seen around it.
fn joined(own: Conditions, seen: Conditions) -> Conditions {
    let mut throttled = own.throttled;
    throttled.extend(seen.throttled);
    let mut foreign_gpu_processes = own.foreign_gpu_processes;
    foreign_gpu_processes.extend(seen.foreign_gpu_processes);
    Conditions {
        stolen_share: own.stolen_share.or(seen.stolen_share),
        others_share: own.others_share.or(seen.others_share),
        throttled,
        foreign_gpu_processes,
    }
}

impl Target for Witnessed {
    fn name(&self) -> &str {
        self.target.name()
    }

    fn facts(&mut self) -> Result<TargetFacts, MeasureError> {
        let mut facts = self.target.facts()?;
        for (key, value) in &self.machine {
            facts.machine.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Ok(facts)
    }

    fn structure(&mut self, test: &Test) -> Result<Structure, MeasureError> {
        self.target.structure(test)
    }

    fn sample(&mut self, test: &Test) -> Result<Sample, MeasureError> {
        self.watch(|target| target.sample(test))
    }

    fn detail(&mut self, test: &Test) -> Result<Sample, MeasureError> {
        self.watch(|target| target.detail(test))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_target_saw_comes_first() {
        let conditions = |stolen, others, throttled: &str| Conditions {
            stolen_share: stolen,
            others_share: others,
            throttled: vec![throttled.to_string()],
            foreign_gpu_processes: Vec::new(),
        };
        let both = joined(conditions(Some(0.1), None, "a"), conditions(Some(0.2), Some(0.3), "b"));
        assert_eq!((both.stolen_share, both.others_share), (Some(0.1), Some(0.3)));
        assert_eq!(both.throttled, ["a", "b"]);
    }
}
