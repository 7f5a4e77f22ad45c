//! The searches of the K-quants: which scale, and which minimum, lose least of a sub-block.
//!
//! A super-block has several sub-blocks that are fitted independently of each other. The functions
//! here fit `L` of them side by side: lane `l` of every array belongs to sub-block `l`. The compiler
//! turns the lanes into vector instructions, while every sum still adds its terms in the order of
//! the elements, which keeps the results identical to ggml's reference quantisers.

use half::f16;

use super::QK_K;
use super::round::{ZERO_BELOW, finite_f16, nearest, signed_peak};

/// One number per sub-block.
type Lanes<const L: usize> = [f32; L];

/// Regroups a super-block of `L` sub-blocks with `N` elements each: `out[i][l] = x[l * N + i]`.
pub(super) fn to_lanes<const L: usize, const N: usize>(x: &[f32; QK_K]) -> [Lanes<L>; N] {
    const { assert!(L * N == QK_K) };
    std::array::from_fn(|i| std::array::from_fn(|l| x[l * N + i]))
}

/// How [`fit_affine`] tries scales, and what it minimises.
#[derive(Clone, Copy)]
pub(super) struct AffineSearch {
    /// The largest level; the smallest is 0.
    pub(super) max_level: f32,
    /// Tries spread the range over `max_level + start + k * 0.1` levels, `k` in `0..=steps`.
    pub(super) start: f32,
    /// Number of tries less one.
    pub(super) steps: u8,
    /// Minimise absolute differences instead of squared ones.
    pub(super) absolute: bool,
}

/// What [`fit_affine`] found: `x[i][l] ≈ scale[l] * levels[i][l] - min[l]`.
struct Affine<const L: usize, const N: usize> {
    scale: Lanes<L>,
    min: Lanes<L>,
    levels: [Lanes<L>; N],
}

/// The weighted sums over a sub-block from which the least-squares scale and minimum follow.
struct Sums<const L: usize> {
    l: Lanes<L>,
    l2: Lanes<L>,
    xl: Lanes<L>,
}

/// Fits `x ≈ scale * level - min` with levels from 0 and `min >= 0`, by weighted least squares over
/// the levels that a series of trial scales gives.
#[inline(never)]
fn fit_affine<const L: usize, const N: usize>(
    x: &[Lanes<L>; N],
    weights: &[Lanes<L>; N],
    search: AffineSearch,
) -> Affine<L, N> {
    let max_level = search.max_level;
    let (mut lo, mut hi) = (x[0], x[0]);
    let mut sum_w = weights[0];
    let mut sum_x: Lanes<L> = std::array::from_fn(|l| weights[0][l] * x[0][l]);
    for i in 1..N {
        for l in 0..L {
            lo[l] = if x[i][l] < lo[l] { x[i][l] } else { lo[l] };
            hi[l] = if x[i][l] > hi[l] { x[i][l] } else { hi[l] };
            sum_w[l] += weights[i][l];
            sum_x[l] += weights[i][l] * x[i][l];
        }
    }
    for l in 0..L {
        lo[l] = lo[l].min(0.0);
    }
    // A constant sub-block needs no scale; its value is all in the minimum.
    let flat: [bool; L] = std::array::from_fn(|l| hi[l] == lo[l]);

    let inverse: Lanes<L> =
        std::array::from_fn(|l| if flat[l] { 0.0 } else { max_level / (hi[l] - lo[l]) });
    let mut scale: Lanes<L> = std::array::from_fn(|l| if flat[l] { 0.0 } else { 1.0 / inverse[l] });
    let (mut levels, _) = levels_and_sums(x, weights, &lo, &inverse, max_level);
    let mut best = loss(x, weights, &levels, &scale, &lo, search.absolute);

    for step in 0..=search.steps {
        let reach = search.start + 0.1 * f32::from(step) + max_level;
        let inverse: Lanes<L> =
            std::array::from_fn(|l| if flat[l] { 0.0 } else { reach / (hi[l] - lo[l]) });
        let (trial, sums) = levels_and_sums(x, weights, &lo, &inverse, max_level);
        let mut trial_scale = [0.0; L];
        let mut trial_lo = [0.0; L];
        let mut solvable = [false; L];
        for l in 0..L {
            let det = sum_w[l] * sums.l2[l] - sums.l[l] * sums.l[l];
            solvable[l] = det > 0.0;
            trial_scale[l] = (sum_w[l] * sums.xl[l] - sum_x[l] * sums.l[l]) / det;
            trial_lo[l] = (sums.l2[l] * sum_x[l] - sums.l[l] * sums.xl[l]) / det;
            if trial_lo[l] > 0.0 {
                trial_lo[l] = 0.0;
                trial_scale[l] = sums.xl[l] / sums.l2[l];
            }
        }
        let cost = loss(x, weights, &trial, &trial_scale, &trial_lo, search.absolute);
        let better: [bool; L] = std::array::from_fn(|l| solvable[l] && cost[l] < best[l]);
        if !better.contains(&true) {
            continue;
        }
        for l in 0..L {
            if better[l] {
                best[l] = cost[l];
                scale[l] = trial_scale[l];
                // Later tries start from this minimum, as they do in ggml.
                lo[l] = trial_lo[l];
            }
        }
        for i in 0..N {
            for l in 0..L {
                levels[i][l] = if better[l] { trial[i][l] } else { levels[i][l] };
            }
        }
    }
    Affine { scale, min: lo.map(|v| -v), levels }
}

