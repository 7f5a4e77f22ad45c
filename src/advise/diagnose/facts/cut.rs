//! The way of cutting that the time of a watched phase went to: its splits, and their layers.

use crate::base::event::{DeviceIndex, Phase, PlanFact, SplitFact};
use crate::observe::session::{CutPhase, Session};

/// Tokens from which on shares of their time are told: the first ones warm up caches.
pub(crate) const TOKENS_MIN: u64 = 16;

/// The cut that took most of a phase's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BusiestCut<'a> {
    /// The plan that stands for it.
    pub(crate) fact: &'a PlanFact,
    /// Its sums.
    pub(crate) sums: &'a CutPhase,
}

impl<'a> BusiestCut<'a> {
    /// That of a phase, if any ubatch of it ran.
    pub(crate) fn of(session: &'a Session, phase: Phase) -> Option<Self> {
        let cut = session.sums.cuts.iter().max_by_key(|c| c.total_ns(phase))?;
        let sums = cut.phase(phase).filter(|sums| sums.total_ns > 0)?;
        Some(Self { fact: cut.fact(), sums })
    }

    /// A share of the time of its ubatches.
    pub(crate) fn share(&self, ns: u64) -> f64 {
        ns as f64 / self.sums.total_ns as f64
    }

    /// Its splits, with the time that each computed.
    pub(crate) fn splits(&self) -> impl Iterator<Item = (u16, &'a SplitFact, u64)> + use<'a> {
        let splits = self.fact.splits.iter().zip(&self.sums.splits).enumerate();
        splits.map(|(i, (fact, sums))| (i as u16, fact, sums.compute_ns))
    }

    /// The time that one device computed, and bytes of the weights that it reads for each ubatch.
    pub(crate) fn device(&self, device: DeviceIndex) -> (u64, u64) {
        let own = self.splits().filter(|(_, split, _)| split.device == device);
        own.fold((0, 0), |(ns, bytes), (_, split, more)| (ns + more, bytes + weight_bytes(split)))
    }
}

/// Bytes of the weights that a split reads.
pub(crate) fn weight_bytes(split: &SplitFact) -> u64 {
    split.nodes.iter().map(|n| n.weight_bytes).sum()
}

/// The number of the layer that a node belongs to, which ends its name.
fn layer_of(node: &str) -> Option<u64> {
    let plain = node.split(" (").next()?;
    plain.rsplit_once('-')?.1.parse().ok()
}

/// The layers that a split computes: `layers 20..23 and the output`; empty when none.
pub(crate) fn layers(split: &SplitFact) -> String {
    let numbers = || split.nodes.iter().filter_map(|n| layer_of(&n.name));
    let output = split.nodes.iter().any(|n| n.name.starts_with("result_output"));
    let layers = match (numbers().min(), numbers().max()) {
        (Some(a), Some(b)) if a == b => format!("layer {a}"),
        (Some(a), Some(b)) => format!("layers {a}..{b}"),
        _ => String::new(),
    };
    match (layers.is_empty(), output) {
        (true, true) => "the output".to_string(),
        (false, true) => format!("{layers} and the output"),
        (_, false) => layers,
    }
}

/// Names as a person lists them: `A`, `A and B`, `A, B and C`.
pub(crate) fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::NodeFact;

    fn split(names: &[&str]) -> SplitFact {
        let node = |name: &&str| NodeFact {
            name: (*name).to_string(),
            op: String::new(),
            tag: String::new(),
            cause: String::new(),
            ne: [1; 4],
            weight_bytes: 10,
        };
        let nodes = names.iter().map(node).collect();
        SplitFact { device: DeviceIndex(0), nodes, cause: String::new(), inputs: Vec::new() }
    }

    #[test]
    fn layers_are_read_from_the_names_of_nodes() {
        assert_eq!(layers(&split(&["inp_embd"])), "");
        assert_eq!(layers(&split(&["Qcur-12", "Qcur-12 (reshaped)"])), "layer 12");
        let all = split(&["norm-3", "ffn_out-5", "result_norm", "result_output"]);
        assert_eq!((layers(&all).as_str(), weight_bytes(&all)), ("layers 3..5 and the output", 40));
        assert_eq!(layers(&split(&["result_output"])), "the output");
    }

    #[test]
    fn names_are_listed() {
        let names = |n: &[&str]| listed(&n.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!((names(&["A"]), names(&["A", "B"])), ("A".into(), "A and B".into()));
        assert_eq!(names(&["A", "B", "C"]), "A, B and C");
    }
}
