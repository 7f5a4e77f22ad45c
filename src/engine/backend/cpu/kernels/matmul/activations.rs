//! Activations in 8 bits, the form in which they meet quantised weights.
//!
//! One format serves every quantised weight type, so that products that share their input (query,
//! key, value; gate, up) share the quantising too, whatever mix of types the file has. A row is cut
//! into blocks of 32 with one `f32` scale each: `x = s * q`, `q` from -127 to 127. Sums of `q` ride
//! along, because weights with a minimum or an offset need them.
//!
//! Invariant: a row is padded with zeros to whole groups of 256 elements; kernels may read padding.

use super::super::super::isa::Isa;

/// Elements that kernels take at a time: a super-block of the K-quants, or 8 blocks of 32.
pub(super) const GROUP: usize = 256;
/// Elements that share a scale.
pub(super) const BLOCK: usize = 32;
/// Every row of quantised activations starts at a multiple of this.
pub(super) const ALIGN: usize = 64;

/// Where the parts of a row of `k` activations lie, in bytes from the start of the row.
///
/// `q` comes first: i8 `(kp)`, with `kp` the padded length.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowLayout {
    /// `s`: f32 `(kp / 32)`, the scales.
    pub(super) scale: usize,
    /// f32 `(kp / 32)`, `s * Σq` of each 32.
    pub(super) sum32: usize,
    /// f32 `(kp / 16)`, `s * Σq` of each 16.
    pub(super) sum16: usize,
    /// i32 `(kp / 32)`, `-Σq` of each 32.
    pub(super) neg32: usize,
    /// i32 `(kp / 16)`, `-Σq` of each 16.
    pub(super) neg16: usize,
    /// From one row to the next.
    pub(super) stride: usize,
}

impl RowLayout {
    pub(super) const fn new(k: usize) -> Self {
        let kp = k.next_multiple_of(GROUP);
        let scale = kp;
        let sum32 = scale + kp / 8;
        let sum16 = sum32 + kp / 8;
        let neg32 = sum16 + kp / 4;
        let neg16 = neg32 + kp / 8;
        let stride = (neg16 + kp / 4).next_multiple_of(ALIGN);
        Self { scale, sum32, sum16, neg32, neg16, stride }
    }
}

