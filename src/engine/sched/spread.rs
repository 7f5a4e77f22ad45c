//! Products whose weight is spread over devices by rows (`-sm row`): one product for each device, over
//! the rows that it holds, and a node that puts the results side by side.
//!
//! A graph is rewritten before it is cut, so that the passes place the parts as they place any other
//! node, by their weights. Invariant: every tensor keeps its id, and the rewritten graph computes the
//! same rows, each on one device.

use crate::base::event::DeviceIndex;
use crate::engine::graph::{Graph, Node, Op, Role, Tensor, TensorId, WeightId};

use super::assign::{Residence, WeightPart};

/// The graph with its spread products taken apart.
pub fn spread(graph: Graph, residence: &Residence) -> Graph {
    if residence.parts.is_empty() {
        return graph;
    }
    let nodes = graph.nodes;
    let mut to = Spread { graph: Graph { nodes: Vec::new(), ..graph }, residence };
    let mut start = 0;
    while start < nodes.len() {
        let products = nodes[start..].iter().take_while(|n| to.belongs(&nodes[start], n)).count();
        if products == 0 {
            to.graph.nodes.push(nodes[start].clone());
            start += 1;
        } else {
            to.products(&nodes[start..start + products]);
            start += products;
        }
    }
    to.graph
}

struct Spread<'a> {
    graph: Graph,
    residence: &'a Residence,
}

impl Spread<'_> {
    fn weight(&self, node: &Node) -> Option<WeightId> {
        match self.graph.tensor(node.src[0]).role {
            Role::Weight(id) if node.op == Op::MulMat => Some(id),
            _ => None,
        }
    }

    /// Whether `node` is a spread product with the activations of `first`.
    fn belongs(&self, first: &Node, node: &Node) -> bool {
        let spread = self.weight(node).is_some_and(|w| self.residence.is_spread(w));
        spread && node.src[1] == first.src[1]
    }

    /// Products of the same activations: device by device, so that each has one split for all, and
    /// those of the gathering device last, so that the others have begun when it computes.
    fn products(&mut self, products: &[Node]) {
        let residence = self.residence;
        let parts_of = |node: &Node| {
            let of = self.weight(node);
            let parts = residence.parts.iter().enumerate();
            parts.filter(|(_, part)| Some(part.of) == of).collect::<Vec<_>>()
        };
        // By product: its parts, in the order of their rows.
        let parts: Vec<_> = products.iter().map(parts_of).collect();
        let mut order: Vec<(DeviceIndex, usize, usize)> = Vec::new();
        for (p, parts) in parts.iter().enumerate() {
            order.extend(parts.iter().enumerate().map(|(i, (_, part))| (part.device, p, i)));
        }
        order.sort_by_key(|&place| (Some(place.0) == residence.gather, place));
        let mut results: Vec<Vec<TensorId>> =
            products.iter().zip(&parts).map(|(node, parts)| vec![node.dst; parts.len()]).collect();
        for (_, p, i) in order {
            let (number, part) = parts[p][i];
            results[p][i] = self.part(&products[p], residence.part_id(number), part);
        }
        for (node, src) in products.iter().zip(results) {
            self.graph.nodes.push(Node { op: Op::Concat, src, dst: node.dst });
        }
    }

    /// The product with one part.
    fn part(&mut self, node: &Node, id: WeightId, part: &WeightPart) -> TensorId {
        let whole = self.graph.tensor(node.src[0]);
        let ([k, ..], rows) = (whole.ne, part.rows.len());
        let weight = Tensor::new(whole.name, whole.dtype, [k, rows, 1, 1], Role::Weight(id));
        let weight = self.push(weight);
        let whole = self.graph.tensor(node.dst);
        let (name, [_, t, ..]) = (whole.name, whole.ne);
        let dst = self.push(Tensor::new(name, whole.dtype, [rows, t, 1, 1], Role::Result));
        self.graph.nodes.push(Node { op: Op::MulMat, src: vec![weight, node.src[1]], dst });
        dst
    }

    fn push(&mut self, tensor: Tensor) -> TensorId {
        self.graph.tensors.push(tensor);
        TensorId(self.graph.tensors.len() as u32 - 1)
    }
}
