//! The dot product instruction of 64-bit Arm: four products of signed bytes added to each lane.
//!
//! Written as assembly because `std::arch` does not offer it in stable Rust; the functions behave as
//! Arm's intrinsics `vdotq_s32` and `vdotq_laneq_s32` do. A lane cannot overflow: 2^31 divided by
//! 128 · 128 is far more products than any sub-block has.
//!
//! The functions are `inline(always)` and become part of kernels that enable the instruction.

use std::arch::aarch64::{int8x16_t, int32x4_t};
use std::arch::asm;

/// `acc[i] + Σ a[4 i + j] · b[4 i + j]` for `j` in `0..4`, in each of four lanes.
///
/// # Safety
/// The processor has the dot product instruction.
#[inline(always)]
pub(super) unsafe fn sdot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction is present; it touches registers only, and no flags.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// As [`sdot`], with bytes `4 LANE .. 4 LANE + 4` of `b` meeting every lane of `a`.
///
/// # Safety
/// As [`sdot`].
#[inline(always)]
pub(super) unsafe fn sdot_lane<const LANE: u8>(
    mut acc: int32x4_t,
    a: int8x16_t,
    b: int8x16_t,
) -> int32x4_t {
    const { assert!(LANE < 4, "a vector has four lanes") };
    // SAFETY: as in `sdot`.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

#[cfg(test)]
mod tests {
    use std::arch::aarch64::{vdupq_n_s32, vld1q_s8, vst1q_s32};
    use std::arch::is_aarch64_feature_detected;

    use super::*;

    /// Both forms, where the instruction is enabled as it is in the kernels.
    #[target_feature(enable = "neon,dotprod")]
    fn both(a: &[i8; 16], b: &[i8; 16]) -> [[i32; 4]; 2] {
        let mut sums = [[0_i32; 4]; 2];
        // SAFETY: the instruction is enabled; all arrays have 16 bytes.
        unsafe {
            let (va, vb) = (vld1q_s8(a.as_ptr()), vld1q_s8(b.as_ptr()));
            vst1q_s32(sums[0].as_mut_ptr(), sdot(vdupq_n_s32(1000), va, vb));
            vst1q_s32(sums[1].as_mut_ptr(), sdot_lane::<2>(vdupq_n_s32(-5), va, vb));
        }
        sums
    }

    #[test]
    fn each_form_adds_four_products_to_each_lane() {
        if !is_aarch64_feature_detected!("dotprod") {
            return;
        }
        let a: [i8; 16] = std::array::from_fn(|i| (i as i8 - 8) * 15);
        let b: [i8; 16] = std::array::from_fn(|i| if i % 3 == 0 { -128 } else { 7 * i as i8 });
        let product = |a: &[i8], b: &[i8]| -> i32 {
            a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
        };
        // SAFETY: the instruction is present.
        let [whole, lane_2] = unsafe { both(&a, &b) };
        for i in 0..4 {
            let here = &a[4 * i..4 * i + 4];
            assert_eq!(whole[i], 1000 + product(here, &b[4 * i..4 * i + 4]), "lane {i}");
            assert_eq!(lane_2[i], -5 + product(here, &b[8..12]), "lane {i}");
        }
    }
}
