//! Uncertainty of the ratio of two medians by drawing again from the samples (bootstrap).
//!
//! Samples taken one after another resemble each other more than distant ones, so blocks of
//! neighbours are drawn instead of single values: the moving-block bootstrap of Künsch 1989, with
//! blocks of about the cube root of the number of samples. Ends of an interval are plain
//! percentiles of the draws (Efron 1979): the corrected ones of BCa rest on a jackknife, which
//! fails for medians. How often they hold is measured in tests/check_rates.rs. The draws follow
//! from a seed: the same samples, the same answer.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::base::stats;

/// Draws from which a standard deviation is taken; of so many it is known to 2 or 3 %.
pub const DRAWS: usize = 1000;

/// Logarithms of the ratio of medians `b / a` of the draws, in order. Empty if either side is, or
/// has a value that is not above 0.
pub fn log_ratios(a: &[f64], b: &[f64], draws: usize, seed: u64) -> Vec<f64> {
    if a.is_empty() || b.is_empty() || a.iter().chain(b).any(|v| v.is_nan() || *v <= 0.0) {
        return Vec::new();
    }
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut ratios: Vec<f64> = (0..draws)
        .map(|_| (median_of_draw(b, &mut random) / median_of_draw(a, &mut random)).ln())
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    ratios
}

/// Length of the blocks of `n` samples that are drawn.
fn block(n: usize) -> usize {
    (n as f64).cbrt().round().max(1.0) as usize
}

fn median_of_draw(values: &[f64], random: &mut Xoshiro256PlusPlus) -> f64 {
    let length = block(values.len());
    let starts = values.len() - length + 1;
    let mut drawn = Vec::with_capacity(values.len() + length);
    while drawn.len() < values.len() {
        let start = (random.next_u64() % starts as u64) as usize;
        drawn.extend_from_slice(&values[start..start + length]);
    }
    drawn.truncate(values.len());
    stats::median(&drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_from_the_seed_and_lie_around_the_ratio() {
        let a: Vec<f64> = (0..40).map(|i| 100.0 + f64::from(i * 17 % 40) / 10.0).collect();
        let b: Vec<f64> = a.iter().map(|v| v * 1.1).collect();
        let draws = log_ratios(&a, &b, 500, 1);
        assert_eq!(draws, log_ratios(&a, &b, 500, 1));
        assert_ne!(draws, log_ratios(&a, &b, 500, 2));
        assert!((stats::median(&draws) - 1.1_f64.ln()).abs() < 0.003);
        // Uniform over 4 % of the value: the median of 40 has a standard error of about 0.3 %.
        let sd = stats::std_dev(&draws) / 2.0_f64.sqrt();
        assert!((0.001..0.006).contains(&sd), "{sd}");
        assert!(log_ratios(&a, &[], 500, 1).is_empty());
        assert!(log_ratios(&a, &[0.0], 500, 1).is_empty());
    }

    #[test]
    fn neighbours_that_resemble_each_other_widen_it() {
        // The same values in the order of a wave, and in one where neighbours have nothing in
        // common.
        let wave = |i: usize| 100.0 + 5.0 * (i as f64 * std::f64::consts::TAU / 40.0).sin();
        let slow: Vec<f64> = (0..40).map(wave).collect();
        let mixed: Vec<f64> = (0..40).map(|i| wave(i * 17 % 40)).collect();
        let sd = |v: &[f64]| stats::std_dev(&log_ratios(v, &[1.0], 1000, 1));
        assert!(sd(&slow) > 1.2 * sd(&mixed), "{} {}", sd(&slow), sd(&mixed));
    }
}
