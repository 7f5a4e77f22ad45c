//! The reference products: weights converted to `f32` by [`crate::engine::tensor::convert`],
//! sums in `f64`. Every faster kernel is checked against these.

use std::ops::Range;

use super::super::super::view::TensorRef;
use super::Product;
use super::activations::{BLOCK, RowLayout};
use crate::engine::tensor::{DType, convert};

/// Rows `rows` of the result, for all columns.
///
/// # Safety
/// As [`Product`] states.
pub(super) unsafe fn rows(p: &Product, rows: Range<usize>) {
    let mut w = vec![0.0_f32; p.k];
    let mut x = vec![0.0_f32; p.k];
    let layout = RowLayout::new(p.k);
    for r in rows {
        // SAFETY: row `r` is inside the weights, and a row is `w_row_bytes` long.
        unsafe { read_row(p.dtype, p.w.add(r * p.w_stride), p.w_row_bytes, &mut w) };
        for c in 0..p.cols.count {
            // SAFETY: `c` is below the number of columns; a quantised row has `k` elements and a
            // scale for each block, a plain one has `k` floats; this thread alone writes row `r`.
            unsafe {
                let col = p.cols.get(c);
                if p.dtype.is_quantised() {
                    let scale = col.x.add(layout.scale).cast::<f32>();
                    for i in 0..p.k {
                        x[i] = *scale.add(i / BLOCK) * f32::from(*col.x.cast::<i8>().add(i));
                    }
                } else {
                    std::ptr::copy_nonoverlapping(col.x.cast::<f32>(), x.as_mut_ptr(), p.k);
                }
                *col.dst.add(r) = dot(&w, &x);
            }
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32
}

/// # Safety
/// `ptr` starts a row of `bytes` bytes of whole blocks that decode to `out.len()` elements.
unsafe fn read_row(dtype: DType, ptr: *const u8, bytes: usize, out: &mut [f32]) {
    // SAFETY: the caller vouches for the span.
    let bytes = unsafe { std::slice::from_raw_parts(ptr, bytes) };
    if convert::dequantize(dtype, bytes, out).is_err() {
        // Lengths that disagree break the contract of the kernel; make it visible in the result.
        out.fill(f32::NAN);
    }
}

/// Writes zeros to row `i1`, `i2` of a result: what an expert that does not exist contributes.
///
/// # Safety
/// The indices are inside `dst`, and this thread alone writes that row.
pub(super) unsafe fn zero_row(dst: TensorRef, i1: usize, i2: usize) {
    // SAFETY: passed on.
    unsafe { std::ptr::write_bytes(dst.row(i1, i2, 0).cast::<f32>(), 0, dst.ne[0]) }
}
