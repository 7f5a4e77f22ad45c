//! Block formats: how a run of weights lies in memory, one file per format.
//!
//! Each file holds the block as plain data, its conversion to `f32`, its conversion from `f32`, and
//! its tests. The conversions are scalar and deliberately not tuned to any instruction set: they
//! are the reference that every kernel is compared with. Nothing here checks a length that came
//! from a file; [`super::convert`] does that before it calls in.
//!
//! Invariants: dequantising reproduces ggml bit for bit, and quantising finite numbers never stores
//! a scale that is infinite or not a number. Sources of the layouts and of the searches: ggml's
//! `ggml-common.h` and the `_ref` quantisers of `ggml-quants.c`.

use bytemuck::Pod;

use super::dtype::DType;

mod fit;
mod iq4;
mod iq4_nl;
mod iq4_xs;
mod k_scales;
mod mxfp4;
mod plain;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod round;
#[cfg(test)]
mod testing;

pub use iq4::IQ4_VALUES;
pub use iq4_nl::BlockIQ4NL;
pub use iq4_xs::BlockIQ4XS;
pub use k_scales::unpack_scale_min;
pub use mxfp4::{BlockMXFP4, MXFP4_VALUES, e8m0_half};
pub use q2_k::BlockQ2K;
pub use q3_k::{BlockQ3K, unpack_q3_scales};
pub use q4_0::BlockQ4_0;
pub use q4_1::BlockQ4_1;
pub use q4_k::BlockQ4K;
pub use q5_0::BlockQ5_0;
pub use q5_1::BlockQ5_1;
pub use q5_k::BlockQ5K;
pub use q6_k::BlockQ6K;
pub use q8_0::BlockQ8_0;

/// Elements of a super-block, the unit of the K-quants and of `IQ4_XS`.
pub const QK_K: usize = 256;

// GGUF stores numbers little-endian and blocks are read as they lie in the file.
const _: () = assert!(cfg!(target_endian = "little"), "block formats need a little-endian host");

/// The smallest unit of a format: `LEN` consecutive elements of a row and the scales they share.
///
/// A block is plain data, so a tensor's bytes can be viewed as blocks without copying.
pub trait Block: Pod {
    /// The element type whose blocks these are.
    const DTYPE: DType;
    /// Elements per block.
    const LEN: usize;

    /// Writes the `LEN` values of this block.
    ///
    /// # Panics
    ///
    /// When `out` does not hold exactly `LEN` elements.
    fn dequantize(&self, out: &mut [f32]);

    /// The block that represents these `LEN` values best, as ggml's reference quantiser without an
    /// importance matrix judges it. Values must be finite. Those beyond the reach of the format
    /// saturate; beyond about 1e12, where products of four of them overflow, the block is finite
    /// but may have little to do with them.
    ///
    /// # Panics
    ///
    /// When `x` does not hold exactly `LEN` elements.
    fn quantize(x: &[f32]) -> Self;
}

/// The `N` elements of a block as an array, so that bounds are checked once.
fn array<const N: usize>(x: &[f32]) -> &[f32; N] {
    x.try_into().expect("the caller passes exactly one block")
}

/// The `N` elements to be written as an array, so that bounds are checked once.
fn array_mut<const N: usize>(x: &mut [f32]) -> &mut [f32; N] {
    x.try_into().expect("the caller passes exactly one block")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails to compile when a type has no block, and to pass when table and block disagree.
    fn geometry<B: Block>() {
        assert_eq!(B::LEN, B::DTYPE.block_len(), "{}", B::DTYPE);
        assert_eq!(size_of::<B>(), B::DTYPE.block_bytes(), "{}", B::DTYPE);
    }

    #[test]
    fn blocks_have_the_geometry_that_the_type_table_states() {
        geometry::<f32>();
        geometry::<half::f16>();
        geometry::<half::bf16>();
        geometry::<BlockQ4_0>();
        geometry::<BlockQ4_1>();
        geometry::<BlockQ5_0>();
        geometry::<BlockQ5_1>();
        geometry::<BlockQ8_0>();
        geometry::<BlockQ2K>();
        geometry::<BlockQ3K>();
        geometry::<BlockQ4K>();
        geometry::<BlockQ5K>();
        geometry::<BlockQ6K>();
        geometry::<BlockIQ4NL>();
        geometry::<BlockIQ4XS>();
        geometry::<BlockMXFP4>();
    }
}
