//! From sums to the report's numbers.

use crate::base::stats;

use super::accumulate::Accumulator;
use super::document::{
    FirstTokenTimings, Output, Phase, PhaseParts, PhasePartsPerToken, PhaseTimings, REPORT_SCHEMA,
    ReadReport, Report, SetupFact, Source, SourceKind, SplitReport, Timings, Verdict,
};
use super::{cuts, stalls};
use crate::observe::session::{PhaseSums, Sums};

/// What a run yields beside its events.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// The generated texts.
    pub output: Vec<Output>,
    /// When each token of each request was ready, counted from the request's first ubatch.
    pub token_ns: Vec<Vec<u64>>,
}

/// The report of a run, without findings.
pub fn build(sums: &Accumulator, facts: SetupFact, totals: Totals) -> Report {
    from_sums(sums.snapshot(), facts, totals)
}

/// The report that follows from sums, which are closed.
pub(super) fn from_sums(sums: Sums, facts: SetupFact, totals: Totals) -> Report {
    let phase = |p: Phase| phase_timings(&sums.phases.get(&p).copied().unwrap_or_default());
    let first: Vec<f64> =
        totals.token_ns.iter().filter_map(|t| t.first()).map(|&ns| ns as f64).collect();
    let gaps: Vec<f64> = totals
        .token_ns
        .iter()
        .flat_map(|t| t.windows(2).map(|w| w[1].saturating_sub(w[0]) as f64))
        .collect();
    let timings = Timings {
        load: sums.load,
        tokenise_ns: sums.tokenise_ns,
        prompt: phase(Phase::Prompt),
        decode: phase(Phase::Decode),
        first_token_ns: stats::median(&first),
        first_token: first_token(&sums),
        inter_token_median_ns: stats::median(&gaps),
        inter_token_p99_ns: stats::quantile(&gaps, 0.99),
        per_node: sums.per_node,
    };
    let mut splits: Vec<SplitReport> = Vec::new();
    let mut reads: Vec<ReadReport> = Vec::new();
    for phase in [Phase::Decode, Phase::Prompt] {
        let mut cuts: Vec<_> = sums.cuts.iter().filter(|c| c.total_ns(phase) > 0).collect();
        cuts.sort_by_key(|c| std::cmp::Reverse(c.total_ns(phase)));
        for (number, cut) in cuts.iter().enumerate() {
            splits.extend(cuts::reports(cut, phase, number as u32, &sums.devices));
            reads.extend(cuts::outputs(cut, phase, number as u32, &sums.devices));
        }
    }
    let stalls = stalls::stall_reports(&sums);
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
        open: Vec::new(),
        warnings: sums.warnings,
        facts,
        splits,
        reads,
        stalls,
        timings,
        output: totals.output,
    }
}

/// The way to the first token of all.
fn first_token(sums: &Sums) -> FirstTokenTimings {
    let (first, load) = (&sums.first, &sums.load);
    let (Some(start_ns), Some(end_ns)) = (first.start_ns, first.end_ns) else {
        return FirstTokenTimings::default();
    };
    let total_ns = end_ns.saturating_sub(start_ns);
    let covered = load.total_ns + sums.tokenise_ns + first.graph_ns + first.prompt_ns;
    FirstTokenTimings {
        open_ns: load.header_ns,
        tokenizer_ns: load.tokenizer_ns,
        weights_ns: load.weights_ns,
        reserve_ns: load.reserve_ns,
        kernels_ns: load.kernels_ns,
        tokenise_ns: sums.tokenise_ns,
        graph_ns: first.graph_ns,
        prompt_ns: first.prompt_ns,
        sample_ns: first.sample_ns,
        unaccounted_ns: total_ns.saturating_sub(covered + first.sample_ns),
        total_ns,
        beyond_prompt_ns: total_ns.saturating_sub(first.prompt_ns),
    }
}

fn phase_timings(sums: &PhaseSums) -> PhaseTimings {
    if sums.ubatches == 0 {
        return PhaseTimings::default();
    }
    let mut parts = sums.parts;
    let covered = covered_ns(&parts).min(sums.total_ns);
    parts.unaccounted_ns = sums.total_ns - covered;
    let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
    let each = |ns: u64| share(ns, sums.tokens);
    PhaseTimings {
        tokens: sums.tokens,
        ubatches: sums.ubatches,
        occupancy: share(sums.tokens, sums.capacity),
        sequences: share(sums.sequences, sums.ubatches),
        total_ns: sums.total_ns,
        tokens_per_s: share(sums.tokens, sums.total_ns) * 1e9,
        parts,
        token_ns: each(sums.total_ns),
        per_token: PhasePartsPerToken {
            graph_ns: each(parts.graph_ns),
            inputs_ns: each(parts.inputs_ns),
            splits_ns: each(parts.wait_ns + parts.copy_ns + parts.compute_ns),
            logits_ns: each(parts.logits_ns),
            sampling_ns: each(parts.sampling_ns),
            detokenise_ns: each(parts.detokenise_ns),
            unaccounted_ns: each(parts.unaccounted_ns),
        },
        accounted_share: share(covered, sums.total_ns),
    }
}

/// What spans cover.
fn covered_ns(parts: &PhaseParts) -> u64 {
    parts.graph_ns
        + parts.inputs_ns
        + parts.wait_ns
        + parts.copy_ns
        + parts.compute_ns
        + parts.logits_ns
        + parts.sampling_ns
        + parts.detokenise_ns
}
