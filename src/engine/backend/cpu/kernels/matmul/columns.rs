//! Which columns a product has: all tokens, or the tokens that chose an expert.

use std::marker::PhantomData;

use super::super::super::view::TensorRef;
use super::activations::RowLayout;
use crate::engine::tensor::DType;

/// One column of a product.
#[derive(Clone, Copy)]
pub(super) struct Column {
    /// The activations: a quantised row, or floats.
    pub(super) x: *const u8,
    /// Element 0 of the result's row.
    pub(super) dst: *mut f32,
}

impl Column {
    /// No column at all: what arrays are filled with before they are set.
    pub(super) const NONE: Self = Self { x: std::ptr::null(), dst: std::ptr::null_mut() };
}

/// The columns of a product. A column is a pair (slot, token), numbered with the slot fastest;
/// plain products have one slot.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// How many there are.
    pub(super) count: usize,
    /// Their numbers, or all from 0 on.
    list: Option<&'a [u32]>,
    n_slots: usize,
    x: *const u8,
    /// Bytes from slot to slot and from token to token.
    x_strides: [usize; 2],
    dst: *mut u8,
    dst_strides: [usize; 2],
    scratch: PhantomData<&'a [u8]>,
}

impl<'a> Columns<'a> {
    /// Every row of `x (k, t)`; results in `dst (n, t)`.
    pub(super) fn all(w: DType, x: TensorRef, dst: TensorRef, scratch: *const u8) -> Self {
        let (x_ptr, x_stride) = if w.is_quantised() {
            (scratch, RowLayout::new(x.ne[0]).stride)
        } else {
            (x.ptr.cast_const(), x.nb[1])
        };
        Self {
            count: x.ne[1],
            list: None,
            n_slots: 1,
            x: x_ptr,
            x_strides: [0, x_stride],
            dst: dst.ptr,
            dst_strides: [0, dst.nb[1]],
            scratch: PhantomData,
        }
    }

    /// The pairs in `list` of `x (k, 1 | n_used, t)`; results in `dst (n, n_used, t)`.
    pub(super) fn some(
        w: DType,
        x: TensorRef,
        dst: TensorRef,
        scratch: *const u8,
        list: &'a [u32],
        n_used: usize,
    ) -> Self {
        let (x_ptr, slot, token) = if w.is_quantised() {
            let stride = RowLayout::new(x.ne[0]).stride;
            (scratch, stride, stride * x.ne[1])
        } else {
            (x.ptr.cast_const(), x.nb[1], x.nb[2])
        };
        Self {
            count: list.len(),
            list: Some(list),
            n_slots: n_used,
            x: x_ptr,
            x_strides: [if x.ne[1] == 1 { 0 } else { slot }, token],
            dst: dst.ptr,
            dst_strides: [dst.nb[1], dst.nb[2]],
            scratch: PhantomData,
        }
    }

    /// `T` columns from `first` on; those beyond the last are the last once more.
    ///
    /// # Safety
    /// `first` is below `count`, and the tensors are live.
    #[inline(always)]
    pub(super) unsafe fn block<const T: usize>(&self, first: usize) -> [Column; T] {
        let mut block = [Column::NONE; T];
        for t in 0..T {
            // SAFETY: passed on.
            block[t] = unsafe { self.get((first + t).min(self.count - 1)) };
        }
        block
    }

    /// Column `c`.
    ///
    /// # Safety
    /// `c` is below `count`, and the tensors are live.
    #[inline(always)]
    pub(super) unsafe fn get(&self, c: usize) -> Column {
        let (slot, token) = match self.list {
            None => (0, c),
            Some(list) => {
                let pair = list[c] as usize;
                (pair % self.n_slots, pair / self.n_slots)
            }
        };
        // SAFETY: slot and token are below the extents of both tensors.
        unsafe {
            Column {
                x: self.x.add(slot * self.x_strides[0] + token * self.x_strides[1]),
                dst: self
                    .dst
                    .add(slot * self.dst_strides[0] + token * self.dst_strides[1])
                    .cast::<f32>(),
            }
        }
    }
}

/// Pairs (slot, token) grouped by the expert they chose, in scratch memory.
///
/// u32s: the number of used experts, then `(expert, end)` for each of them, then the pairs; group
/// `i` ends at `end` and starts where the one before ended.
#[derive(Clone, Copy)]
pub(super) struct Experts {
    ptr: *mut u32,
    n_expert: usize,
    pairs: usize,
}

