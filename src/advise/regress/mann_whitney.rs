//! The Mann-Whitney U test of two independent sets of samples: for a side that was measured before.
//!
//! It asks whether one side's values tend to be larger, and knows nothing of sessions: two sessions
//! of one build differ by more than chance, so that `evidence` uses it as one of two
//! conditions, never alone. Exact for any ties where the sets are small: the distribution is
//! counted over all ways to share the values out. Source: Mann and Whitney 1947; the conditional
//! exact test with ties is the permutation test with midranks as scores (Lehmann, Nonparametrics,
//! chapter 1); else the normal approximation with the variance corrected for ties and half a rank
//! for continuity.

use statrs::distribution::{ContinuousCDF, Normal};

/// Values of both sides together up to which the test is exact: drawing 20 of 40 is counted
/// in a million steps.
const EXACT_MAX: usize = 40;

/// Probability of a rank sum of `b` as large as the one seen or larger, if both sides are the same;
/// 1 if either is empty.
pub fn p_larger(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let (ranks, ties) = doubled_ranks(a, b);
    let seen: usize = ranks[a.len()..].iter().sum();
    if ranks.len() <= EXACT_MAX {
        return exact(&ranks, b.len(), seen);
    }
    let (n, m, k) = (ranks.len() as f64, a.len() as f64, b.len() as f64);
    let mean = k * (n + 1.0) / 2.0;
    let variance = m * k / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (seen as f64 / 2.0 - mean - 0.5) / variance.sqrt();
    Normal::standard().sf(z)
}

/// Twice the midrank of every value, `a`'s first, and the sum of `t^3 - t` over groups of `t`
/// equals.
fn doubled_ranks(a: &[f64], b: &[f64]) -> (Vec<usize>, f64) {
    let mut order: Vec<(f64, usize)> =
        a.iter().chain(b).enumerate().map(|(i, v)| (*v, i)).collect();
    order.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut ranks, mut ties, mut first) = (vec![0; order.len()], 0.0, 0);
    while first < order.len() {
        let value = order[first].0;
        let last = first + order[first..].iter().take_while(|v| v.0 == value).count();
        for &(_, at) in &order[first..last] {
            ranks[at] = first + 1 + last;
        }
        let t = (last - first) as f64;
        ties += t * t * t - t;
        first = last;
    }
    (ranks, ties)
}

/// Share of the ways to draw `count` of the ranks whose sum is `seen` or more.
fn exact(ranks: &[usize], count: usize, seen: usize) -> f64 {
    let sum_max: usize = ranks.iter().sum();
    // ways[c][s]: ways to draw c ranks with the sum s, as floats: they exceed 64 bits.
    let mut ways = vec![vec![0.0; sum_max + 1]; count + 1];
    ways[0][0] = 1.0;
    let mut reached = 0;
    for (i, &rank) in ranks.iter().enumerate() {
        reached += rank;
        for c in (1..=count.min(i + 1)).rev() {
            let (fewer, here) = ways.split_at_mut(c);
            let from = &fewer[c - 1];
            for s in rank..=reached {
                here[0][s] += from[s - rank];
            }
        }
    }
    let all: f64 = ways[count].iter().sum();
    ways[count][seen..].iter().sum::<f64>() / all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_values() {
        // All of b above all of a: one way of 10 choose 5.
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]);
        assert!((p_larger(&a, &b) - 1.0 / 252.0).abs() < 1e-12);
        assert!((p_larger(&b, &a) - 1.0).abs() < 1e-12);
        // Equal values say nothing.
        assert!((p_larger(&[1.0; 4], &[1.0; 4]) - 1.0).abs() < 1e-12);
        // Of the 6 ways to draw two of {1, 1, 2, 2} one gives both 2s.
        assert!((p_larger(&[1.0, 1.0], &[2.0, 2.0]) - 1.0 / 6.0).abs() < 1e-12);
        assert!((p_larger(&[1.0, 2.0], &[1.0, 2.0]) - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(p_larger(&[], &[1.0]), 1.0);
    }

    #[test]
    fn approximation_meets_the_exact_test_at_the_seam() {
        let a: Vec<f64> = (0..20).map(|i| f64::from(i * 7 % 21)).collect();
        let mut b: Vec<f64> = (0..20).map(|i| f64::from(i * 11 % 19) + 2.0).collect();
        let exact = p_larger(&a, &b);
        b.push(11.0);
        let close = p_larger(&a, &b);
        assert!((exact - close).abs() < 0.01, "{exact} {close}");
        assert!(exact > 0.01 && exact < 0.2, "{exact}");
    }
}
