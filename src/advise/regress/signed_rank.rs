//! The signed-rank test of paired samples, its estimate and its interval: the heart of A/B.
//!
//! Each round of an interleaved comparison gives one difference of logarithms, and which side ran
//! first was drawn by lot. If both sides are the same, every difference might as well have had the
//! other sign, whatever the noise was; the test asks how rare the signs seen are among all sign
//! patterns. So it needs no normal distribution, and drift from round to round does not disturb it.
//! No difference is left out. Source: Wilcoxon 1945; zeros after Pratt 1959; the estimate is that
//! of Hodges and Lehmann 1963 and the interval inverts the test (Hollander, Wolfe and Chicken,
//! Nonparametric Statistical Methods, chapter 3).

/// Probabilities of signs at least as uneven as those seen, if there was no difference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedRank {
    /// Of as many positive ones or more: small if the differences are above 0.
    pub p_above: f64,
    /// Of as many negative ones or more: small if the differences are below 0.
    pub p_below: f64,
}

/// The exact test, given the sizes that were seen, ties and zeros included: it is the permutation
/// test over all signs with ranks as scores. Both are 1 for no differences, or for zeros alone.
pub fn signed_rank(differences: &[f64]) -> SignedRank {
    let ranks = doubled_ranks(differences);
    let rank_sum: usize = ranks.iter().map(|r| r.0).sum();
    let positive: usize = ranks.iter().filter(|r| r.1).map(|r| r.0).sum();
    // All signs turned around are as likely: the smaller sum is enough.
    let least = positive.min(rank_sum - positive);
    let shares = shares(ranks.iter().map(|r| r.0), least);
    let at_most = shares.iter().sum::<f64>().min(1.0);
    let at_least = (1.0 - shares[..least].iter().sum::<f64>()).min(1.0);
    if positive == least {
        SignedRank { p_above: at_least, p_below: at_most }
    } else {
        SignedRank { p_above: at_most, p_below: at_least }
    }
}

/// Shares of the sign patterns by their sum of positive ranks, from 0 to `sum_max`.
fn shares(ranks: impl Iterator<Item = usize>, sum_max: usize) -> Vec<f64> {
    let mut shares = vec![0.0; sum_max + 1];
    shares[0] = 1.0;
    let mut reached = 0;
    for rank in ranks {
        reached = (reached + rank).min(sum_max);
        for sum in (0..=reached).rev() {
            let with = if sum >= rank { shares[sum - rank] } else { 0.0 };
            shares[sum] = 0.5 * (shares[sum] + with);
        }
    }
    shares
}

/// Twice the rank of each difference's size, and whether it is above 0. Equal sizes share the mean
/// of their ranks; zeros take ranks and are then left out, as Pratt has it.
fn doubled_ranks(differences: &[f64]) -> Vec<(usize, bool)> {
    let mut sorted: Vec<f64> = differences.to_vec();
    sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let mut ranks = Vec::with_capacity(sorted.len());
    let mut first = 0;
    while first < sorted.len() {
        let size = sorted[first].abs();
        let last = first + sorted[first..].iter().take_while(|d| d.abs() == size).count();
        // Ranks first + 1 to last, whose mean is doubled.
        let rank = first + 1 + last;
        if size > 0.0 {
            ranks.extend(sorted[first..last].iter().map(|d| (rank, *d > 0.0)));
        }
        first = last;
    }
    ranks
}

/// How many Walsh averages are left out at each end for an interval that errs at that end with
/// probability `alpha` at most; `None` where `n` values are too few for any.
fn walsh_cut(n: usize, alpha: f64) -> Option<usize> {
    // The tail is looked for in the lower half alone.
    let shares = shares(1..=n, n * (n + 1) / 4);
    let mut below = 0.0;
    let cut = shares.iter().take_while(|share| {
        below += **share;
        below <= alpha
    });
    match cut.count() {
        0 => None,
        count => Some(count - 1),
    }
}

/// The means of every pair of values, each value with itself included, in order: the estimate of
/// the shift and all its intervals are read off them.
#[derive(Clone, Debug)]
pub struct Walsh {
    count: usize,
    averages: Vec<f64>,
}

impl Walsh {
    /// Of these values; takes the square of their number in time and memory.
    pub fn new(values: &[f64]) -> Self {
        let mut averages = Vec::with_capacity(values.len() * (values.len() + 1) / 2);
        for (i, a) in values.iter().enumerate() {
            averages.extend(values[i..].iter().map(|b| 0.5 * (a + b)));
        }
        averages.sort_unstable_by(f64::total_cmp);
        Self { count: values.len(), averages }
    }

