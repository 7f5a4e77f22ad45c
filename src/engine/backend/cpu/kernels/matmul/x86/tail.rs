//! The end of a row whose length is no multiple of a group.

use std::arch::x86_64::{__cpuid, _MM_HINT_T0, _mm_prefetch};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::super::Product;
use super::super::activations::GROUP;
use super::unpack::Weights;

/// Whether rows should be asked for ahead. Rows are too short for the prefetching of Intel's
/// processors to get far, which this makes up for (1.3 to 1.7 times the speed of decode on an Emerald
/// Rapids); that of AMD's gets there by itself, and requests stand in its way (a tenth on a Zen 4).
pub(super) fn fetches_ahead() -> bool {
    static AHEAD: OnceLock<bool> = OnceLock::new();
    *AHEAD.get_or_init(|| {
        let leaf = __cpuid(0);
        let vendor = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
        vendor.as_flattened() != b"AuthenticAMD"
    })
}

/// Asks for weights that are needed later.
#[inline(always)]
pub(super) fn fetch(weights: *const u8, bytes: usize) {
    for offset in (0..bytes).step_by(64) {
        // SAFETY: fetching needs SSE only, and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(offset).cast()) };
    }
}

/// Bytes of the largest group.
const LARGEST_GROUP: usize = 8 * 34;

/// Room for the copy of a row's last group; written only when there is one.
pub(super) type Tail = MaybeUninit<[u8; LARGEST_GROUP]>;

/// A row of weights as whole groups: the last one may be a copy filled up with zero blocks, which
/// meet the zeros that activations are padded with.
#[derive(Clone, Copy)]
pub(super) struct Row {
    start: *const u8,
    whole: usize,
    tail: *const u8,
}

impl Row {
    /// No row at all.
    pub(super) const NONE: Self =
        Self { start: std::ptr::null(), whole: 0, tail: std::ptr::null() };

    /// Row `row` of the weights; valid as long as `tail` is neither moved nor used again.
    ///
    /// # Safety
    /// The row exists and is of type `W`.
    #[inline(always)]
    pub(super) unsafe fn new<W: Weights>(p: &Product, row: usize, tail: &mut Tail) -> Self {
        let whole = p.k / GROUP;
        let to = tail.as_mut_ptr().cast::<u8>();
        // SAFETY: the row has `w_row_bytes`, of which the whole groups take the first.
        unsafe {
            let start = p.w.add(row * p.w_stride);
            let rest = p.w_row_bytes - whole * W::GROUP_BYTES;
            if rest > 0 {
                let end = start.add(whole * W::GROUP_BYTES);
                std::ptr::write_bytes(to, 0, LARGEST_GROUP);
                std::ptr::copy_nonoverlapping(end, to, rest);
            }
            Self { start, whole, tail: to }
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
            self.tail
        }
    }
}
