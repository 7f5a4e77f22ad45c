//! Correction for many tests at once, and for looking at the samples more than once.
//!
//! Holm's step-down procedure (Holm 1979) keeps the probability of any false claim within a family
//! of tests below the level, whatever their dependence. Looks are paid for out of one budget
//! ("alpha spending", Lan and DeMets 1983): a look may spend what [`Looks::share`] gives it, and
//! since the shares add up to 1, the sum of the levels bounds the probability of a false claim at
//! any look. That bound needs no assumption of how looks depend on each other, and gives away some
//! power for it.

/// Probabilities after Holm's correction, in the order given: comparing them with a level rejects
/// what the procedure rejects at that level.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut corrected, mut largest) = (vec![1.0; p.len()], 0.0_f64);
    for (step, at) in order.into_iter().enumerate() {
        largest = largest.max(p[at] * (p.len() - step) as f64).min(1.0);
        corrected[at] = largest;
    }
    corrected
}

/// After how many samples of each side there is a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looks {
    at: Vec<u32>,
}

/// A look comes when there are so many times the samples of the look before.
const GROWTH: f64 = 1.35;

/// How the budget grows with the share of the samples: to this power. 1 would spend it evenly,
/// which is good for large changes; more saves it for the last looks, where small ones are found.
const SPENDING_POWER: f64 = 1.5;

impl Looks {
    /// From `samples_min` to `samples_max` in steps that grow.
    pub fn new(samples_min: u32, samples_max: u32) -> Self {
        let (mut at, mut next) = (Vec::new(), samples_min.max(1));
        while next < samples_max {
            at.push(next);
            next = (f64::from(next) * GROWTH).ceil() as u32;
        }
        // A last look that comes right after another would be a wasted share.
        if at.last().is_some_and(|last| f64::from(*last) * 1.1 > f64::from(samples_max)) {
            at.pop();
        }
        at.push(samples_max);
        Self { at }
    }

    /// Samples of each side at the look after `samples` were seen; `None` after the last.
    pub fn after(&self, samples: u32) -> Option<u32> {
        self.at.iter().copied().find(|at| *at > samples)
    }

    /// Samples of each side at the last look.
    pub fn last(&self) -> u32 {
        self.at.last().copied().unwrap_or(0)
    }

    /// Share of the budget that is left for the last look.
    pub fn share_of_last(&self) -> f64 {
        match self.at.len().checked_sub(2) {
            Some(before) => 1.0 - self.share(self.at[before]),
            None => 1.0,
        }
    }

    /// Share of the budget that is spent by a look at `samples`, all looks before it included.
    pub fn share(&self, samples: u32) -> f64 {
        (f64::from(samples) / f64::from(self.last().max(1))).min(1.0).powf(SPENDING_POWER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holm_by_hand() {
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (got, want) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((got - want).abs() < 1e-12, "{corrected:?}");
        }
        assert_eq!(holm(&[]), Vec::<f64>::new());
        assert_eq!(holm(&[0.9, 0.8]), vec![1.0, 1.0]);
    }

    #[test]
    fn looks_grow_end_at_the_maximum_and_spend_all() {
        for (least, most) in [(6, 40), (5, 5), (6, 80), (5, 20), (10, 11)] {
            let looks = Looks::new(least, most);
            let (mut at, mut spent) = (0, 0.0);
            while let Some(next) = looks.after(at) {
                assert!(next > at && next >= least && looks.share(next) > spent);
                (at, spent) = (next, looks.share(next));
            }
            assert_eq!((at, spent, looks.last()), (most, 1.0, most));
        }
    }
}
