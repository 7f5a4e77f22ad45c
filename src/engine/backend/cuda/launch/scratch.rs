//! Plans the scratch memory of a program: by size first, with addresses once the size is known.
//!
//! It holds no memory. A program is planned twice: the first time from address 0, to learn how many
//! bytes it needs, the second time from the memory that it got. Both times the same requests come
//! in the same order, since planning depends on shapes alone.

use super::Operand;

/// Alignment of every piece, enough for any vector load and for `cp.async`.
const ALIGN_BYTES: usize = 256;

/// Scratch memory of one program.
///
/// It has two parts. Pieces from [`ScratchPlan::take`] live until their node ends: every node
/// starts from the same address, which is safe since the launches of a program run one after the
/// other. The piece from [`ScratchPlan::keep`] lives on, so that something derived from an operand
/// (its quantised form, say) is made once for all nodes that read the operand.
#[derive(Debug, Default)]
pub(in crate::engine::backend::cuda) struct ScratchPlan {
    base: u64,
    kept_bytes: usize,
    kept_bytes_max: usize,
    node_bytes: usize,
    node_bytes_max: usize,
    kept: Option<(Operand, &'static str)>,
}

impl ScratchPlan {
    /// A plan that only measures.
    pub(in crate::engine::backend::cuda) fn measuring() -> Self {
        Self::default()
    }

    /// A plan over memory at `base` that is laid out as `measured` needs it.
    pub(in crate::engine::backend::cuda) fn placed(base: u64, measured: &Self) -> Self {
        Self { base, kept_bytes: measured.kept_bytes_max, ..Self::default() }
    }

    /// Bytes that everything asked for so far needs.
    pub(in crate::engine::backend::cuda) fn bytes(&self) -> usize {
        self.kept_bytes_max.max(self.kept_bytes) + self.node_bytes_max
    }

    /// Begins a node: what the last one took is free again.
    pub(in crate::engine::backend::cuda) fn begin_node(&mut self) {
        self.node_bytes = 0;
    }

    /// Ends a node that wrote `dst`: what was kept of memory that it overwrote is stale.
    pub(in crate::engine::backend::cuda) fn end_node(&mut self, dst: &Operand) {
        let overlaps = |kept: &Operand| {
            let (a, b) = (kept.address, dst.address);
            a < b + dst.span_bytes() as u64 && b < a + kept.span_bytes() as u64
        };
        self.kept = self.kept.take().filter(|(operand, _)| !overlaps(operand));
    }

    /// The address of `bytes` that belong to this node until it ends. The contents are arbitrary.
    pub(in crate::engine::backend::cuda) fn take(&mut self, bytes: usize) -> u64 {
        let at = self.node_bytes;
        self.node_bytes = at + bytes.next_multiple_of(ALIGN_BYTES);
        self.node_bytes_max = self.node_bytes_max.max(self.node_bytes);
        self.base + (self.kept_bytes + at) as u64
    }

    /// The address of `bytes` that hold the `form` of `operand`, and whether a launch must fill
    /// them first: false when an earlier node of the program did and neither was overwritten.
    /// Only the latest one is kept.
    pub(in crate::engine::backend::cuda) fn keep(
        &mut self,
        operand: &Operand,
        form: &'static str,
        bytes: usize,
    ) -> (u64, bool) {
        let fresh = self.kept != Some((*operand, form));
        self.kept = Some((*operand, form));
        self.kept_bytes_max = self.kept_bytes_max.max(bytes.next_multiple_of(ALIGN_BYTES));
        (self.base, fresh)
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::tensor::DType;

    use super::*;

    fn operand(address: u64) -> Operand {
        Operand { address, dtype: DType::F32, ne: [8, 1, 1, 1], nb: [4, 32, 32, 32] }
    }

    fn requests(plan: &mut ScratchPlan) -> Vec<(u64, u64, u64, bool)> {
        let mut got = Vec::new();
        for (address, bytes) in [(1000, 100), (1000, 5000), (2000, 300)] {
            plan.begin_node();
            let (a, b) = (plan.take(bytes), plan.take(10));
            let (kept, fresh) = plan.keep(&operand(address), "q8", 700);
            got.push((a, b, kept, fresh));
            plan.end_node(&operand(5000));
        }
        got
    }

    #[test]
    fn pieces_of_a_node_are_apart_and_what_is_kept_lies_below_them() {
        let mut measured = ScratchPlan::measuring();
        requests(&mut measured);
        let mut placed = ScratchPlan::placed(1 << 20, &measured);
        let got = requests(&mut placed);
        assert_eq!(placed.bytes(), measured.bytes());
        let end = (1 << 20) + measured.bytes() as u64;
        for &(a, b, kept, _) in &got {
            assert!(kept == 1 << 20 && a >= kept + 700 && b >= a + 100 && b + 10 <= end);
        }
        assert_eq!(got.iter().map(|g| g.3).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn what_is_kept_of_overwritten_memory_is_stale() {
        let mut plan = ScratchPlan::measuring();
        assert!(plan.keep(&operand(1000), "q8", 64).1);
        plan.end_node(&operand(1032));
        assert!(!plan.keep(&operand(1000), "q8", 64).1, "next to it is not over it");
        plan.end_node(&operand(1031));
        assert!(plan.keep(&operand(1000), "q8", 64).1);
    }
}
