//! Which parts of a token's time took the extra time, and what none of them explains.
//!
//! Engines that tell where their time goes are sampled a few times in detail on both sides. A part
//! counts only if its change is larger than it varies by itself; the sum of what counts is set
//! against the change of the whole, and the rest is called unexplained. Nothing here says why a
//! part changed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::advise::measure::Part;
use crate::base::stats;

/// The change of one phase, taken apart.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Attribution {
    /// `decode` or `prompt`.
    pub phase: String,
    /// Nanoseconds per token of all parts together, the median of the baseline's samples.
    pub baseline_ns: f64,
    /// The same of the candidate's.
    pub candidate_ns: f64,
    /// Their difference: above 0 is slower.
    pub extra_ns: f64,
    /// Whether that difference is larger than the samples' spread. If not, there is nothing to
    /// explain.
    pub clear: bool,
    /// Parts whose change is clear, the one with the largest share of the difference first.
    pub parts: Vec<PartChange>,
    /// What is left of the difference when the changes of `parts` are taken off.
    pub unexplained_ns: f64,
    /// The same as a share of the difference; absent where the difference is not clear.
    pub unexplained_share: Option<f64>,
    /// Samples in detail of the baseline and of the candidate.
    pub samples: [usize; 2],
}

/// The change of one part.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct PartChange {
    /// What took the time.
    pub what: String,
    /// Nanoseconds per token, the median of the baseline's samples; 0 where it has no such part.
    pub baseline_ns: f64,
    /// The same of the candidate's.
    pub candidate_ns: f64,
    /// Their difference.
    pub extra_ns: f64,
    /// That as a share of the phase's difference: below 0 for a part that went the other way, and
    /// above 1 if others made up for it. Absent where the phase's difference is not clear.
    pub share: Option<f64>,
}

/// A change counts if it is so many times as large as its standard error.
const CLEAR_ERRORS: f64 = 4.0;

/// And at least that share of what the part took: clocks and counters are no finer.
const CLEAR_SHARE: f64 = 0.005;

/// Takes the change apart, for each phase. Every element is one sample's parts; parts of one name
/// are added up. With fewer than three samples of a side its spread is not known, and nothing is
/// clear.
pub fn attribute(baseline: &[Vec<Part>], candidate: &[Vec<Part>]) -> Vec<Attribution> {
    let mut phases: Vec<&str> =
        baseline.iter().chain(candidate).flatten().map(|p| p.phase.as_str()).collect();
    phases.sort_unstable();
    phases.dedup();
    phases.into_iter().map(|phase| of_phase(phase, baseline, candidate)).collect()
}

/// One value for each sample.
type Series = Vec<f64>;

fn of_phase(phase: &str, baseline: &[Vec<Part>], candidate: &[Vec<Part>]) -> Attribution {
    let (before, now) = (by_part(phase, baseline), by_part(phase, candidate));
    let totals = |samples: &[Vec<Part>]| -> Series {
        let total =
            |s: &Vec<Part>| s.iter().filter(|p| p.phase == phase).map(|p| p.ns_per_token).sum();
        samples.iter().map(total).collect()
    };
    let whole = change(phase, &totals(baseline), &totals(candidate));
    let mut names: Vec<&str> = before.keys().chain(now.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let (none_before, none_now) = (vec![0.0; baseline.len()], vec![0.0; candidate.len()]);
    let mut parts: Vec<PartChange> = names
        .into_iter()
        .map(|what| {
            let before = before.get(what).unwrap_or(&none_before);
            change(what, before, now.get(what).unwrap_or(&none_now))
        })
        .filter(|(_, clear)| *clear)
        .map(|(part, _)| part)
        .collect();
    let (whole, clear) = whole;
    let extra_ns = whole.extra_ns;
    if clear {
        for part in &mut parts {
            part.share = Some(part.extra_ns / extra_ns);
        }
    }
    // In the direction of the whole; without one, the largest slowdown first.
    let direction = if clear { extra_ns.signum() } else { 1.0 };
    parts.sort_by(|a, b| (direction * b.extra_ns).total_cmp(&(direction * a.extra_ns)));
    let unexplained_ns = extra_ns - parts.iter().map(|p| p.extra_ns).sum::<f64>();
    Attribution {
        phase: phase.into(),
        baseline_ns: whole.baseline_ns,
        candidate_ns: whole.candidate_ns,
        extra_ns,
        clear,
        parts,
        unexplained_ns,
        unexplained_share: clear.then(|| unexplained_ns / extra_ns),
        samples: [baseline.len(), candidate.len()],
    }
}

fn by_part<'a>(phase: &str, samples: &'a [Vec<Part>]) -> BTreeMap<&'a str, Series> {
    let mut parts: BTreeMap<&str, Series> = BTreeMap::new();
    for (i, sample) in samples.iter().enumerate() {
        for part in sample.iter().filter(|p| p.phase == phase) {
            parts.entry(&part.what).or_insert_with(|| vec![0.0; samples.len()])[i] +=
                part.ns_per_token;
        }
    }
    parts
}

