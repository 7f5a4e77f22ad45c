//! Rows of weights as whole groups of 256, also where a row ends within one.

use std::mem::MaybeUninit;

use super::super::Product;
use super::super::activations::GROUP;
use super::unpack::Weights;

/// Bytes of the largest group (`Q8_0`).
const LARGEST_GROUP: usize = 8 * 34;

/// Room for the copy of a row's last group.
pub(super) type Tail = MaybeUninit<[u8; LARGEST_GROUP]>;

/// One row. Where it ends within a group, that group is read from a copy whose missing blocks are
/// zero bytes: they decode to finite numbers, and meet the zeros that activations are padded with.
#[derive(Clone, Copy)]
pub(super) struct Row {
    start: *const u8,
    whole_groups: usize,
    last: *const u8,
}

impl Row {
    /// No row at all.
    pub(super) const NONE: Self =
        Self { start: std::ptr::null(), whole_groups: 0, last: std::ptr::null() };

    /// Row `row` of the weights; valid as long as `tail` is neither moved nor used again.
    ///
    /// # Safety
    /// The row exists and is of type `W`.
    #[inline(always)]
    pub(super) unsafe fn new<W: Weights>(p: &Product, row: usize, tail: &mut Tail) -> Self {
        const { assert!(W::GROUP_BYTES <= LARGEST_GROUP, "a tail has room for a group") };
        let whole_groups = p.k / GROUP;
        let whole_bytes = whole_groups * W::GROUP_BYTES;
        let copy = tail.as_mut_ptr().cast::<u8>();
        // SAFETY: the row has `w_row_bytes`; what is left after whole groups is less than a group.
        unsafe {
            let start = p.w.add(row * p.w_stride);
            let rest = p.w_row_bytes - whole_bytes;
            if rest > 0 {
                std::ptr::copy_nonoverlapping(start.add(whole_bytes), copy, rest);
                std::ptr::write_bytes(copy.add(rest), 0, LARGEST_GROUP - rest);
            }
            Self { start, whole_groups, last: copy }
        }
    }

    /// Group `g`, below `k / 256` rounded up.
    ///
    /// # Safety
    /// The group exists.
    #[inline(always)]
    pub(super) unsafe fn group<W: Weights>(&self, g: usize) -> *const u8 {
        if g < self.whole_groups {
            // SAFETY: whole groups lie one after the other.
            unsafe { self.start.add(g * W::GROUP_BYTES) }
        } else {
            self.last
        }
    }
}
