//! The end of a row whose length is no multiple of a group.

use std::mem::MaybeUninit;

use super::super::Product;
use super::super::activations::GROUP;
use super::unpack::Weights;

/// Bytes of the largest group.
const LARGEST_GROUP: usize = 8 * 34;

/// A row of weights as whole groups: the last one may be a copy filled up with zero blocks, which
/// meet the zeros that activations are padded with.
pub(super) struct Row {
    start: *const u8,
    whole: usize,
    /// Written only when there is a rest.
    tail: MaybeUninit<[u8; LARGEST_GROUP]>,
}

impl Row {
    /// Row `row` of the weights.
    ///
    /// # Safety
    /// The row exists and is of type `W`.
    #[inline(always)]
    pub(super) unsafe fn new<W: Weights>(p: &Product, row: usize) -> Self {
        let whole = p.k / GROUP;
        let mut tail = MaybeUninit::<[u8; LARGEST_GROUP]>::uninit();
        // SAFETY: the row has `w_row_bytes`, of which the whole groups take the first.
        unsafe {
            let start = p.w.add(row * p.w_stride);
            let rest = p.w_row_bytes - whole * W::GROUP_BYTES;
            if rest > 0 {
                let end = start.add(whole * W::GROUP_BYTES);
                let to = tail.as_mut_ptr().cast::<u8>();
                std::ptr::write_bytes(to, 0, LARGEST_GROUP);
                std::ptr::copy_nonoverlapping(end, to, rest);
            }
            Self { start, whole, tail }
        }
    }

    /// Group `g`, below `k / 256` rounded up.
    ///
    /// # Safety
    /// The group exists.
    #[inline(always)]
    pub(super) unsafe fn group<W: Weights>(&self, g: usize) -> *const u8 {
        if g < self.whole {
            // SAFETY: whole groups lie one after the other.
            unsafe { self.start.add(g * W::GROUP_BYTES) }
        } else {
            self.tail.as_ptr().cast()
        }
    }
}