/// The levels that one inverse scale gives, and the sums over them.
#[inline(always)]
fn levels_and_sums<const L: usize, const N: usize>(
    x: &[Lanes<L>; N],
    weights: &[Lanes<L>; N],
    lo: &Lanes<L>,
    inverse: &Lanes<L>,
    max_level: f32,
) -> ([Lanes<L>; N], Sums<L>) {
    let mut levels = [[0.0; L]; N];
    let mut sums = Sums { l: [0.0; L], l2: [0.0; L], xl: [0.0; L] };
    for i in 0..N {
        for l in 0..L {
            let level = nearest(inverse[l] * (x[i][l] - lo[l]), 0.0, max_level);
            let weighted = weights[i][l] * level;
            levels[i][l] = level;
            sums.l[l] += weighted;
            sums.l2[l] += weighted * level;
            sums.xl[l] += weighted * x[i][l];
        }
    }
    (levels, sums)
}

/// The weighted difference between `x` and what scale, minimum and levels stand for.
#[inline(always)]
fn loss<const L: usize, const N: usize>(
    x: &[Lanes<L>; N],
    weights: &[Lanes<L>; N],
    levels: &[Lanes<L>; N],
    scale: &Lanes<L>,
    lo: &Lanes<L>,
    absolute: bool,
) -> Lanes<L> {
    let mut sum = [0.0; L];
    for i in 0..N {
        for l in 0..L {
            let diff = scale[l] * levels[i][l] + lo[l] - x[i][l];
            let diff = if absolute { diff.abs() } else { diff * diff };
            sum[l] += weights[i][l] * diff;
        }
    }
    sum
}

/// A super-block of an affine K-quant (`Q2_K`, `Q4_K`, `Q5_K`) before it is packed:
/// `x[l * N + i] ≈ d * scales[l] * levels[l * N + i] - dmin * mins[l]`.
pub(super) struct AffineSuperBlock<const L: usize> {
    pub(super) d: f16,
    pub(super) dmin: f16,
    pub(super) scales: [u8; L],
    pub(super) mins: [u8; L],
    pub(super) levels: [u8; QK_K],
}

/// Quantises a super-block of `L` sub-blocks with `N` elements each. Scales and minima become
/// integers up to `max_scale`; the levels are then chosen anew for what is left of the scales.
pub(super) fn affine_super_block<const L: usize, const N: usize>(
    x: &[f32; QK_K],
    weights: &[Lanes<L>; N],
    search: AffineSearch,
    max_scale: f32,
) -> AffineSuperBlock<L> {
    let fit = fit_affine(&to_lanes(x), weights, search);
    let (d, scales) = share_scale(&fit.scale, max_scale);
    let (dmin, mins) = share_scale(&fit.min, max_scale);
    let mut levels = [0; QK_K];
    for l in 0..L {
        let scale = d.to_f32() * f32::from(scales[l]);
        let min = dmin.to_f32() * f32::from(mins[l]);
        for i in 0..N {
            // With a scale of zero the levels mean nothing; ggml keeps those of the search.
            levels[l * N + i] = if scale == 0.0 {
                fit.levels[i][l] as u8
            } else {
                nearest((x[l * N + i] + min) / scale, 0.0, search.max_level) as u8
            };
        }
    }
    AffineSuperBlock { d, dmin, scales, mins, levels }
}

