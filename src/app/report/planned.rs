//! The report of a model that was placed and cut but not run: everything but times and texts.

use std::sync::Arc;

use crate::base::event::PlanFact;
use crate::engine::runtime::Planned;

use super::cuts::Cut;
use super::document::{
    Phase, REPORT_SCHEMA, Report, Source, SourceKind, SplitReport, Timings, Verdict,
};
use super::facts::engine_facts;

/// The report of a plan. Its splits are those of the largest ubatches, with counts and times of 0.
pub fn plan_report(planned: &Planned) -> Report {
    let devices = planned.devices();
    let splits = |plan: &PlanFact, phase| -> Vec<SplitReport> {
        Cut::new(Arc::new(plan.clone())).plan_reports(phase, &devices)
    };
    let mut all = splits(&planned.decode, Phase::Decode);
    all.extend(splits(&planned.prompt, Phase::Prompt));
    Report {
        schema: REPORT_SCHEMA.to_string(),
        source: Source {
            kind: SourceKind::Run,
            engine: "gpuwhy".to_string(),
            engine_version: env!("CARGO_PKG_VERSION").to_string(),
            dialect: None,
        },
        verdict: Verdict::Unknown,
        findings: Vec::new(),
        warnings: Vec::new(),
        facts: engine_facts(planned.setup(), None),
        splits: all,
        reads: Vec::new(),
        stalls: Vec::new(),
        timings: Timings::default(),
        output: Vec::new(),
    }
}
