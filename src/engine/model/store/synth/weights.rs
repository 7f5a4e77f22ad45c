//! Random weights, fast: blocks drawn from a pool of blocks that were quantised once.
//!
//! Quantising a billion numbers takes minutes, copying them takes a second. So for each element
//! type and row length a pool of [`POOL`] normally distributed numbers is quantised, and a tensor
//! is filled with pieces of the pool in random order: one block at a time, or [`PLAIN_PIECE`]
//! numbers of a type without blocks. Any two rows share a block here and there and are otherwise
//! independent, which no measurement of speed can tell from independent rows. The standard
//! deviation is 1 / sqrt(row length): the product of such a matrix with a normed row has elements
//! around 1, so that activations neither vanish nor overflow and logits look like logits.
//!
//! The same tensor of the same model has the same bytes on every machine.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::engine::model::store::RopeFreqs;
use crate::engine::tensor::{ConvertError, DType, quantize_vec};

/// Numbers of a pool: a multiple of every block length.
const POOL: usize = 1 << 20;

/// How many numbers of a type without blocks are drawn together.
const PLAIN_PIECE: usize = 32;

/// What a tensor is filled with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fill {
    /// Normally distributed around 0 with the standard deviation 1 / sqrt(row length).
    Matrix,
    /// Normally distributed `mean` with this deviation; element type F32.
    Vector { mean: f32, deviation: f32 },
    /// Divisors of frequencies, element type F32.
    RopeFreqs { params: RopeFreqs, base: f64 },
}

/// Where weights come from; keeps the pools.
#[derive(Default)]
pub(super) struct Source {
    /// By element type and row length.
    pools: HashMap<(DType, usize), Vec<u8>>,
}

impl Source {
    /// Hands the data of the tensor `name` to `sink` in pieces of at most `buffer.len()` bytes.
    /// The shape is `ne0 × n_rows`.
    pub(super) fn fill<E: From<ConvertError>>(
        &mut self,
        (name, dtype, ne0, n_rows): (&str, DType, usize, usize),
        fill: &Fill,
        buffer: &mut [u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut random = Random::new(name);
        let vector: Vec<f32> = match fill {
            Fill::Matrix => {
                let pool = self.pool(dtype, ne0)?;
                let total = n_rows * (ne0 / dtype.block_len()) * dtype.block_bytes();
                return draw(pool, piece_bytes(dtype), total, &mut random, buffer, sink);
            }
            Fill::Vector { mean, deviation } => {
                (0..ne0 * n_rows).map(|_| mean + deviation * random.normal()).collect()
            }
            Fill::RopeFreqs { params, base } => rope_freqs(params, *base, ne0),
        };
        bytemuck::cast_slice(&vector).chunks(buffer.len()).try_for_each(&mut sink)
    }

    fn pool(&mut self, dtype: DType, ne0: usize) -> Result<&[u8], ConvertError> {
        let pool = match self.pools.entry((dtype, ne0)) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(slot) => {
                let mut random = Random::new("pool");
                let deviation = 1.0 / (ne0 as f32).sqrt();
                let numbers: Vec<f32> = (0..POOL).map(|_| deviation * random.normal()).collect();
                slot.insert(quantize_vec(dtype, &numbers)?)
            }
        };
        Ok(pool)
    }
}

/// Bytes of what is drawn together.
fn piece_bytes(dtype: DType) -> usize {
    if dtype.block_len() > 1 { dtype.block_bytes() } else { PLAIN_PIECE * dtype.block_bytes() }
}

/// Hands out `total` bytes in random pieces of the pool.
fn draw<E>(
    pool: &[u8],
    piece: usize,
    total: usize,
    random: &mut Random,
    buffer: &mut [u8],
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let n_pieces = (pool.len() / piece) as u64;
    let whole = buffer.len() / piece * piece;
    let mut left = total;
    while left > 0 {
        let part = &mut buffer[..whole.min(left)];
        for slot in part.chunks_mut(piece) {
            let at = random.below(n_pieces) as usize * piece;
            slot.copy_from_slice(&pool[at..at + slot.len()]);
        }
        sink(part)?;
        left -= part.len();
    }
    Ok(())
}

