//! Memory planning by liveness: tensors whose lifetimes do not overlap share bytes.
//!
//! Pure arithmetic over intervals; which tensor lives in which arena is the scheduler's choice.
//! Invariant: two slots that are alive at the same step never overlap.

/// Alignment of every slot: a cache line, and what the widest vector loads prefer.
const ALIGN_BYTES: usize = 64;

/// One allocation request: alive from step `first` to step `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Bytes needed.
    pub bytes: usize,
    /// Step that writes it.
    pub first: usize,
    /// Last step that reads it.
    pub last: usize,
}

/// Where a request ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Bytes from the start of the arena.
    pub offset: usize,
}

/// The plan: one slot per request, in the order of the requests, and the arena's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arena {
    /// Bytes of the arena.
    pub bytes: usize,
    /// The slots.
    pub slots: Vec<Slot>,
}

/// Places each request at the lowest offset that is free over its lifetime, large requests first.
///
/// First fit by decreasing size; graphs have a few hundred tensors with short lives, so the simple
/// quadratic search costs microseconds and wastes little.
pub fn plan_arena(requests: &[Lifetime]) -> Arena {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(requests[i].bytes), requests[i].first));
    let mut slots = vec![Slot { offset: 0 }; requests.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(requests.len());
    let mut arena_bytes = 0;
    for i in order {
        let want = requests[i];
        let size = want.bytes.next_multiple_of(ALIGN_BYTES);
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&j| requests[j].first <= want.last && want.first <= requests[j].last)
            .map(|&j| {
                (slots[j].offset, slots[j].offset + requests[j].bytes.next_multiple_of(ALIGN_BYTES))
            })
            .collect();
        busy.sort_unstable();
        let mut offset = 0;
        for (start, end) in busy {
            if offset + size <= start {
                break;
            }
            offset = offset.max(end);
        }
        slots[i] = Slot { offset };
        arena_bytes = arena_bytes.max(offset + size);
        placed.push(i);
    }
    Arena { bytes: arena_bytes, slots }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tensors_that_never_meet_share_their_bytes() {
        let a = Lifetime { bytes: 100, first: 0, last: 1 };
        let b = Lifetime { bytes: 100, first: 2, last: 3 };
        assert_eq!(plan_arena(&[a, b]).bytes, 128);
        let c = Lifetime { bytes: 100, first: 1, last: 2 };
        assert_eq!(plan_arena(&[a, c]).bytes, 256);
    }

    proptest! {
        #[test]
        fn live_slots_never_overlap(
            raw in prop::collection::vec((1usize..500, 0usize..40, 0usize..10), 1..60)
        ) {
            let requests: Vec<Lifetime> = raw
                .iter()
                .map(|&(bytes, first, len)| Lifetime { bytes, first, last: first + len })
                .collect();
            let plan = plan_arena(&requests);
            for (i, a) in requests.iter().enumerate() {
                prop_assert!(plan.slots[i].offset + a.bytes <= plan.bytes);
                for (j, b) in requests.iter().enumerate().skip(i + 1) {
                    if a.first <= b.last && b.first <= a.last {
                        let (x, y) = (plan.slots[i].offset, plan.slots[j].offset);
                        prop_assert!(x + a.bytes <= y || y + b.bytes <= x);
                    }
                }
            }
        }
    }
}