    /// Their median, the estimate of Hodges and Lehmann; 0 for no values.
    pub fn estimate(&self) -> f64 {
        match self.averages.len() {
            0 => 0.0,
            n => 0.5 * (self.averages[(n - 1) / 2] + self.averages[n / 2]),
        }
    }

    /// The interval that errs at either end with probability `alpha` at most; infinite at both
    /// where the values are too few.
    pub fn interval(&self, alpha: f64) -> [f64; 2] {
        match walsh_cut(self.count, alpha) {
            Some(cut) => [self.averages[cut], self.averages[self.averages.len() - 1 - cut]],
            None => [f64::NEG_INFINITY, f64::INFINITY],
        }
    }

    /// Standard error of the estimate, read off the interval of 90 %; `None` for fewer than five
    /// values.
    pub fn standard_error(&self) -> Option<f64> {
        let [low, high] = self.interval(0.05);
        (high - low).is_finite().then_some((high - low) / (2.0 * 1.645))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: every pattern of signs, counted.
    fn by_counting(differences: &[f64]) -> (f64, f64) {
        let ranks = doubled_ranks(differences);
        let seen: usize = ranks.iter().filter(|r| r.1).map(|r| r.0).sum();
        let patterns = 1u32 << ranks.len();
        let (mut above, mut below) = (0, 0);
        for pattern in 0..patterns {
            let sum: usize = ranks
                .iter()
                .enumerate()
                .filter(|(i, _)| pattern >> i & 1 == 1)
                .map(|(_, r)| r.0)
                .sum();
            above += u32::from(sum >= seen);
            below += u32::from(sum <= seen);
        }
        (f64::from(above) / f64::from(patterns), f64::from(below) / f64::from(patterns))
    }

    #[test]
    fn exact_with_ties_and_zeros() {
        for differences in [
            vec![0.3, -0.1, 0.2, 0.7, 0.5, -0.4],
            vec![1.0, 1.0, -1.0, 2.0, 2.0, 0.0, 3.0, -2.0],
            vec![0.0, 0.0, 1.0],
            vec![-1.0; 7],
        ] {
            let test = signed_rank(&differences);
            let (above, below) = by_counting(&differences);
            assert!((test.p_above - above).abs() < 1e-12, "{differences:?}: {test:?} {above}");
            assert!((test.p_below - below).abs() < 1e-12, "{differences:?}: {test:?} {below}");
        }
        assert_eq!(signed_rank(&[]), SignedRank { p_above: 1.0, p_below: 1.0 });
        assert_eq!(signed_rank(&[0.0; 9]), SignedRank { p_above: 1.0, p_below: 1.0 });
    }

    /// Hollander and Wolfe, example 3.1 (Hamilton's depression scale, nine patients): p = 0.019531,
    /// estimate -0.46, interval of 96.1 % from -0.786 to -0.010.
    #[test]
    fn textbook_example() {
        #[expect(clippy::approx_constant, reason = "a score of 3.14 is no pi")]
        let after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29];
        let before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
        let differences: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        assert!((signed_rank(&differences).p_below - 0.019_531_25).abs() < 1e-9);
        let walsh = Walsh::new(&differences);
        assert!((walsh.estimate() + 0.46).abs() < 1e-9, "{}", walsh.estimate());
        let [low, high] = walsh.interval(0.0196);
        assert!((low + 0.786).abs() < 1e-9 && (high + 0.010).abs() < 1e-9, "{low} {high}");
    }

    #[test]
    fn interval_and_test_agree() {
        let differences: Vec<f64> =
            (0..15).map(|i| f64::from(i * i % 11) * 0.13 - 0.2 + f64::from(i) * 0.001).collect();
        for alpha in [0.001, 0.01, 0.05, 0.2] {
            let [low, _] = Walsh::new(&differences).interval(alpha);
            let moved = |by: f64| {
                let d: Vec<f64> = differences.iter().map(|d| d - low + by).collect();
                signed_rank(&d).p_above
            };
            assert!(moved(1e-9) <= alpha && moved(-1e-9) > alpha, "{alpha}");
        }
        assert_eq!(walsh_cut(5, 0.01), None);
        assert_eq!(Walsh::new(&[]).estimate(), 0.0);
    }
}
