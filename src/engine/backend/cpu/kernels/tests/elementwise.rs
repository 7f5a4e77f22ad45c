//! Sums, products, scaling and gated linear units.

use proptest::prelude::*;

use super::super::elementwise::{add, glu, mul, scale};
use super::{EXP_TOLERANCE, Floats, Random, close, on_every_isa};
use crate::engine::graph::GluKind;

fn gelu(x: f64) -> f64 {
    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    0.5 * x * (1.0 + u.tanh())
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pairs_of_elements_are_combined(
        n in 1_usize..3000,
        rows in 1_usize..5,
        gap in 0_usize..5,
        one_row: bool,
        threads in 1_usize..5,
        seed: u64,
    ) {
        let random = &mut Random::new(seed);
        let mut a = Floats::random([n, rows, 1], gap, random);
        let mut b = Floats::random([n, if one_row { 1 } else { rows }, 1], gap + 1, random);
        let mut out = Floats::zeros([n, rows, 1], gap);
        let (a_view, b_view) = (a.view(), b.view());
        for op in 0..2 {
            on_every_isa(threads, |run| {
                let dst = out.view();
                // SAFETY: all tensors are live and have fitting shapes.
                run(&|wk, isa| unsafe {
                    if op == 0 { add(wk, isa, a_view, b_view, dst) } else { mul(wk, isa, a_view, b_view, dst) }
                });
                assert!(out.gaps_hold());
                for r in 0..rows {
                    let b = b.row(if one_row { 0 } else { r });
                    for i in 0..n {
                        let (x, y) = (a.row(r)[i], b[i]);
                        assert_eq!(out.row(r)[i], if op == 0 { x + y } else { x * y });
                    }
                }
            });
        }
    }

    #[test]
    fn gates_open_and_close(
        n in 1_usize..3000,
        rows in 1_usize..5,
        gap in 0_usize..5,
        threads in 1_usize..5,
        seed: u64,
    ) {
        let random = &mut Random::new(seed);
        let mut gate = Floats::new([n, rows, 1], gap, || 12.0 * random.float());
        let random = &mut Random::new(!seed);
        let mut up = Floats::random([n, rows, 1], gap, random);
        let mut out = Floats::zeros([n, rows, 1], 0);
        let (gate_view, up_view) = (gate.view(), up.view());
        for kind in [GluKind::Silu, GluKind::Gelu] {
            on_every_isa(threads, |run| {
                let dst = out.view();
                // SAFETY: all tensors are live and have the same shape.
                run(&|wk, isa| unsafe { glu(wk, isa, kind, gate_view, up_view, dst) });
                for r in 0..rows {
                    for i in 0..n {
                        let (x, up) = (f64::from(gate.row(r)[i]), f64::from(up.row(r)[i]));
                        let (want, got) = match kind {
                            GluKind::Silu => (silu(x) * up, out.row(r)[i]),
                            GluKind::Gelu => (gelu(x) * up, out.row(r)[i]),
                        };
                        // The reference of gelu cancels where tanh nears −1; f64 keeps 1e-15 there.
                        assert!(
                            close(got, want, 1e-8, 20.0 * EXP_TOLERANCE),
                            "{kind:?} {x}: {got}, not {want}"
                        );
                    }
                }
            });
        }
    }

    #[test]
    fn scaling_may_happen_in_place(
        n in 1_usize..3000, rows in 1_usize..4, gap in 0_usize..5, threads in 1_usize..5, seed: u64,
    ) {
        let before = Floats::random([n, rows, 1], gap, &mut Random::new(seed));
        on_every_isa(threads, |run| {
            let mut x = before.clone();
            let view = x.view();
            // SAFETY: the tensor is live.
            run(&|wk, isa| unsafe { scale(wk, isa, view, view, 0.3) });
            assert!(x.gaps_hold());
            for r in 0..rows {
                for i in 0..n {
                    assert_eq!(x.row(r)[i], before.row(r)[i] * 0.3);
                }
            }
        });
    }
}
