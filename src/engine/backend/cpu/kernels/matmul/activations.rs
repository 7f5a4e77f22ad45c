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
    /// i16 `(2, kp / 32)`: as `neg32`, apart for the first and the second pair of every four
    /// elements, which is how sums in 16 bits hold them.
    pub(super) pairs32: usize,
    /// i16 `(2, kp / 16)`: the same of each 16.
    pub(super) pairs16: usize,
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
        let pairs32 = neg16 + kp / 4;
        let pairs16 = pairs32 + kp / 8;
        let stride = (pairs16 + kp / 4).next_multiple_of(ALIGN);
        Self { scale, sum32, sum16, neg32, neg16, pairs32, pairs16, stride }
    }
}

/// The parts of one row, to be written.
pub(super) struct Row<'a> {
    /// Codes.
    pub(super) q: &'a mut [[i8; BLOCK]],
    scale: &'a mut [f32],
    sum32: &'a mut [f32],
    sum16: &'a mut [[f32; 2]],
    neg32: &'a mut [i32],
    neg16: &'a mut [[i32; 2]],
    pairs32: &'a mut [[i16; 2]],
    pairs16: &'a mut [[[i16; 2]; 2]],
}

impl Row<'_> {
    /// The row at `out`.
    ///
    /// # Safety
    /// `out` is 4-byte aligned and has `RowLayout::new(k).stride` bytes that nobody else uses.
    unsafe fn new(k: usize, out: *mut u8) -> Self {
        use std::slice::from_raw_parts_mut as part;
        let (at, n) = (RowLayout::new(k), k.next_multiple_of(GROUP) / BLOCK);
        // SAFETY: the parts of the layout add up to the stride and do not overlap; all offsets are
        // multiples of 4, and so is the address.
        unsafe {
            Self {
                q: part(out.cast(), n),
                scale: part(out.add(at.scale).cast(), n),
                sum32: part(out.add(at.sum32).cast(), n),
                sum16: part(out.add(at.sum16).cast(), n),
                neg32: part(out.add(at.neg32).cast(), n),
                neg16: part(out.add(at.neg16).cast(), n),
                pairs32: part(out.add(at.pairs32).cast(), n),
                pairs16: part(out.add(at.pairs16).cast(), n),
            }
        }
    }

    /// Notes scale `s` of block `b` and what follows from the sums of its codes: of each 16, apart
    /// for the first and the second pair of every four.
    #[inline(always)]
    pub(super) fn note(&mut self, b: usize, s: f32, pairs: [[i16; 2]; 2]) {
        let [low, high] = pairs.map(|[a, b]| i32::from(a) + i32::from(b));
        self.scale[b] = s;
        self.sum32[b] = s * (low + high) as f32;
        self.sum16[b] = [s * low as f32, s * high as f32];
        self.neg32[b] = -(low + high);
        self.neg16[b] = [-low, -high];
        self.pairs32[b] = [0, 1].map(|i| -(pairs[0][i] + pairs[1][i]));
        self.pairs16[b] = pairs.map(|of_16| of_16.map(|sum| -sum));
    }
}

/// Scale and its inverse for a block whose largest magnitude is `largest`. Infinities and NaN give a
/// scale that is not finite, so that the products show them.
#[inline(always)]
pub(super) fn scale_of(largest: f32) -> (f32, f32) {
    /// Below, the scale would be subnormal and its inverse overflow; such blocks count as zeros.
    const TINY: f32 = 1e-35;
    if largest < TINY {
        return (0.0, 0.0);
    }
    (largest / 127.0, if largest > 0.0 { 127.0 / largest } else { 0.0 })
}

/// Block `b` of `x`, filled up with zeros in `room` where it is not whole.
#[inline(always)]
pub(super) fn block<'a>(x: &'a [f32], b: usize, room: &'a mut [f32; BLOCK]) -> &'a [f32; BLOCK] {
    if let Some(whole) = x.get(b * BLOCK..).and_then(|rest| rest.first_chunk()) {
        return whole;
    }
    room.fill(0.0);
    let rest = x.get(b * BLOCK..).unwrap_or_default();
    room[..rest.len()].copy_from_slice(rest);
    room
}

/// Quantises one row into `out`.
///
/// # Safety
/// `out` is 4-byte aligned and has `RowLayout::new(x.len()).stride` bytes that nobody else uses;
/// the processor has `isa`.
pub(super) unsafe fn quantise_row(isa: Isa, x: &[f32], out: *mut u8) {
    // SAFETY: passed on.
    let row = unsafe { Row::new(x.len(), out) };
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has `isa`, and with it AVX2.
        Isa::Avx2 | Isa::Avx512Vnni => unsafe { super::x86::quantise_row(x, row) },
        _ => quantise_portably(x, row),
    }
}

fn quantise_portably(x: &[f32], mut row: Row) {
    let mut room = [0.0; BLOCK];
    for b in 0..row.q.len() {
        quantise_block(block(x, b, &mut room), b, &mut row);
    }
}

fn quantise_block(x: &[f32; BLOCK], b: usize, row: &mut Row) {
    // Magnitudes compare like their bits, and NaN is above them all.
    let largest = x.iter().map(|v| v.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
    let (s, inverse) = scale_of(f32::from_bits(largest));
    let mut pairs = [[0_i16; 2]; 2];
    for (i, &v) in x.iter().enumerate() {
        // The product can exceed 127 by rounding only, and rounds to 127 then.
        let v = (v * inverse).round_ties_even() as i16;
        row.q[b][i] = v as i8;
        pairs[i / 16][i / 2 % 2] += v;
    }
    row.note(b, s, pairs);
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
            let pairs16: &[i16] = bytemuck::cast_slice(&bytes[layout.pairs16..][..2 * 2 * 32]);
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
                for pair in 0..2 {
                    let of_pair = (0..16).filter(|i| i / 2 % 2 == pair);
                    let sum: i16 = of_pair.map(|i| i16::from(q[b * 16 + i])).sum();
                    assert_eq!(pairs16[2 * b + pair], -sum);
                }
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
    fn what_is_not_finite_stays_visible() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![0.5; 256];
            x[40] = bad;
            for isa in Isa::available() {
                let row = quantised(isa, &x);
                let layout = RowLayout::new(256);
                let scale: &[f32] = bytemuck::cast_slice(
                    &bytemuck::cast_slice::<u64, u8>(&row)[layout.scale..layout.sum32],
                );
                assert!(scale[0].is_finite() && !scale[1].is_finite(), "{isa} {bad}");
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        let row = quantised(Isa::Scalar, &[0.0; 256]);
        assert!(bytemuck::cast_slice::<u64, u8>(&row)[..256].iter().all(|&b| b == 0));
    }
}