/// Non-negative numbers as a common half times integers up to `max`.
fn share_scale<const L: usize>(values: &Lanes<L>, max: f32) -> (f16, [u8; L]) {
    let largest = values.iter().fold(0.0_f32, |a, &v| if v > a { v } else { a });
    let inverse = if largest > 0.0 { max / largest } else { 0.0 };
    (finite_f16(largest / max), values.map(|v| nearest(inverse * v, 0.0, max) as u8))
}

/// What [`fit_symmetric`] found: `x[i][l] ≈ scale[l] * (levels[i][l] - half)`.
pub(super) struct Symmetric<const L: usize, const N: usize> {
    pub(super) scale: Lanes<L>,
    /// From 0 to `2 * half - 1`.
    pub(super) levels: [Lanes<L>; N],
}

/// Fits `x ≈ scale * (level - half)`, where large elements count more (weight `x²`), by trying 19
/// scales around the one that puts the peak on the outermost level.
#[inline(never)]
pub(super) fn fit_symmetric<const L: usize, const N: usize>(
    x: &[Lanes<L>; N],
    half: f32,
) -> Symmetric<L, N> {
    let mut peak = [0.0_f32; L];
    for i in 0..N {
        for l in 0..L {
            peak[l] = if x[i][l].abs() > peak[l].abs() { x[i][l] } else { peak[l] };
        }
    }
    let zero: [bool; L] = std::array::from_fn(|l| peak[l].abs() < ZERO_BELOW);

    let outermost: Lanes<L> = std::array::from_fn(|l| -half / peak[l]);
    let (mut levels, sum_xl, sum_l2) = signed_levels(x, &outermost, half);
    let mut scale: Lanes<L> =
        std::array::from_fn(|l| if sum_l2[l] == 0.0 { 0.0 } else { sum_xl[l] / sum_l2[l] });
    let mut best: Lanes<L> = std::array::from_fn(|l| scale[l] * sum_xl[l]);
    for step in (-9_i8..=9).filter(|&step| step != 0) {
        let reach = half + 0.1 * f32::from(step);
        let inverse: Lanes<L> = std::array::from_fn(|l| -reach / peak[l]);
        let (trial, sum_xl, sum_l2) = signed_levels(x, &inverse, half);
        let better: [bool; L] =
            std::array::from_fn(|l| sum_l2[l] > 0.0 && sum_xl[l] * sum_xl[l] > best[l] * sum_l2[l]);
        for l in 0..L {
            if better[l] {
                scale[l] = sum_xl[l] / sum_l2[l];
                best[l] = scale[l] * sum_xl[l];
            }
        }
        for i in 0..N {
            for l in 0..L {
                levels[i][l] = if better[l] { trial[i][l] } else { levels[i][l] };
            }
        }
    }
    for l in 0..L {
        // The sums of huge elements overflow; the first guess then has to do.
        if !scale[l].is_finite() {
            scale[l] = 1.0 / outermost[l];
        }
    }
    for row in &mut levels {
        for l in 0..L {
            row[l] = if zero[l] { 0.0 } else { row[l] + half };
        }
    }
    for l in 0..L {
        scale[l] = if zero[l] { 0.0 } else { scale[l] };
    }
    Symmetric { scale, levels }
}

/// The levels in `-half..half` that one inverse scale gives, and the sums `Σ x³·level`,
/// `Σ x²·level²`.
#[inline(always)]
fn signed_levels<const L: usize, const N: usize>(
    x: &[Lanes<L>; N],
    inverse: &Lanes<L>,
    half: f32,
) -> ([Lanes<L>; N], Lanes<L>, Lanes<L>) {
    let mut levels = [[0.0; L]; N];
    let (mut sum_xl, mut sum_l2) = ([0.0; L], [0.0; L]);
    for i in 0..N {
        for l in 0..L {
            let level = nearest(inverse[l] * x[i][l], -half, half - 1.0);
            let w = x[i][l] * x[i][l];
            levels[i][l] = level;
            sum_xl[l] += w * x[i][l] * level;
            sum_l2[l] += w * level * level;
        }
    }
    (levels, sum_xl, sum_l2)
}

