//! The report of a model that was placed and cut but not run: everything but times and texts.

use std::sync::Arc;

use crate::base::event::PlanFact;
use crate::engine::runtime::Planned;
use crate::observe::session::Cut;

use super::accumulate::Accumulator;
use super::cuts;
use super::document::{Phase, Report, SplitReport};
use super::facts::engine_facts;
use super::timing::{Totals, build};

/// The report of a plan. Its splits are those of the largest ubatches, with counts and times of 0.
pub fn plan_report(planned: &Planned) -> Report {
    let devices = planned.devices();
    let splits = |plan: &PlanFact, phase| -> Vec<SplitReport> {
        cuts::plan_reports(&Cut::new(Arc::new(plan.clone())), phase, &devices)
    };
    let mut all = splits(&planned.decode, Phase::Decode);
    all.extend(splits(&planned.prompt, Phase::Prompt));
    let facts = engine_facts(planned.setup(), None);
    Report { splits: all, ..build(&Accumulator::new(), facts, Totals::default()) }
}
