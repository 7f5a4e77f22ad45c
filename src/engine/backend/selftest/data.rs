//! Operands with random contents.

use half::f16;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::engine::tensor::{DType, quantize_vec};

/// Numbers that depend on the seed alone.
pub(super) struct Random(Xoshiro256PlusPlus);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// In `-1.0..1.0`.
    pub(super) fn float(&mut self) -> f32 {
        (self.0.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// In `low..=high`.
    pub(super) fn within(&mut self, low: usize, high: usize) -> usize {
        low + (self.0.next_u64() >> 33) as usize % (high - low + 1)
    }

    pub(super) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// The strides of a tensor without gaps, in bytes.
pub(super) fn strides(dtype: DType, ne: [usize; 4]) -> [usize; 4] {
    let row = ne[0] / dtype.block_len() * dtype.block_bytes();
    [dtype.block_bytes(), row, row * ne[1], row * ne[1] * ne[2]]
}

/// An operand.
pub(super) struct Operand {
    pub(super) dtype: DType,
    pub(super) ne: [usize; 4],
    pub(super) nb: [usize; 4],
    pub(super) bytes: Vec<u8>,
}

impl Operand {
    /// Values as this type stores them. All types of weights can be made from finite floats.
    pub(super) fn new(dtype: DType, ne: [usize; 4], values: &[f32]) -> Self {
        let bytes = quantize_vec(dtype, values).unwrap_or_default();
        Self { dtype, ne, nb: strides(dtype, ne), bytes }
    }

    pub(super) fn random(dtype: DType, ne: [usize; 4], random: &mut Random) -> Self {
        let values = random.floats(ne.iter().product());
        Self::new(dtype, ne, &values)
    }

    pub(super) fn whole(ne: [usize; 4], values: impl IntoIterator<Item = usize>) -> Self {
        let bytes = values.into_iter().flat_map(|v| (v as i32).to_le_bytes()).collect();
        Self { dtype: DType::I32, ne, nb: strides(DType::I32, ne), bytes }
    }

    /// A mask `(n_kv, t)`: token `i` of the last `t` sees `seen(i)` cells.
    pub(super) fn mask(n_kv: usize, t: usize, seen: impl Fn(usize, usize) -> bool) -> Self {
        let cell = |at: usize| {
            let open = seen(at % n_kv, at / n_kv);
            f16::from_f32(if open { 0.0 } else { f32::NEG_INFINITY }).to_le_bytes()
        };
        let ne = [n_kv, t, 1, 1];
        let bytes = (0..n_kv * t).flat_map(cell).collect();
        Self { dtype: DType::F16, ne, nb: strides(DType::F16, ne), bytes }
    }
}
