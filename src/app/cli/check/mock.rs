//! Scripted targets from a file, on a virtual clock: `--mock`, for tests of this command.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;

use crate::advise::measure::mock::{Machine, Mock, Noise};
use crate::advise::measure::{Metric, Part, Structure, TargetFacts};
use crate::app::cli::failure::Failure;

/// The file: what both sides are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MockFile {
    /// Of the noise.
    seed: u64,
    /// Its standard deviation, in percent.
    noise_percent: f64,
    /// Runs in turn with the candidate; absent where a stored baseline is compared with.
    baseline: Option<MockSide>,
    candidate: MockSide,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MockSide {
    metrics: BTreeMap<Metric, f64>,
    #[serde(default)]
    slower: BTreeMap<Metric, f64>,
    #[serde(default)]
    parts: Vec<Part>,
    #[serde(default)]
    structure: Structure,
    #[serde(default)]
    facts: Option<TargetFacts>,
}

/// The machine, the baseline if there is one, and the candidate.
pub(super) struct Mocks {
    pub(super) machine: Rc<Machine>,
    pub(super) baseline: Option<Mock>,
    pub(super) candidate: Mock,
}

/// Reads the file.
pub(super) fn read(path: &Path) -> Result<Mocks, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, &e))?;
    let file: MockFile = serde_json::from_str(&text)
        .map_err(|e| Failure::new(format!("{}: no scripted targets: {e}", path.display())))?;
    let sd = file.noise_percent / 100.0;
    let noise = if sd > 0.0 { vec![Noise::Gaussian { sd }] } else { Vec::new() };
    let machine = Machine::new(file.seed, noise);
    let mock = |name: &str, side: MockSide| {
        let mut mock = Mock::new(name, &machine).parts(side.parts).with_structure(side.structure);
        for (metric, value) in side.metrics {
            mock = mock.metric(metric, value);
        }
        for (metric, factor) in side.slower {
            mock = mock.slower(metric, factor);
        }
        match side.facts {
            Some(facts) => mock.with_facts(facts),
            None => mock,
        }
    };
    let baseline = file.baseline.map(|side| mock("baseline", side));
    let candidate = mock("candidate", file.candidate);
    Ok(Mocks { machine, baseline, candidate })
}
