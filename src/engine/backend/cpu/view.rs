//! A tensor as kernels see it: a pointer with extents and strides.

#![allow(
    clippy::cast_ptr_alignment,
    reason = "buffers check the alignment of plain types when a tensor is bound to them"
)]

use crate::engine::tensor::DType;

/// Extents, strides and address of a tensor in host memory. Copying it copies no bytes.
///
/// It is a claim, not a borrow: whoever makes one vouches that the span is live, and that writers
/// do not overlap readers between two barriers.
#[derive(Clone, Copy, Debug)]
pub struct TensorRef {
    /// First byte of the first element.
    pub ptr: *mut u8,
    /// Element type.
    pub dtype: DType,
    /// Extents in elements, `ne[0]` fastest.
    pub ne: [usize; 4],
    /// Strides in bytes; `nb[0]` is the bytes of a block.
    pub nb: [usize; 4],
}

// SAFETY: a `TensorRef` is plain data; what may be done with the bytes behind it is the contract of
// the kernels that receive it.
unsafe impl Send for TensorRef {}
// SAFETY: as above.
unsafe impl Sync for TensorRef {}

impl TensorRef {
    /// A gapless tensor at `ptr`.
    pub fn contiguous(ptr: *mut u8, dtype: DType, ne: [usize; 4]) -> Self {
        let nb0 = dtype.block_bytes();
        let nb1 = ne[0] / dtype.block_len() * nb0;
        Self { ptr, dtype, ne, nb: [nb0, nb1, nb1 * ne[1], nb1 * ne[1] * ne[2]] }
    }

    /// Rows: everything but `ne[0]`.
    pub fn rows(&self) -> usize {
        self.ne[1] * self.ne[2] * self.ne[3]
    }

    /// Address of row `(i1, i2, i3)`.
    ///
    /// # Safety
    /// The indices are below the extents and the span of the tensor is live.
    pub unsafe fn row(&self, i1: usize, i2: usize, i3: usize) -> *mut u8 {
        // SAFETY: the caller keeps the indices inside the span.
        unsafe { self.ptr.add(i1 * self.nb[1] + i2 * self.nb[2] + i3 * self.nb[3]) }
    }

    /// Address of row `r` of [`TensorRef::rows`], counted with `ne[1]` fastest.
    ///
    /// # Safety
    /// `r` is below `rows()` and the span of the tensor is live.
    pub unsafe fn flat_row(&self, r: usize) -> *mut u8 {
        let (i1, rest) = (r % self.ne[1], r / self.ne[1]);
        // SAFETY: each index is below its extent because `r` is below their product.
        unsafe { self.row(i1, rest % self.ne[2], rest / self.ne[2]) }
    }

    /// Row `r` as `f32`s.
    ///
    /// # Safety
    /// As [`TensorRef::flat_row`]; the type is F32, the address is 4-byte aligned, and nobody writes
    /// the row while the slice lives.
    pub unsafe fn f32_row<'a>(&self, r: usize) -> &'a [f32] {
        debug_assert_eq!(self.dtype, DType::F32);
        // SAFETY: the caller vouches for address, alignment and the absence of writers.
        unsafe { std::slice::from_raw_parts(self.flat_row(r).cast::<f32>(), self.ne[0]) }
    }

    /// Row `r` as `f32`s to write.
    ///
    /// # Safety
    /// As [`TensorRef::f32_row`], and nobody else reads or writes the row while the slice lives.
    pub unsafe fn f32_row_mut<'a>(&self, r: usize) -> &'a mut [f32] {
        debug_assert_eq!(self.dtype, DType::F32);
        // SAFETY: the caller vouches for address, alignment and exclusive access.
        unsafe { std::slice::from_raw_parts_mut(self.flat_row(r).cast::<f32>(), self.ne[0]) }
    }

    /// The elements as `i32`s; the tensor must be gapless.
    ///
    /// # Safety
    /// The span is live, the type is I32, the address is 4-byte aligned, nobody writes meanwhile.
    pub unsafe fn i32s<'a>(&self) -> &'a [i32] {
        debug_assert_eq!(self.dtype, DType::I32);
        // SAFETY: the caller vouches for address, alignment and the absence of writers.
        unsafe {
            std::slice::from_raw_parts(self.ptr.cast::<i32>(), self.ne.iter().product::<usize>())
        }
    }
}
