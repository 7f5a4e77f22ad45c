//! Rounding shared by the quantisers.
//!
//! Written without calls into the maths library, so that the loops around them can be vectorised;
//! each gives the same result as the call it replaces within the range it is used for.

use half::f16;

/// Adding this to a number below 2^22 leaves the nearest integer, ties to even, in the low bits.
const ROUNDER: f32 = 12_582_912.0; // 1.5 * 2^23

/// Below this magnitude ggml takes a sub-block for all zero.
pub(super) const ZERO_BELOW: f32 = 1e-15;

/// The integer nearest to `x`, ties to even, limited to `lo..=hi`; `lo` when `x` is not a number.
///
/// The limits must be integers within 2^22, which makes rounding after limiting exact.
#[inline(always)]
pub(super) fn nearest(x: f32, lo: f32, hi: f32) -> f32 {
    let x = if x > lo { x } else { lo };
    let x = if x < hi { x } else { hi };
    (x + ROUNDER) - ROUNDER
}

/// The integer nearest to `x`, ties away from zero, limited to `-hi..=hi`; 0 when not a number.
#[inline(always)]
pub(super) fn nearest_away(x: f32, hi: f32) -> i32 {
    let x = if x < hi { x } else { hi };
    let x = if x > -hi { x } else { -hi };
    let whole = x as i32;
    // Exact: both are within one of each other.
    let rest = x - whole as f32;
    whole + i32::from(rest >= 0.5) - i32::from(rest <= -0.5)
}

/// `x` as a half that is always finite: the largest half in place of overflow, 0 for NaN.
///
/// ggml stores infinity here, and the whole block then reads as infinite or NaN.
#[inline(always)]
pub(super) fn finite_f16(x: f32) -> f16 {
    if x.is_nan() {
        return f16::ZERO;
    }
    let largest = f32::from(f16::MAX);
    f16::from_f32(x.max(-largest).min(largest))
}

/// The element of largest magnitude with its sign; the first of equals; 0 for no elements.
#[inline(always)]
pub(super) fn signed_peak(x: &[f32]) -> f32 {
    let mut peak = 0.0_f32;
    for &v in x {
        if v.abs() > peak.abs() {
            peak = v;
        }
    }
    peak
}

/// Smallest and largest element. `x` must not be empty.
#[inline(always)]
pub(super) fn range(x: &[f32]) -> (f32, f32) {
    let mut lo = x[0];
    let mut hi = x[0];
    for &v in x {
        if v < lo {
            lo = v;
        }
        if v > hi {
            hi = v;
        }
    }
    (lo, hi)
}

/// `1 / d`, or 0 when `d` is 0, so that a block of zeros has zeros for levels.
#[inline(always)]
pub(super) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nearest_is_round_ties_even_within_its_limits(x in -200.0_f32..200.0) {
            prop_assert_eq!(nearest(x, -32.0, 31.0), x.round_ties_even().clamp(-32.0, 31.0));
        }

        #[test]
        fn nearest_away_is_round_within_its_limits(x in -200.0_f32..200.0) {
            prop_assert_eq!(nearest_away(x, 127.0), x.round().clamp(-127.0, 127.0) as i32);
        }
    }

    #[test]
    fn ties_and_what_is_no_number() {
        let even: Vec<f32> = [0.5, 1.5, 2.5, -0.5, -1.5].map(|x| nearest(x, -9.0, 9.0)).to_vec();
        assert_eq!(even, [0.0, 2.0, 2.0, 0.0, -2.0]);
        let away = [0.5, 1.5, -0.5, -2.5, 0.499_999_97].map(|x| nearest_away(x, 127.0));
        assert_eq!(away, [1, 2, -1, -3, 0]);
        assert_eq!(nearest(f32::NAN, -4.0, 3.0), -4.0);
        assert_eq!(nearest(f32::INFINITY, -4.0, 3.0), 3.0);
        assert_eq!(finite_f16(1e30), f16::MAX);
        assert_eq!(finite_f16(f32::NEG_INFINITY), f16::MIN);
        assert_eq!(finite_f16(f32::NAN), f16::ZERO);
    }
}
