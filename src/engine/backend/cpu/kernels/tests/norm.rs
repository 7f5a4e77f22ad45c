//! Root-mean-square norm and softmax.

use proptest::prelude::*;

use super::super::norm::{rms_norm, soft_max};
use super::{EXP_TOLERANCE, Floats, Random, close, on_every_isa};

/// Relative error of a norm: the root halves that of the sum of squares.
const NORM_TOLERANCE: f64 = 5e-7;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_are_normed(
        n in 1_usize..5000,
        ne1 in 1_usize..4,
        ne2 in 1_usize..3,
        gap in 0_usize..5,
        threads in 1_usize..5,
        seed: u64,
    ) {
        let random = &mut Random::new(seed);
        let mut x = Floats::random([n, ne1, ne2], gap, random);
        let mut weight = Floats::random([n, 1, 1], 0, random);
        let mut out = Floats::zeros([n, ne1, ne2], gap);
        let (x_view, weight_view) = (x.view(), weight.view());
        on_every_isa(threads, |run| {
            let dst = out.view();
            // SAFETY: all tensors are live and have fitting shapes.
            run(&|wk, isa| unsafe { rms_norm(wk, isa, x_view, weight_view, dst, 1e-5) });
            assert!(out.gaps_hold());
            for r in 0..ne1 * ne2 {
                let row = x.row(r);
                let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n as f64;
                let factor = 1.0 / (mean + 1e-5).sqrt();
                for i in 0..n {
                    let want = f64::from(row[i]) * factor * f64::from(weight.row(0)[i]);
                    let got = out.row(r)[i];
                    assert!(close(got, want, 0.0, NORM_TOLERANCE), "{i}: {got}, not {want}");
                }
            }
        });
    }

    #[test]
    fn rows_become_distributions(
        n in 1_usize..300, rows in 1_usize..6, gap in 0_usize..5, threads in 1_usize..5, seed: u64,
    ) {
        let random = &mut Random::new(seed);
        let mut x = Floats::new([n, rows, 1], gap, || 30.0 * random.float());
        let mut out = Floats::zeros([n, rows, 1], gap);
        let x_view = x.view();
        on_every_isa(threads, |run| {
            let dst = out.view();
            // SAFETY: both tensors are live and have the same shape.
            run(&|wk, isa| unsafe { soft_max(wk, isa, x_view, dst) });
            assert!(out.gaps_hold());
            for r in 0..rows {
                let row: Vec<f64> = x.row(r).iter().map(|&x| f64::from(x)).collect();
                let max = row.iter().fold(f64::MIN, |m, &x| m.max(x));
                let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
                for i in 0..n {
                    let want = (row[i] - max).exp() / sum;
                    let got = out.row(r)[i];
                    assert!(close(got, want, 0.0, 3.0 * EXP_TOLERANCE), "{i}: {got}, not {want}");
                }
            }
        });
    }
}

#[test]
fn a_row_that_hides_everything_becomes_zeros() {
    let mut x = Floats::new([20, 2, 1], 0, || f32::NEG_INFINITY);
    let mut out = Floats::new([20, 2, 1], 0, || 1.0);
    let x_view = x.view();
    on_every_isa(1, |run| {
        let dst = out.view();
        // SAFETY: both tensors are live and have the same shape.
        run(&|wk, isa| unsafe { soft_max(wk, isa, x_view, dst) });
        assert!(out.data.iter().all(|&x| x == 0.0));
        out.data.fill(1.0);
    });
}
