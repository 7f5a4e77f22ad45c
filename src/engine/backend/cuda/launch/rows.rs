//! What the launches of everything but matrix products share: strides in floats, alignment, grids.

use bytemuck::Pod;

use crate::engine::tensor::DType;

use super::{Launch, Operand, ParamBytes};

/// The largest grid in its first direction.
const GRID_MAX: u64 = (1 << 31) - 1;

/// Strides of an F32 operand, in floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strides {
    /// Between neighbours in the second extent.
    pub(super) row: u64,
    /// Between neighbours in the third extent.
    pub(super) plane: u64,
}

/// The strides of `x`, or why the kernels cannot walk through it.
pub(super) fn strides(x: &Operand) -> Result<Strides, String> {
    if x.dtype != DType::F32 {
        return Err(format!("an operand is {}, not F32", x.dtype));
    }
    let gapless = x.nb[0] == 4 && x.nb[1].is_multiple_of(4) && x.nb[2].is_multiple_of(4);
    if !gapless || x.ne[3] != 1 {
        return Err(format!("an operand of extents {:?} has strides {:?}", x.ne, x.nb));
    }
    Ok(Strides { row: (x.nb[1] / 4) as u64, plane: (x.nb[2] / 4) as u64 })
}

/// An operand of I32 without gaps: ids, positions, row numbers.
pub(super) fn integers(x: &Operand) -> Result<u64, String> {
    if x.dtype == DType::I32 && x.nb[0] == 4 && x.is_contiguous() {
        Ok(x.address)
    } else {
        Err(format!("an operand of {} numbers has strides {:?}", x.dtype, x.nb))
    }
}

/// 1 when rows of these operands can be read four floats at a time.
pub(super) fn vector(operands: &[(&Operand, Strides)]) -> u32 {
    let fits = |(x, s): &(&Operand, Strides)| {
        x.address.is_multiple_of(16) && s.row.is_multiple_of(4) && s.plane.is_multiple_of(4)
    };
    u32::from(operands.iter().all(fits))
}

/// An extent as kernels take it.
pub(super) fn extent(n: usize) -> Result<u32, String> {
    u32::try_from(n).map_err(|_| format!("an extent of {n} is too large"))
}

/// Whether every operand in `at` is F32.
pub(super) fn all_f32(src: &[DType], at: &[usize]) -> Result<(), String> {
    match at.iter().find(|&&i| src[i] != DType::F32) {
        None => Ok(()),
        Some(&i) => Err(format!("operand {i} is {}, not F32", src[i])),
    }
}

/// Adds a launch of `blocks` blocks in a line; none at all when there is nothing to do.
pub(super) fn push<P: Pod>(
    out: &mut Vec<Launch>,
    kernel: &'static str,
    blocks: u64,
    threads: u32,
    params: &P,
) -> Result<(), String> {
    if blocks > GRID_MAX {
        return Err(format!("{blocks} blocks are more than a grid can have"));
    }
    if blocks > 0 {
        out.push(Launch {
            kernel,
            grid: [blocks as u32, 1, 1],
            block: [threads, 1, 1],
            shared_bytes: 0,
            params: ParamBytes::new(params),
        });
    }
    Ok(())
}

/// Threads for one row of `n` elements that are taken four at a time: whole warps, at most `most`.
pub(super) fn threads_for_row(n: usize, most: u32) -> u32 {
    (n.div_ceil(4).next_multiple_of(32) as u32).clamp(32, most)
}