impl Experts {
    /// Bytes for `pairs` pairs among `n_expert` experts.
    pub(super) fn bytes(n_expert: usize, pairs: usize) -> usize {
        ((1 + 3 * n_expert + pairs) * size_of::<u32>()).next_multiple_of(super::activations::ALIGN)
    }

    /// The groups at `ptr`.
    ///
    /// # Safety
    /// `ptr` is 4-byte aligned, with room for [`Experts::bytes`] as long as the value is used.
    pub(super) unsafe fn at(ptr: *mut u8, n_expert: usize, pairs: usize) -> Self {
        Self { ptr: ptr.cast(), n_expert, pairs }
    }

    /// Groups the pairs by their ids and returns the pairs whose id is no expert.
    ///
    /// # Safety
    /// No other thread uses the memory meanwhile.
    pub(super) unsafe fn fill(&self, ids: &[i32]) -> Vec<usize> {
        debug_assert_eq!(ids.len(), self.pairs);
        let words = 1 + 3 * self.n_expert + self.pairs;
        // SAFETY: `at` promised the room; u32 has no invalid values, and all are written before
        // they are read.
        let words = unsafe {
            std::ptr::write_bytes(self.ptr, 0, words);
            std::slice::from_raw_parts_mut(self.ptr, words)
        };
        let (head, pairs) = words.split_at_mut(1 + 2 * self.n_expert);
        let (next, pairs) = pairs.split_at_mut(self.n_expert);
        let mut unknown = Vec::new();
        for (pair, &id) in ids.iter().enumerate() {
            match usize::try_from(id).ok().and_then(|id| next.get_mut(id)) {
                Some(count) => *count += 1,
                None => unknown.push(pair),
            }
        }
        let (mut used, mut end) = (0, 0);
        for (expert, count) in next.iter_mut().enumerate() {
            if *count > 0 {
                let start = end;
                end += *count;
                head[1 + 2 * used] = expert as u32;
                head[2 + 2 * used] = end;
                used += 1;
                *count = start;
            }
        }
        head[0] = used as u32;
        for (pair, &id) in ids.iter().enumerate() {
            if let Some(slot) = usize::try_from(id).ok().and_then(|id| next.get_mut(id)) {
                pairs[*slot as usize] = pair as u32;
                *slot += 1;
            }
        }
        unknown
    }

    /// The groups, for reading.
    ///
    /// # Safety
    /// [`Experts::fill`] has run, its writes are visible, and nobody writes while the value lives.
    pub(super) unsafe fn read<'a>(&self) -> Groups<'a> {
        let words = 1 + 3 * self.n_expert + self.pairs;
        // SAFETY: `at` promised the room, and `fill` has written it.
        let words = unsafe { std::slice::from_raw_parts(self.ptr.cast_const(), words) };
        let (head, pairs) = words.split_at(1 + 3 * self.n_expert);
        Groups { head, pairs }
    }
}

/// What [`Experts::read`] gives.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    head: &'a [u32],
    pairs: &'a [u32],
}

impl<'a> Groups<'a> {
    /// How many experts are used.
    pub(super) fn used(&self) -> usize {
        self.head[0] as usize
    }

    /// The `i`-th used expert and its pairs.
    pub(super) fn group(&self, i: usize) -> (usize, &'a [u32]) {
        let start = if i == 0 { 0 } else { self.head[2 * i] as usize };
        let (expert, end) = (self.head[1 + 2 * i] as usize, self.head[2 + 2 * i] as usize);
        (expert, &self.pairs[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_grouped_by_expert_and_strangers_reported() {
        let ids = [2, 0, 2, 5, -1, 0];
        let mut room = vec![7_u32; Experts::bytes(5, ids.len()) / 4];
        // SAFETY: the vector has the room, and only this thread uses it.
        let (unknown, groups) = unsafe {
            let experts = Experts::at(room.as_mut_ptr().cast(), 5, ids.len());
            (experts.fill(&ids), experts.read())
        };
        assert_eq!(unknown, [3, 4]);
        assert_eq!(groups.used(), 2);
        assert_eq!(groups.group(0), (0, &[1, 5][..]));
        assert_eq!(groups.group(1), (2, &[0, 2][..]));
    }
}
