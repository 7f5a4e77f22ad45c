//! Rotary position embedding.

use std::f64::consts::PI;

use proptest::prelude::*;

use super::super::rope::{RopeAngles, rope};
use super::{Floats, Ints, Random, close, on_every_isa};
use crate::engine::graph::{RopeMode, RopeParams};

/// Angles are `f32`: at position 10⁴ they are known to 1e-3 of a radian at worst in theory, and the
/// test's positions stay below 2000.
const ANGLE_TOLERANCE: f64 = 4e-4;

fn params(mode: RopeMode, n_dims: usize, yarn: bool) -> RopeParams {
    RopeParams {
        mode,
        n_dims,
        freq_base: 10_000.0,
        freq_scale: if yarn { 0.25 } else { 0.5 },
        n_ctx_orig: 512,
        ext_factor: if yarn { 1.0 } else { 0.0 },
        attn_factor: 1.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
    }
}

/// Angle and magnitude of pair `i`, after the paper.
fn angle(p: &RopeParams, position: i32, i: usize, factor: f64) -> (f64, f64) {
    let base = f64::from(p.freq_base);
    let n = p.n_dims as f64;
    let far = f64::from(position) * base.powf(-2.0 * i as f64 / n) / factor;
    let near = far * f64::from(p.freq_scale);
    if p.ext_factor == 0.0 {
        return (near, f64::from(p.attn_factor));
    }
    let bound =
        |turns: f64| n * (p.n_ctx_orig as f64 / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
    let low = bound(f64::from(p.beta_fast)).floor().max(0.0);
    let high = bound(f64::from(p.beta_slow)).ceil().min(n - 1.0);
    let interpolated = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
    let mix = (1.0 - interpolated) * f64::from(p.ext_factor);
    let magnitude = 1.0 + 0.1 * (1.0 / f64::from(p.freq_scale)).ln();
    (near * (1.0 - mix) + far * mix, magnitude * f64::from(p.attn_factor))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pairs_turn_by_their_angles(
        half in 1_usize..65,
        unturned in 0_usize..20,
        n_head in 1_usize..6,
        t in 1_usize..6,
        neox: bool,
        yarn: bool,
        with_factors: bool,
        threads in 1_usize..5,
        seed: u64,
    ) {
        let (n_dims, d) = (2 * half, 2 * half + unturned);
        let mode = if neox { RopeMode::Neox } else { RopeMode::Norm };
        let p = params(mode, n_dims, yarn);
        let random = &mut Random::new(seed);
        let mut x = Floats::random([d, n_head, t], 3, random);
        let mut factors = Floats::new([half, 1, 1], 0, || 1.5 + random.float());
        let mut positions = Ints { data: (0..t).map(|_| random.below(2000) as i32).collect(), ne: [t, 1] };
        let mut out = Floats::zeros([d, n_head, t], 1);
        let (x_view, at, f) = (x.view(), positions.view(), factors.view());
        on_every_isa(threads, |run| {
            let dst = out.view();
            // SAFETY: all tensors are live and have fitting shapes.
            run(&|wk, isa| unsafe {
                let angles = &mut RopeAngles::default();
                let factors = with_factors.then_some(f);
                rope(wk, isa, x_view, at, factors, dst, &p, angles);
            });
            assert!(out.gaps_hold());
            for r in 0..n_head * t {
                let (from, to) = (x.row(r), out.row(r));
                assert_eq!(&from[n_dims..], &to[n_dims..]);
                for i in 0..half {
                    let factor = if with_factors { f64::from(factors.row(0)[i]) } else { 1.0 };
                    let (theta, magnitude) = angle(&p, positions.data[r / n_head], i, factor);
                    let (a, b) = if neox { (i, half + i) } else { (2 * i, 2 * i + 1) };
                    let (x, y) = (f64::from(from[a]), f64::from(from[b]));
                    let (sin, cos) = theta.sin_cos();
                    let (want_a, want_b) = (x * cos - y * sin, x * sin + y * cos);
                    let scale = 5.0 * magnitude;
                    assert!(close(to[a], want_a * magnitude, scale, ANGLE_TOLERANCE), "pair {i} row {r}");
                    assert!(close(to[b], want_b * magnitude, scale, ANGLE_TOLERANCE), "pair {i} row {r}");
                }
            }
        });
    }
}

#[test]
fn position_zero_changes_nothing() {
    let mut x = Floats::random([64, 3, 1], 0, &mut Random::new(7));
    let before = x.clone();
    let mut positions = Ints { data: vec![0], ne: [1, 1] };
    let at = positions.view();
    let p = params(RopeMode::Norm, 64, false);
    on_every_isa(2, |run| {
        let view = x.view();
        // SAFETY: the tensors are live; rotation in place is allowed.
        run(&|wk, isa| unsafe {
            rope(wk, isa, view, at, None, view, &p, &mut RopeAngles::default());
        });
        assert_eq!(x.data, before.data);
    });
}

/// What one node leaves for the next must not change it: other positions, parameters or factors want
/// angles of their own, and the same ones give the same bits.
#[test]
fn angles_are_kept_only_for_what_they_were_computed_for() {
    let mut x = Floats::random([64, 4, 3], 0, &mut Random::new(3));
    let mut places =
        [[5, 6, 7], [5, 9, 7], [0, 1, 2]].map(|p| Ints { data: p.to_vec(), ne: [3, 1] });
    let mut factors = [2.0, 3.0].map(|f| Floats::new([32, 1, 1], 0, || f));
    let (x, places) = (x.view(), places.each_mut().map(Ints::view));
    let factors = factors.each_mut().map(Floats::view);
    let params =
        [(RopeMode::Norm, 64, false), (RopeMode::Neox, 64, false), (RopeMode::Norm, 64, true)]
            .map(|(mode, n_dims, yarn)| params(mode, n_dims, yarn));
    // Positions, parameters and factors of one node after the other.
    let nodes = [
        (0, 0, 0),
        (0, 0, 0),
        (1, 0, 0),
        (0, 1, 0),
        (0, 2, 0),
        (0, 0, 1),
        (0, 0, 2),
        (2, 0, 2),
        (0, 0, 0),
    ];
    let mut shared = nodes.map(|_| Floats::zeros([64, 4, 3], 0));
    let mut alone = shared.clone();
    on_every_isa(2, |run| {
        let (a, b) = (shared.each_mut().map(Floats::view), alone.each_mut().map(Floats::view));
        // SAFETY: all tensors are live and have fitting shapes.
        run(&|wk, isa| unsafe {
            let angles = &mut RopeAngles::default();
            for (n, &(at, p, f)) in nodes.iter().enumerate() {
                let f = (f > 0).then(|| factors[f - 1]);
                rope(wk, isa, x, places[at], f, a[n], &params[p], angles);
                rope(wk, isa, x, places[at], f, b[n], &params[p], &mut RopeAngles::default());
            }
        });
        for n in 0..nodes.len() {
            assert_eq!(shared[n].data, alone[n].data, "node {n}");
        }
        assert_ne!(shared[0].data, shared[2].data);
        assert_ne!(shared[5].data, shared[6].data);
    });
}
