//! Which nodes of a program run as one step, without a barrier inside.
//!
//! Products of the same activations (query, key and value; gate and up) share one step. Operations
//! on single elements that follow a product (bias, residual, gated unit) are done on each chunk of
//! its rows by the thread that computed it, while the chunk is in the cache. A norm whose result is
//! quantised for the products that follow is part of their step: each row is quantised right after
//! it was made, and one barrier serves both. Every node still writes its own result, so nothing that
//! reads them can tell the difference.
//!
//! Not here: fusing that would change what is computed, or in which order sums are taken.

use std::ops::Range;

use super::view::TensorRef;
use crate::engine::graph::Op;

/// A checked node: its tensors are addresses.
pub(super) struct HostNode {
    pub(super) op: Op,
    pub(super) src: Vec<TensorRef>,
    pub(super) dst: TensorRef,
    /// For products: the quantised activations are in the scratch from a node before.
    pub(super) x_is_ready: bool,
}

/// Nodes that run together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Which nodes of the program.
    pub(super) nodes: Range<usize>,
    /// The first node is a norm whose rows are quantised as they are made.
    pub(super) norm: bool,
    /// How many of the next ones are products; what follows works by rows.
    pub(super) products: usize,
}

impl Step {
    /// Node `index` on its own.
    pub(super) fn alone(index: usize) -> Self {
        Self { nodes: index..index + 1, norm: false, products: 0 }
    }
}

/// Cuts a program into steps.
pub(super) fn steps_of(nodes: &[HostNode]) -> Vec<Step> {
    let mut steps = Vec::with_capacity(nodes.len());
    let mut start = 0;
    while start < nodes.len() {
        let step = step_at(nodes, start);
        start = step.nodes.end;
        steps.push(step);
    }
    steps
}

/// The step that begins with node `start`.
fn step_at(nodes: &[HostNode], start: usize) -> Step {
    let first = &nodes[start];
    if nodes.get(start + 1).is_some_and(|next| is_norm_of(first, next)) {
        let step = step_at(nodes, start + 1);
        return Step { nodes: start..step.nodes.end, norm: true, products: step.products.max(1) };
    }
    if !matches!(first.op, Op::MulMat) {
        return Step::alone(start);
    }
    let shares = |n: &&HostNode| matches!(n.op, Op::MulMat) && same_activations(first, n);
    let products = nodes[start..].iter().take_while(shares).count();
    // What follows may need the rows of all products, so that these must have the same.
    for products in (1..=products).rev() {
        let end = start + products;
        if nodes[start..end].iter().any(|n| n.dst.ne != first.dst.ne) {
            continue;
        }
        let is_next = |&k: &usize| follows(&nodes[start..k], products, &nodes[k]);
        let followers = (end..nodes.len()).take_while(is_next).count();
        if followers > 0 {
            return Step { nodes: start..end + followers, norm: false, products };
        }
    }
    if products == 1 {
        return Step::alone(start);
    }
    Step { nodes: start..start + products, norm: false, products }
}

/// Whether `norm` makes the activations that `product` would have to quantise.
fn is_norm_of(norm: &HostNode, product: &HostNode) -> bool {
    matches!(norm.op, Op::RmsNorm { .. })
        && matches!(product.op, Op::MulMat)
        && product.src[0].dtype.is_quantised()
        && !product.x_is_ready
        && is_same(&norm.dst, &product.src[1])
}

/// Whether `node` may be done by rows right after `step`, whose first `products` are products.
fn follows(step: &[HostNode], products: usize, node: &HostNode) -> bool {
    if !matches!(node.op, Op::Add | Op::Mul | Op::Glu(_)) {
        return false;
    }
    let (a, b, dst) = (&node.src[0], &node.src[1], &node.dst);
    let made_here = |t: &TensorRef| step.iter().any(|n| is_same(&n.dst, t));
    let apart = |t: &TensorRef| step.iter().all(|n| !overlap(&n.dst, t));
    let usable = |t: &TensorRef| made_here(t) || apart(t);
    // Operands that are complete, the same rows of results of this step, or one row for all columns
    // that is complete: a bias.
    let shapes = a.ne == dst.ne && (b.ne == dst.ne || (b.rows() == 1 && apart(b)));
    let shapes = shapes && dst.ne == step[0].dst.ne;
    // Other threads still read the activations of plain weights, and rows that are written early
    // must not be read late: the result stands in place of an operand, or apart from everything.
    let x = &step[0].src[1];
    let reads_x = step[..products].iter().any(|n| !n.src[0].dtype.is_quantised());
    let in_place = is_same(dst, a) || is_same(dst, b);
    let others = step.iter().flat_map(|n| n.src.iter().chain([&n.dst])).chain([a, b]);
    let free = others
        .filter(|t| !is_same(t, dst) && (reads_x || !is_same(t, x)))
        .all(|t| !overlap(t, dst));
    let untouched = !is_same(dst, x) || !reads_x;
    shapes
        && (made_here(a) || made_here(b))
        && usable(a)
        && usable(b)
        && free
        && untouched
        && (in_place || apart(dst))
}

