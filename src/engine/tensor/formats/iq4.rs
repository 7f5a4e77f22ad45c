//! What `IQ4_NL` and `IQ4_XS` share: a table of 16 unevenly spaced values, denser around zero
//! where most weights are, and the search for the scale that suits it.

use super::round::{ZERO_BELOW, signed_peak};

/// The value of each 4-bit level.
pub const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The scales tried put the peak on values up to this far from -127.
const REACH: i8 = 7;

/// The level whose value is nearest to `x`; the upper one when `x` is half-way; 0 for NaN.
#[inline(always)]
pub(super) fn nearest_level(x: f32) -> u8 {
    let mut level = 0;
    for pair in IQ4_VALUES.windows(2) {
        // Doubled, so that half-way is a whole number.
        let middle = f32::from(i16::from(pair[0]) + i16::from(pair[1]));
        level += u8::from(x + x >= middle);
    }
    level
}

/// The scale with which the table represents these 32 elements best, large ones counting more
/// (weight `x²`); 0 when all are zero.
pub(super) fn fit_scale(x: &[f32; 32]) -> f32 {
    let peak = signed_peak(x);
    if peak.abs() < ZERO_BELOW {
        return 0.0;
    }
    let first = f32::from(IQ4_VALUES[0]);
    let guess = -peak / first;
    let (sum_qx, sum_q2) = sums(x, 1.0 / guess);
    let mut scale = sum_qx / sum_q2;
    let mut best = scale * sum_qx;
    for step in -REACH..=REACH {
        let (sum_qx, sum_q2) = sums(x, (f32::from(step) + first) / peak);
        if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
            scale = sum_qx / sum_q2;
            best = scale * sum_qx;
        }
    }
    // The sums of huge elements overflow and those of tiny ones vanish; the guess then has to do.
    if scale.is_finite() { scale } else { guess }
}

/// `Σ w·q·x` and `Σ w·q²` with `w = x²` and `q` the table's value nearest to `inverse · x`.
#[inline(always)]
fn sums(x: &[f32; 32], inverse: f32) -> (f32, f32) {
    let q = x.map(|v| f32::from(IQ4_VALUES[nearest_level(inverse * v) as usize & 15]));
    let (mut sum_qx, mut sum_q2) = (0.0, 0.0);
    for i in 0..32 {
        let w = x[i] * x[i];
        sum_qx += w * q[i] * x[i];
        sum_q2 += w * q[i] * q[i];
    }
    (sum_qx, sum_q2)
}

/// The 16 bytes of 32 levels: element `i` in the low nibble of byte `i`, element `i + 16` in its
/// high nibble.
pub(super) fn pack_levels(x: &[f32; 32], inverse: f32) -> [u8; 16] {
    let levels = x.map(|v| nearest_level(inverse * v));
    std::array::from_fn(|i| levels[i] | levels[i + 16] << 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_level_is_the_nearest() {
        for tenth in -1400..1400 {
            let x = tenth as f32 / 10.0;
            let distance = |level: usize| (f32::from(IQ4_VALUES[level]) - x).abs();
            let least = (0..16).map(distance).fold(f32::MAX, f32::min);
            assert_eq!(distance(nearest_level(x) as usize), least, "{x}");
        }
        assert_eq!((nearest_level(7.0), nearest_level(f32::NAN)), (9, 0));
    }
}
