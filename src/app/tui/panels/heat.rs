//! How a phase's computing is shared among the layers: an estimate, unless nodes were timed one by
//! one.

use std::collections::BTreeMap;

use crate::base::event::{NodeFact, Phase, SplitFact};
use crate::observe::session::{Session, SplitSums};

/// What a node belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// What comes before the layers.
    Embedding,
    /// A layer.
    Layer(u32),
    /// What comes after them.
    Output,
}

/// Computing time by part.
#[derive(Debug, Default)]
pub(super) struct Heat {
    ns: BTreeMap<Part, f64>,
    /// Whether every split's nodes were timed one by one.
    pub is_timed: bool,
}

impl Heat {
    /// Of all cuts that ran in a phase.
    pub(super) fn of(session: &Session, phase: Phase) -> Self {
        let mut heat = Self { ns: BTreeMap::new(), is_timed: true };
        let mut any = false;
        for cut in &session.sums.cuts {
            let Some(sums) = cut.phase(phase) else { continue };
            let mut before = Part::Embedding;
            for (fact, sums) in cut.fact().splits.iter().zip(&sums.splits) {
                any = true;
                heat.split(fact, sums, &mut before);
            }
        }
        heat.is_timed &= any;
        heat
    }

    fn split(&mut self, fact: &SplitFact, sums: &SplitSums, before: &mut Part) {
        let is_timed = !sums.nodes_ns.is_empty();
        self.is_timed &= is_timed;
        let weights: u64 = fact.nodes.iter().map(read_bytes).sum();
        let each = 1.0 / fact.nodes.len().max(1) as f64;
        for (index, node) in fact.nodes.iter().enumerate() {
            *before = part_of(&node.name, *before);
            let ns = if is_timed {
                sums.nodes_ns.get(index).copied().unwrap_or(0) as f64
            } else if weights > 0 {
                sums.compute_ns as f64 * (read_bytes(node) as f64 / weights as f64)
            } else {
                sums.compute_ns as f64 * each
            };
            *self.ns.entry(*before).or_default() += ns;
        }
    }

    /// Of a part.
    pub(super) fn ns(&self, part: Part) -> f64 {
        self.ns.get(&part).copied().unwrap_or(0.0)
    }
}

/// Bytes of weights that a node goes through; of a table it reads some rows only.
fn read_bytes(node: &NodeFact) -> u64 {
    if node.op == "GET_ROWS" { 0 } else { node.weight_bytes }
}

/// The part that a node's name tells: `Qcur-12`, `cache_k_l12`, `result_norm`. What tells none
/// belongs to what stands before it.
fn part_of(name: &str, before: Part) -> Part {
    let name = name.split(" (").next().unwrap_or(name);
    let numbered = name.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
    match numbered {
        Some(layer) => Part::Layer(layer),
        None if name.starts_with("result_") => Part::Output,
        None if name.starts_with("inp_embd") => Part::Embedding,
        None => before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_layer() {
        let before = Part::Layer(3);
        for (name, part) in [
            ("Qcur-12", Part::Layer(12)),
            ("k_cache_view-0 (copy)", Part::Layer(0)),
            ("result_norm", Part::Output),
            ("inp_embd", Part::Embedding),
            ("view", before),
            ("a-b", before),
        ] {
            assert_eq!(part_of(name, before), part, "{name}");
        }
    }
}