/// Whether two tensors are the same elements in the same places.
fn is_same(a: &TensorRef, b: &TensorRef) -> bool {
    a.ptr == b.ptr && a.ne == b.ne && a.nb == b.nb && a.dtype == b.dtype
}

/// Whether the spans of two tensors touch.
fn overlap(a: &TensorRef, b: &TensorRef) -> bool {
    let span = |t: &TensorRef| {
        let row = t.ne[0].div_ceil(t.dtype.block_len()) * t.nb[0];
        let rest: usize = (1..4).map(|i| t.ne[i].saturating_sub(1) * t.nb[i]).sum();
        (t.ptr as usize, t.ptr as usize + rest + row)
    };
    let ((a_start, a_end), (b_start, b_end)) = (span(a), span(b));
    a_start < b_end && b_start < a_end
}

/// Whether two products multiply the same activations in the same form.
fn same_activations(a: &HostNode, b: &HostNode) -> bool {
    let (x, y) = (&a.src[1], &b.src[1]);
    x.ptr == y.ptr
        && x.ne == y.ne
        && x.nb == y.nb
        && a.src[0].dtype.is_quantised() == b.src[0].dtype.is_quantised()
}

/// Whether `node` is a product whose quantised activations are still in the scratch: the last node
/// that used the scratch was a product of the same.
pub(super) fn shares_activations(before: &[HostNode], node: &HostNode) -> bool {
    let product = |n: &HostNode| matches!(n.op, Op::MulMat | Op::MulMatId);
    let uses_scratch = |n: &&HostNode| product(n) || matches!(n.op, Op::FlashAttn { .. });
    let Some(at) = before.iter().rposition(|n| uses_scratch(&n)) else { return false };
    let last = &before[at];
    let x = node.src.get(1);
    product(node)
        && std::mem::discriminant(&last.op) == std::mem::discriminant(&node.op)
        && same_activations(last, node)
        && node.src[0].dtype.is_quantised()
        && before[at..].iter().all(|n| x.is_some_and(|x| !overlap(&n.dst, x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::graph::GluKind;
    use crate::engine::tensor::DType;

    const T: usize = 3;

    /// An F32 tensor `(n, t)` at byte `at` of an imaginary memory.
    fn plain(at: usize, n: usize) -> TensorRef {
        TensorRef::contiguous(std::ptr::without_provenance_mut(at), DType::F32, [n, T, 1, 1])
    }

    fn product(dtype: DType, x: TensorRef, dst: TensorRef) -> HostNode {
        let at = std::ptr::without_provenance_mut(1 << 30);
        let w = TensorRef::contiguous(at, dtype, [x.ne[0], dst.ne[0], 1, 1]);
        HostNode { op: Op::MulMat, src: vec![w, x], dst, x_is_ready: false }
    }

    fn by_element(op: Op, a: TensorRef, b: TensorRef, dst: TensorRef) -> HostNode {
        HostNode { op, src: vec![a, b], dst, x_is_ready: false }
    }

    fn step(nodes: Range<usize>, products: usize) -> Step {
        Step { nodes, norm: false, products }
    }

    fn norm(x: TensorRef, dst: TensorRef) -> HostNode {
        by_element(Op::RmsNorm { eps: 1e-5 }, x, plain(80_000, 64), dst)
    }

    #[test]
    fn products_of_the_same_activations_run_together() {
        let (x, other) = (plain(0, 64), plain(4096, 64));
        let nodes = [
            product(DType::Q8_0, x, plain(10_000, 64)),
            product(DType::Q4_K, x, plain(20_000, 32)),
            product(DType::F16, x, plain(30_000, 32)),
            product(DType::F16, other, plain(40_000, 32)),
        ];
        assert_eq!(steps_of(&nodes), [step(0..2, 2), Step::alone(2), Step::alone(3)]);
    }

    #[test]
    fn a_gated_unit_and_a_residual_follow_their_products() {
        let x = plain(0, 64);
        let (gate, up, glu) = (plain(10_000, 96), plain(20_000, 96), plain(10_000, 96));
        let (out, sum) = (plain(40_000, 64), plain(50_000, 64));
        let nodes = [
            product(DType::Q8_0, x, gate),
            product(DType::Q8_0, x, up),
            by_element(Op::Glu(GluKind::Silu), gate, up, glu),
            product(DType::Q8_0, glu, out),
            by_element(Op::Add, out, plain(60_000, 64), sum),
            by_element(Op::Add, sum, sum, plain(70_000, 64)),
        ];
        assert_eq!(steps_of(&nodes), [step(0..3, 2), step(3..6, 1)]);
    }

    #[test]
    fn a_norm_joins_the_products_that_quantise_its_result() {
        let (x, normed, dst) = (plain(0, 64), plain(10_000, 64), plain(20_000, 64));
        let nodes = |dtype| [norm(x, normed), product(dtype, normed, dst)];
        let together = Step { nodes: 0..2, norm: true, products: 1 };
        assert_eq!(steps_of(&nodes(DType::Q8_0)), [together]);
        // Plain weights read the rows as they are, and all of them.
        assert_eq!(steps_of(&nodes(DType::F16)), [Step::alone(0), Step::alone(1)]);
        // Some other activations.
        let other = [norm(x, normed), product(DType::Q8_0, x, dst)];
        assert_eq!(steps_of(&other), [Step::alone(0), Step::alone(1)]);
        // What follows the products still does.
        let sum = by_element(Op::Add, dst, x, plain(30_000, 64));
        let [first, second] = nodes(DType::Q8_0);
        let residual = [first, second, product(DType::Q4_K, normed, plain(40_000, 32)), sum];
        let together = Step { nodes: 0..3, norm: true, products: 2 };
        assert_eq!(steps_of(&residual), [together, Step::alone(3)]);
        let [first, second] = nodes(DType::Q8_0);
        let sum = by_element(Op::Add, dst, x, plain(30_000, 64));
        let together = Step { nodes: 0..3, norm: true, products: 1 };
        assert_eq!(steps_of(&[first, second, sum]), [together]);
    }

    #[test]
    fn what_other_threads_still_read_is_not_overwritten() {
        let (x, dst) = (plain(0, 64), plain(10_000, 64));
        // The result lies over the activations: only once they are in the scratch.
        let over_x =
            |dtype| [product(dtype, x, dst), by_element(Op::Add, dst, plain(20_000, 64), x)];
        assert_eq!(steps_of(&over_x(DType::F16)), [Step::alone(0), Step::alone(1)]);
        assert_eq!(steps_of(&over_x(DType::Q8_0)), [step(0..2, 1)]);
        // The result lies one row further than an operand: rows would be overwritten unread.
        let shifted =
            [product(DType::Q8_0, x, dst), by_element(Op::Add, dst, dst, plain(10_256, 64))];
        assert_eq!(steps_of(&shifted), [Step::alone(0), Step::alone(1)]);
        // The other operand is a row that this product writes.
        let mut row = dst;
        row.ne[1] = 1;
        let own = [product(DType::Q8_0, x, dst), by_element(Op::Add, dst, row, plain(30_000, 64))];
        assert_eq!(steps_of(&own), [Step::alone(0), Step::alone(1)]);
    }

    #[test]
    fn activations_stay_ready_until_the_scratch_or_they_are_overwritten() {
        let (x, dst) = (plain(0, 64), plain(10_000, 64));
        let first = || product(DType::Q8_0, x, dst);
        let bias = || by_element(Op::Add, dst, plain(20_000, 64), dst);
        let next = product(DType::Q4_K, x, plain(30_000, 64));
        assert!(shares_activations(&[first(), bias()], &next));
        assert!(!shares_activations(&[product(DType::F16, x, dst)], &next));
        let over_x = by_element(Op::Add, dst, dst, x);
        assert!(!shares_activations(&[first(), over_x], &next));
        let between = product(DType::Q8_0, dst, plain(40_000, 64));
        assert!(!shares_activations(&[first(), between], &next));
    }
}