/// Llama 3's divisors: 1 for short wavelengths, `factor` for long ones, and between the two the
/// divisor whose inverse lies in between. Source: `convert_hf_to_gguf.py` and the `llama3` type of
/// Hugging Face's rotary embedding.
fn rope_freqs(params: &RopeFreqs, base: f64, n: usize) -> Vec<f32> {
    let RopeFreqs { factor, low_freq_factor: low, high_freq_factor: high, .. } = *params;
    let divisor = |i: usize| {
        let wavelength = std::f64::consts::TAU * base.powf(i as f64 / n as f64);
        let turns = params.original_context_length / wavelength;
        if turns > high {
            1.0
        } else if turns < low {
            factor
        } else {
            let smooth = (turns - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..n).map(|i| divisor(i) as f32).collect()
}

/// Deviation of the sum of four numbers that are uniform below 65536: 65536 / sqrt(3).
const DEVIATION: f32 = 37837.227;

/// Random numbers. SplitMix64 is small and fast, and nothing more is asked of it here.
struct Random(SplitMix64);

impl Random {
    /// Seeded with a name (FNV-1a), so that tensors do not depend on each other's order.
    fn new(name: &str) -> Self {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100000001b3);
        Self(SplitMix64::seed_from_u64(name.bytes().fold(0xcbf29ce484222325, step)))
    }

    /// A whole number below `n`, which is far below 2^32.
    fn below(&mut self, n: u64) -> u64 {
        ((self.0.next_u64() >> 32) * n) >> 32
    }

    /// Mean 0, deviation 1, at most 3.5 away: the sum of four uniform numbers, which is close to
    /// normal and, unlike logarithms, the same on every machine.
    fn normal(&mut self) -> f32 {
        let word = self.0.next_u64();
        let sum: u32 = (0..4).map(|i| (word >> (16 * i)) as u32 & 0xffff).sum();
        (sum as f32 - 2.0 * 65535.0) / DEVIATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tensor::dequantize;

    /// The numbers of a matrix of `n_rows` rows of `ne0`.
    fn matrix(name: &str, dtype: DType, ne0: usize, n_rows: usize, buffer: usize) -> Vec<f32> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; buffer];
        let tensor = (name, dtype, ne0, n_rows);
        let sink = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok::<_, ConvertError>(())
        };
        Source::default().fill(tensor, &Fill::Matrix, &mut buffer, sink).unwrap();
        let mut out = vec![0.0; ne0 * n_rows];
        dequantize(dtype, &bytes, &mut out).unwrap();
        out
    }

    #[test]
    fn matrices_have_the_deviation_of_their_row_length() {
        for dtype in [DType::F16, DType::Q8_0, DType::Q4_K] {
            let numbers = matrix("x", dtype, 768, 300, 1 << 16);
            let n = numbers.len() as f32;
            let mean = numbers.iter().sum::<f32>() / n;
            let square = numbers.iter().map(|x| x * x).sum::<f32>() / n;
            assert!(mean.abs() < 1e-3, "{dtype}: mean {mean}");
            assert!((square * 768.0 - 1.0).abs() < 0.02, "{dtype}: {square}");
        }
    }

    #[test]
    fn rows_and_tensors_differ_and_buffers_do_not_matter() {
        let x = matrix("x", DType::Q8_0, 288, 1000, 1 << 16);
        assert_eq!(x, matrix("x", DType::Q8_0, 288, 1000, 1000));
        assert_ne!(x, matrix("y", DType::Q8_0, 288, 1000, 1 << 16));
        let mut rows: Vec<&[f32]> = x.chunks(288).collect();
        rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
        rows.dedup();
        assert_eq!(rows.len(), 1000);
    }

    #[test]
    fn a_plain_matrix_need_not_be_whole_pieces() {
        let numbers = matrix("x", DType::F32, 7, 3, 256);
        assert!(numbers.iter().all(|x| *x != 0.0));
    }

    #[test]
    fn frequency_divisors_rise_from_one_to_the_factor() {
        let params = RopeFreqs {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context_length: 8192.0,
        };
        let divisors = rope_freqs(&params, 500000.0, 32);
        assert_eq!((divisors[0], divisors[31]), (1.0, 32.0));
        assert!(divisors.windows(2).all(|pair| pair[0] <= pair[1]));
        // By hand: 2π · 500000^(15/32) = 2947, 8192 / 2947 = 2.779, (2.779 - 1) / 3 = 0.593,
        // 1 / (0.407 / 32 + 0.593) = 1.651.
        assert!((divisors[15] - 1.651).abs() < 2e-3, "{}", divisors[15]);
    }
}
