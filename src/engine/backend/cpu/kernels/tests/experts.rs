//! Routing of mixture-of-experts layers.

use proptest::prelude::*;

use super::super::experts::{expert_sum, expert_weights};
use super::{Floats, Ints, Random, close, on_every_isa};

/// Rounding of a sum of at most eight products.
const SUM_TOLERANCE: f64 = 1e-6;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chosen_experts_are_weighed_and_added(
        n in 1_usize..2500, k in 1_usize..9, t in 1_usize..4, normalise: bool,
        threads in 1_usize..5, seed: u64,
    ) {
        let n_expert = 16;
        let random = &mut Random::new(seed);
        let mut probs = Floats::new([n_expert, t, 1], 1, || random.float().abs());
        let ids: Vec<i32> = (0..k * t).map(|_| random.below(n_expert) as i32).collect();
        let mut ids = Ints { data: ids, ne: [k, t] };
        let mut x = Floats::random([n, k, t], 2, random);
        let mut weights = Floats::zeros([k, t, 1], 0);
        let mut out = Floats::zeros([n, t, 1], 1);
        let (probs_view, ids_view, x_view) = (probs.view(), ids.view(), x.view());
        on_every_isa(threads, |run| {
            let (w, dst) = (weights.view(), out.view());
            // SAFETY: all tensors are live and have fitting shapes.
            run(&|wk, isa| unsafe {
                expert_weights(wk, probs_view, ids_view, w, normalise);
                wk.barrier();
                expert_sum(wk, isa, x_view, w, dst);
            });
            assert!(out.gaps_hold());
            for r in 0..t {
                let chosen = &ids.data[r * k..][..k];
                let mut want: Vec<f64> =
                    chosen.iter().map(|&i| f64::from(probs.row(r)[i as usize])).collect();
                if normalise {
                    let sum: f64 = want.iter().sum();
                    for w in &mut want {
                        *w /= sum;
                    }
                }
                for e in 0..k {
                    assert!(close(weights.row(r)[e], want[e], 0.0, SUM_TOLERANCE));
                }
                for i in 0..n {
                    let terms = (0..k).map(|e| want[e] * f64::from(x.row(r * k + e)[i]));
                    let scale: f64 = terms.clone().map(f64::abs).sum();
                    assert!(close(out.row(r)[i], terms.sum(), scale, SUM_TOLERANCE));
                }
            }
        });
    }
}
