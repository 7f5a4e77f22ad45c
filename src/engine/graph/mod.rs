//! The compute graph as data: tensors, operations, and the order in which they run.
//!
//! A graph names no device and executes nothing; [`crate::engine::sched`] cuts it into splits and
//! [`crate::engine::backend`] runs its nodes. Invariant: nodes stand in execution order, each node
//! writes exactly one tensor, and every shape was inferred and checked when the node was added.

mod builder;
mod liveness;
mod op;
mod tensor;

pub use builder::{Graph, GraphBuilder, GraphError, Node};
pub use liveness::{Arena, Lifetime, Slot, plan_arena};
pub use op::{CONCAT_MAX, GluKind, Op, RopeMode, RopeParams};
pub use tensor::{CacheId, InputKind, Name, Role, Tensor, TensorId, View, WeightId};