/// The change of what took `before` and takes `now`, and whether it is clear.
fn change(what: &str, before: &[f64], now: &[f64]) -> (PartChange, bool) {
    let (baseline_ns, candidate_ns) = (stats::median(before), stats::median(now));
    let extra_ns = candidate_ns - baseline_ns;
    // Standard error of a median of normal values. The standard deviation is no robust measure, on
    // purpose: with a handful of samples, one far value is a reason to doubt the part.
    let error = |values: &[f64]| 1.2533 * stats::std_dev(values) / (values.len() as f64).sqrt();
    let clear = before.len() >= 3
        && now.len() >= 3
        && extra_ns.abs() > CLEAR_ERRORS * error(before).hypot(error(now))
        && extra_ns.abs() > CLEAR_SHARE * baseline_ns.max(candidate_ns);
    let what = what.to_string();
    (PartChange { what, baseline_ns, candidate_ns, extra_ns, share: None }, clear)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(times: &[(&str, f64)]) -> Vec<Part> {
        let part = |&(what, ns_per_token): &(&str, f64)| Part {
            phase: "decode".into(),
            what: what.into(),
            ns_per_token,
        };
        times.iter().map(part).collect()
    }

    /// Five samples with a spread of about one percent around these times, the same every time.
    fn five(times: &[(&str, f64)]) -> Vec<Vec<Part>> {
        let sample = |i: usize| {
            let spread = |j: usize| 1.0 + 0.005 * ((i * 7 + j * 3) % 5) as f64 - 0.01;
            let noisy: Vec<(&str, f64)> =
                times.iter().enumerate().map(|(j, (what, ns))| (*what, ns * spread(j))).collect();
            parts(&noisy)
        };
        (0..5).map(sample).collect()
    }

    #[test]
    fn the_part_that_grew_is_named_first_and_noise_is_not() {
        let before = five(&[("copy", 1000.0), ("MUL_MAT", 8000.0), ("sampling", 500.0)]);
        let now =
            five(&[("copy", 1800.0), ("MUL_MAT", 8010.0), ("sampling", 500.0), ("sync", 200.0)]);
        let found = attribute(&before, &now);
        assert_eq!(found.len(), 1);
        let decode = &found[0];
        assert!(decode.clear && (decode.extra_ns - 1010.0).abs() < 60.0, "{decode:?}");
        let named: Vec<&str> = decode.parts.iter().map(|p| p.what.as_str()).collect();
        assert_eq!(named, ["copy", "sync"]);
        assert!((decode.parts[0].share.unwrap() - 0.8).abs() < 0.05, "{decode:?}");
        assert!(decode.unexplained_share.unwrap().abs() < 0.08, "{decode:?}");
    }

    #[test]
    fn what_no_part_explains_is_said() {
        // A hundred parts grow by less than each of them varies.
        let names: Vec<String> = (0..100).map(|i| format!("node {i}")).collect();
        let all = |ns: f64| five(&names.iter().map(|n| (n.as_str(), ns)).collect::<Vec<_>>());
        let found = &attribute(&all(100.0), &all(101.0))[0];
        assert!(found.parts.is_empty() && found.clear, "{found:?}");
        assert!((found.unexplained_share.unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn without_a_clear_change_there_are_no_shares() {
        let before = five(&[("copy", 1000.0), ("MUL_MAT", 8000.0)]);
        let found = &attribute(&before, &before.iter().rev().cloned().collect::<Vec<_>>())[0];
        assert!(!found.clear && found.parts.is_empty() && found.unexplained_share.is_none());
        // One sample of each side tells no spread.
        let (one, other) = (parts(&[("copy", 1000.0)]), parts(&[("copy", 5000.0)]));
        assert!(!attribute(&[one], &[other])[0].clear);
    }

    #[test]
    fn a_part_that_went_away_is_a_gain_and_phases_are_kept_apart() {
        let mut before = five(&[("copy", 1000.0), ("MUL_MAT", 8000.0)]);
        let now = five(&[("MUL_MAT", 8000.0)]);
        for sample in &mut before {
            sample.push(Part { phase: "prompt".into(), what: "copy".into(), ns_per_token: 5.0 });
        }
        let found = attribute(&before, &now);
        assert_eq!(
            found.iter().map(|a| a.phase.as_str()).collect::<Vec<_>>(),
            ["decode", "prompt"]
        );
        assert!((found[0].parts[0].extra_ns + 1000.0).abs() < 20.0);
        assert!((found[0].parts[0].share.unwrap() - 1.0).abs() < 0.1);
    }
}