/// Fits `x ≈ scale * (level - half)` for so few levels that moving single elements pays: up to five
/// rounds, each element going to the level that suits the scale of all others.
///
/// Returns the scale; `levels` receives values from 0 to `2 * half - 1`.
pub(super) fn fit_by_exchange<const N: usize>(
    x: &[f32; N],
    half: f32,
    levels: &mut [u8; N],
) -> f32 {
    let peak = signed_peak(x);
    if peak.abs() < ZERO_BELOW {
        *levels = [0; N];
        return 0.0;
    }
    let inverse = -half / peak;
    let mut signed = [0.0_f32; N];
    let (mut sum_xl, mut sum_l2) = (0.0_f32, 0.0_f32);
    for i in 0..N {
        let w = x[i] * x[i];
        signed[i] = nearest(inverse * x[i], -half, half - 1.0);
        sum_xl += w * x[i] * signed[i];
        sum_l2 += w * signed[i] * signed[i];
    }
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..N {
            let w = x[i] * x[i];
            let mut others_xl = sum_xl - w * x[i] * signed[i];
            if others_xl <= 0.0 || others_xl.is_nan() {
                continue;
            }
            let mut others_l2 = sum_l2 - w * signed[i] * signed[i];
            let level = nearest(x[i] * others_l2 / others_xl, -half, half - 1.0);
            if level == signed[i] {
                continue;
            }
            others_xl += w * x[i] * level;
            others_l2 += w * level * level;
            let gain = others_xl * others_xl * sum_l2 > sum_xl * sum_xl * others_l2;
            if others_l2 > 0.0 && gain {
                signed[i] = level;
                (sum_xl, sum_l2) = (others_xl, others_l2);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    *levels = signed.map(|level| (level + half) as u8);
    let scale = if sum_l2 > 0.0 { sum_xl / sum_l2 } else { 0.0 };
    // The sums of huge elements overflow; the first guess then has to do.
    if scale.is_finite() { scale } else { 1.0 / inverse }
}

/// Scales of either sign as a common half times integers in `-half..half`; the largest becomes
/// `-half`, the one integer without a positive counterpart.
pub(super) fn share_signed_scale<const L: usize>(scales: &Lanes<L>, half: f32) -> (f16, [i8; L]) {
    let peak = signed_peak(scales);
    if peak == 0.0 {
        return (f16::ZERO, [0; L]);
    }
    let inverse = -half / peak;
    (finite_f16(1.0 / inverse), scales.map(|s| nearest(inverse * s, -half, half - 1.0) as i8))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: AffineSearch =
        AffineSearch { max_level: 15.0, start: -1.0, steps: 20, absolute: false };

    #[test]
    fn an_affine_fit_finds_numbers_that_lie_on_a_grid() {
        // Sub-block l holds 0.25 * (l + 1) * level - l, with every level present.
        let x: [f32; QK_K] = std::array::from_fn(|k| {
            let (l, i) = (k / 32, k % 32);
            0.25 * (l + 1) as f32 * (i % 16) as f32 - l as f32
        });
        let fit = fit_affine::<8, 32>(&to_lanes(&x), &[[1.0; 8]; 32], SEARCH);
        for l in 0..8 {
            assert!((fit.scale[l] - 0.25 * (l + 1) as f32).abs() < 1e-5, "{:?}", fit.scale);
            assert!((fit.min[l] - l as f32).abs() < 1e-4, "{:?}", fit.min);
        }
    }

    #[test]
    fn a_constant_sub_block_is_all_minimum_or_all_scale() {
        let mut x = [-3.0; QK_K];
        x[32..64].fill(2.0);
        let fit = fit_affine::<8, 32>(&to_lanes(&x), &[[1.0; 8]; 32], SEARCH);
        assert_eq!((fit.scale[0], fit.min[0], fit.levels[0][0]), (0.0, 3.0, 0.0));
        assert_eq!((fit.min[1], fit.levels[0][1]), (0.0, 15.0));
        assert!((fit.scale[1] - 2.0 / 15.0).abs() < 1e-6);
    }

    #[test]
    fn symmetric_fits_find_numbers_that_lie_on_a_grid() {
        let x: [f32; QK_K] = std::array::from_fn(|k| 0.5 * ((k % 16) as f32 * 4.0 - 32.0));
        let fit = fit_symmetric::<16, 16>(&to_lanes(&x), 32.0);
        assert!(fit.scale.iter().all(|s| (s - 0.5).abs() < 1e-6), "{:?}", fit.scale);
        assert_eq!(fit.levels[3][5], 12.0);

        let x: [f32; 16] = std::array::from_fn(|i| -0.75 * ((i % 8) as f32 - 4.0));
        let mut levels = [0; 16];
        let scale = fit_by_exchange(&x, 4.0, &mut levels);
        assert!((scale + 0.75).abs() < 1e-6, "{scale}");
        assert_eq!(levels[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
