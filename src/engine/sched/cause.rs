//! Why a node sits on its device. ggml keeps these as tags of a few characters and compiles them
//! away; here they stay, as data, and turn into sentences when somebody looks.

use crate::base::event::DeviceIndex;
use crate::engine::graph::{Graph, Node, TensorId};

use super::assign::Residence;

/// The cause of one placement.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// Its result is a view of memory that exists already on the device: the KV cache.
    Memory,
    /// Operand `src` is a weight that lives on the device.
    Weight {
        /// Which operand.
        src: usize,
    },
    /// Operand `src` is a weight in host memory, but the batch is large enough to bring it over.
    Offload {
        /// Which operand.
        src: usize,
    },
    /// The parts of a product are put together here.
    Gathered,
    /// The user's settings say so.
    User(String),
    /// Taken over from the neighbour in execution order, whose device supports the operation.
    Expanded {
        /// The neighbouring node.
        neighbour: usize,
    },
    /// A device of higher priority shares the memory of the one it was on.
    Upgraded,
    /// No neighbour's device supports the operation; this one does and reads most operands.
    Best {
        /// Why the devices of its weights or neighbours were refused.
        refused: String,
    },
    /// Nothing else decided, and this is the first device that supports the operation.
    First,
}

impl Cause {
    /// ggml's tag for the pass that decided.
    pub fn tag(&self) -> String {
        match self {
            Self::Memory => "1.vsrc".to_string(),
            Self::Weight { src } => format!("1.wgt{src}"),
            Self::Offload { .. } => "1.off".to_string(),
            Self::Gathered | Self::User(_) => "usr".to_string(),
            Self::Expanded { .. } => "2.sup".to_string(),
            Self::Upgraded => "3.upg".to_string(),
            Self::Best { .. } => "3.best".to_string(),
            Self::First => "4.cur".to_string(),
        }
    }

    /// The sentence: why `node` is on `device`.
    pub fn text(
        &self,
        graph: &Graph,
        node: &Node,
        device: DeviceIndex,
        names: &Names<'_>,
    ) -> String {
        let on = names.device(device);
        match self {
            Self::Memory => {
                let memory = names.tensor(graph, graph.root(node.dst));
                format!("writes {memory}, which is on {on}")
            }
            Self::Weight { src } => {
                let weight = names.tensor(graph, node.src[*src]);
                let reason = names.reason(graph, node.src[*src]);
                format!("reads {weight}, which is on {on}{reason}")
            }
            Self::Offload { src } => {
                let weight = names.tensor(graph, node.src[*src]);
                format!("the batch is large enough to bring {weight} from the CPU to {on}")
            }
            Self::Gathered => format!("puts together on {on} what devices computed (-sm row -mg)"),
            Self::User(text) => text.clone(),
            Self::Expanded { neighbour } => {
                let from = &graph.nodes[*neighbour];
                format!("follows {} on {on}", names.tensor(graph, from.dst))
            }
            Self::Upgraded => format!("{on} shares the memory and has priority"),
            Self::Best { refused } => format!("{on} supports it; {refused}"),
            Self::First => format!("{on} is the first device that supports it"),
        }
    }
}

/// Names for the sentences.
pub struct Names<'a> {
    /// Device names, in the order of priority.
    pub devices: &'a [String],
    /// Weight names and why each is where it is.
    pub residence: &'a Residence,
}

impl Names<'_> {
    /// The device's name.
    pub fn device(&self, index: DeviceIndex) -> &str {
        &self.devices[index.0 as usize]
    }

    /// The tensor's name; for a weight, the file's.
    pub fn tensor(&self, graph: &Graph, id: TensorId) -> String {
        use crate::engine::graph::Role;
        let tensor = graph.tensor(id);
        match tensor.role {
            Role::Weight(w) => self.residence.weight_names[w.0 as usize].to_string(),
            Role::Cache(c) => self.residence.cache_names[c.0 as usize].to_string(),
            _ => tensor.name.to_string(),
        }
    }

    /// Why a weight is where it is, in brackets; empty for everything else.
    fn reason(&self, graph: &Graph, id: TensorId) -> String {
        use crate::engine::graph::Role;
        match graph.tensor(id).role {
            Role::Weight(w) => format!(" ({})", self.residence.weight_reasons[w.0 as usize]),
            _ => String::new(),
        }
    }
}