/// Quantises one row into `out`.
///
/// # Safety
/// `out` is 4-byte aligned and has `RowLayout::new(x.len()).stride` bytes that nobody else uses;
/// the processor has `isa`.
pub(super) unsafe fn quantise_row(isa: Isa, x: &[f32], out: *mut u8) {
    // SAFETY: passed on; `isa` is present.
    unsafe {
        match isa {
            Isa::Scalar => quantise_row_body(x, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => quantise_row_avx2(x, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => quantise_row_avx512(x, out),
            #[cfg(not(target_arch = "x86_64"))]
            _ => quantise_row_body(x, out),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quantise_row_avx2(x: &[f32], out: *mut u8) {
    // SAFETY: passed on.
    unsafe { quantise_row_body(x, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn quantise_row_avx512(x: &[f32], out: *mut u8) {
    // SAFETY: passed on.
    unsafe { quantise_row_body(x, out) }
}

/// Portable; the wrappers above let the compiler vectorise it for each instruction set.
#[inline(always)]
unsafe fn quantise_row_body(x: &[f32], out: *mut u8) {
    let layout = RowLayout::new(x.len());
    let blocks = x.len().next_multiple_of(GROUP) / BLOCK;
    // SAFETY: the caller gives `stride` bytes, which is what the parts of the layout add up to, at
    // an address that is aligned for f32 and i32; all offsets are multiples of 4.
    let (q, scale, sum32, sum16, neg32, neg16) = unsafe {
        (
            std::slice::from_raw_parts_mut(out.cast::<[i8; BLOCK]>(), blocks),
            std::slice::from_raw_parts_mut(out.add(layout.scale).cast::<f32>(), blocks),
            std::slice::from_raw_parts_mut(out.add(layout.sum32).cast::<f32>(), blocks),
            std::slice::from_raw_parts_mut(out.add(layout.sum16).cast::<[f32; 2]>(), blocks),
            std::slice::from_raw_parts_mut(out.add(layout.neg32).cast::<i32>(), blocks),
            std::slice::from_raw_parts_mut(out.add(layout.neg16).cast::<[i32; 2]>(), blocks),
        )
    };
    let mut padded = [0.0_f32; BLOCK];
    for b in 0..blocks {
        let values = if let Some(values) = x.get(b * BLOCK..(b + 1) * BLOCK) {
            values
        } else {
            padded.fill(0.0);
            let rest = x.get(b * BLOCK..).unwrap_or_default();
            padded[..rest.len()].copy_from_slice(rest);
            &padded
        };
        let mut lanes = [0.0_f32; 8];
        for chunk in values.chunks_exact(8) {
            for i in 0..8 {
                lanes[i] = lanes[i].max(chunk[i].abs());
            }
        }
        let largest = lanes.iter().fold(0.0_f32, |a, &b| a.max(b));
        let s = largest / 127.0;
        let inverse = if s > 0.0 { 127.0 / largest } else { 0.0 };
        let mut sums = [0_i32; 2];
        for half in 0..2 {
            for i in half * 16..half * 16 + 16 {
                // The product can exceed 127 by rounding only, and rounds to 127 then.
                let v = (values[i] * inverse).round_ties_even() as i32;
                q[b][i] = v as i8;
                sums[half] += v;
            }
        }
        scale[b] = s;
        sum32[b] = s * (sums[0] + sums[1]) as f32;
        sum16[b] = [s * sums[0] as f32, s * sums[1] as f32];
        neg32[b] = -(sums[0] + sums[1]);
        neg16[b] = [-sums[0], -sums[1]];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The buffer of one row, aligned as scratch is.
    fn quantised(isa: Isa, x: &[f32]) -> Vec<u64> {
        let mut row = vec![u64::MAX; RowLayout::new(x.len()).stride / 8];
        // SAFETY: the vector is as long as the row and aligned to 8; `isa` comes from `available`.
        unsafe { quantise_row(isa, x, row.as_mut_ptr().cast()) };
        row
    }

    #[test]
    fn values_come_back_within_half_a_step_and_sums_are_exact() {
        let x: Vec<f32> = (0..300).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.03).collect();
        let layout = RowLayout::new(x.len());
        for isa in Isa::available() {
            let row = quantised(isa, &x);
            let bytes: &[u8] = bytemuck::cast_slice(&row);
            let q: &[i8] = bytemuck::cast_slice(&bytes[..512]);
            let scale: &[f32] = bytemuck::cast_slice(&bytes[layout.scale..layout.sum32]);
            let sum16: &[f32] = bytemuck::cast_slice(&bytes[layout.sum16..layout.neg32]);
            let neg32: &[i32] = bytemuck::cast_slice(&bytes[layout.neg32..layout.neg16]);
            for i in 0..512 {
                let want = x.get(i).copied().unwrap_or(0.0);
                let s = scale[i / BLOCK];
                assert!((want - s * f32::from(q[i])).abs() <= s * 0.5001, "{isa} {i}");
            }
            for b in 0..16 {
                let sum: i32 = q[b * 32..][..32].iter().map(|&v| i32::from(v)).sum();
                assert_eq!(neg32[b], -sum);
            }
            for b in 0..32 {
                let sum: i32 = q[b * 16..][..16].iter().map(|&v| i32::from(v)).sum();
                assert_eq!(sum16[b], scale[b / 2] * sum as f32);
            }
        }
    }

    #[test]
    fn instruction_sets_quantise_alike() {
        let x: Vec<f32> = (0..512).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let reference = quantised(Isa::Scalar, &x);
        for isa in Isa::available() {
            assert_eq!(quantised(isa, &x), reference, "{isa}");
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        let row = quantised(Isa::Scalar, &[0.0; 256]);
        assert!(bytemuck::cast_slice::<u64, u8>(&row)[..256].iter().all(|&b| b == 0));
    }
}
