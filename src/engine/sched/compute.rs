//! Runs a prepared graph: writes its inputs, and split by split copies, computes and times.
//!
//! Timers sit at the borders of splits and copies only, so that they neither serialise the work nor
//! distort it; timing node by node is a mode of its own.

use std::sync::Arc;

use crate::base::clock::now_ns;
use crate::base::event::{DeviceFact, DeviceIndex, Event, PlanFact};
use crate::base::sink::Sink;
use crate::engine::backend::{
    AllocError, BoundNode, BoundTensor, BufferId, Device, DeviceError, DeviceKind, Interval,
    Program, copy,
};
use crate::engine::graph::{Graph, InputKind, Op, Role, TensorId};
use crate::engine::tensor::DType;

use super::alloc::{Allocation, Home, allocate};
use super::assign::{Capabilities, Residence, Unplaceable};
use super::cut::{SplitPlan, split};
use super::facts::plan_fact;
use super::timer::{SplitTime, Timer};

/// What can go wrong between a graph and its result.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// A node fits no device.
    #[error(transparent)]
    Unplaceable(#[from] Unplaceable),
    /// A device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The caller's inputs do not fit the graph. A fault of the engine, not of its input.
    #[error("graph input {name}: {problem}")]
    Input {
        /// The input's name.
        name: &'static str,
        /// What does not fit.
        problem: String,
    },
}

impl From<AllocError> for ComputeError {
    fn from(error: AllocError) -> Self {
        Self::Device(error.into())
    }
}

/// How finely to time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComputeMode {
    /// Per split: the default, which does not disturb.
    #[default]
    Splits,
    /// Per node: a barrier and two clock readings more for each.
    Nodes,
}

/// What a ubatch is, for its events.
#[derive(Clone, Copy, Debug)]
pub struct UbatchInfo {
    /// Its number in the session.
    pub ubatch: u64,
    /// Tokens in it.
    pub tokens: u32,
    /// Tokens that would fit.
    pub capacity: u32,
    /// Sequences that take part.
    pub sequences: u32,
    /// True when it carries prompt tokens.
    pub prompt: bool,
}

/// One copy with its addresses.
pub(super) struct BoundCopy {
    pub(super) from: DeviceIndex,
    from_buffer: BufferId,
    from_offset: usize,
    to_buffer: BufferId,
    to_offset: usize,
    pub(super) bytes: usize,
}

/// A result with its address.
struct BoundOutput {
    device: DeviceIndex,
    buffer: BufferId,
    offset: usize,
    bytes: usize,
}

/// A graph, cut, placed in memory and compiled: run it as often as its shape fits.
pub struct Prepared {
    plan_id: u32,
    pub(super) devices: Vec<DeviceIndex>,
    programs: Vec<Program>,
    pub(super) copies: Vec<Vec<BoundCopy>>,
    inputs: Vec<(InputKind, BufferId, usize, usize)>,
    outputs: Vec<BoundOutput>,
}

/// The devices of a session with what lives on them.
pub struct Scheduler {
    devices: Vec<Box<dyn Device>>,
    names: Vec<String>,
    residence: Residence,
    weights: Vec<Option<(BufferId, usize)>>,
    caches: Vec<(BufferId, usize)>,
    arenas: Vec<Option<(BufferId, usize)>>,
    plans: Vec<Arc<PlanFact>>,
    sink: Arc<dyn Sink>,
}

/// Asks real devices what they can do.
struct Ask<'a>(&'a [Box<dyn Device>]);

impl Capabilities for Ask<'_> {
    fn n_devices(&self) -> usize {
        self.0.len()
    }

    fn supports(&self, device: DeviceIndex, op: &Op, src: &[DType]) -> Result<(), String> {
        self.0[device.0 as usize].supports(op, src)
    }

    fn offloads(&self, device: DeviceIndex, op: &Op, batch: usize) -> bool {
        self.0[device.0 as usize].offloads(op, batch)
    }
}

/// Asks devices as [`Ask`] does, but with op offload turned off.
struct AskNoOffload<'a>(Ask<'a>);

impl Capabilities for AskNoOffload<'_> {
    fn n_devices(&self) -> usize {
        self.0.n_devices()
    }

    fn supports(&self, device: DeviceIndex, op: &Op, src: &[DType]) -> Result<(), String> {
        self.0.supports(device, op, src)
    }

    fn offloads(&self, _device: DeviceIndex, _op: &Op, _batch: usize) -> bool {
        false
    }
}

/// The devices as events tell them.
pub fn device_facts(devices: &[Box<dyn Device>]) -> Vec<DeviceFact> {
    let one = |(i, device): (usize, &dyn Device)| {
        let (info, memory) = (device.info(), device.memory());
        DeviceFact {
            index: DeviceIndex(i as u8),
            name: info.name.clone(),
            description: info.description.clone(),
            is_virtual: info.kind == DeviceKind::Virtual,
            memory_bytes_total: memory.total_bytes,
            memory_bytes_free: memory.free_bytes,
        }
    };
    devices.iter().map(AsRef::as_ref).enumerate().map(one).collect()
}

impl Scheduler {
    /// A scheduler over `devices` in order of priority, the CPU last; tells `sink` about them.
    pub fn new(devices: Vec<Box<dyn Device>>, sink: Arc<dyn Sink>) -> Self {
        for fact in device_facts(&devices) {
            sink.record(Event::Device(fact));
        }
        let names = devices.iter().map(|d| d.info().name.clone()).collect();
        let arenas = devices.iter().map(|_| None).collect();
        Self {
            devices,
            names,
            residence: Residence::default(),
            weights: Vec::new(),
            caches: Vec::new(),
            arenas,
            plans: Vec::new(),
            sink,
        }
    }

    /// The devices in order of priority, the CPU last.
    pub fn devices(&self) -> &[Box<dyn Device>] {
        &self.devices
    }

    /// A device, to allocate and fill its buffers.
    pub fn device_mut(&mut self, index: DeviceIndex) -> &mut dyn Device {
        self.devices[index.0 as usize].as_mut()
    }

    /// The CPU.
    pub fn cpu(&self) -> DeviceIndex {
        DeviceIndex(self.devices.len() as u8 - 1)
    }

    /// Where events go.
    pub fn sink(&self) -> &Arc<dyn Sink> {
        &self.sink
    }

    /// Says where each weight and cache tensor is: buffer and offset, by id; `None` for a weight that
    /// is there in parts.
    pub fn set_residents(
        &mut self,
        residence: Residence,
        weights: Vec<Option<(BufferId, usize)>>,
        caches: Vec<(BufferId, usize)>,
    ) {
        (self.residence, self.weights, self.caches) = (residence, weights, caches);
    }

    /// Where the weights and caches are.
    pub fn residence(&self) -> &Residence {
        &self.residence
    }

    /// The buffer of a cache tensor, its device and the bytes into it.
    pub fn cache(&self, id: usize) -> (DeviceIndex, BufferId, usize) {
        (self.residence.caches[id], self.caches[id].0, self.caches[id].1)
    }

    /// Cuts a graph for these devices and plans its memory; allocates nothing.
    ///
    /// # Errors
    /// When a node fits no device.
    pub fn plan(
        &self,
        graph: &Graph,
        residence: &Residence,
        op_offload: bool,
    ) -> Result<(SplitPlan, Allocation), Unplaceable> {
        let ask = Ask(&self.devices);
        let plan = if op_offload {
            split(graph, residence, &ask)?
        } else {
            split(graph, residence, &AskNoOffload(ask))?
        };
        let allocation = allocate(graph, &plan, self.devices.len());
        Ok((plan, allocation))
    }

    /// Bytes of each device's memory that kernels need beside its arena to run a cut graph; allocates
    /// nothing.
    ///
    /// # Errors
    /// When a device has no kernel for a node.
    pub fn plan_scratch(&self, graph: &Graph, plan: &SplitPlan) -> Result<Vec<usize>, DeviceError> {
        // Far apart, and aligned as allocations are.
        let place = |&id: &TensorId| {
            let tensor = graph.tensor(id);
            let into = tensor.view.map_or(0, |view| view.offset);
            let offset = ((graph.root(id).index() + 1) << 36) + into;
            let (dtype, ne, nb) = (tensor.dtype, tensor.ne, tensor.nb);
            BoundTensor { buffer: BufferId::PLANNED, offset, dtype, ne, nb }
        };
        let mut bytes = vec![0; self.devices.len()];
        for part in &plan.splits {
            let nodes: Vec<BoundNode> = graph.nodes[part.start..part.end]
                .iter()
                .map(|node| BoundNode {
                    op: node.op,
                    src: node.src.iter().map(place).collect(),
                    dst: place(&node.dst),
                })
                .collect();
            let device = part.device.0 as usize;
            bytes[device] = self.devices[device].scratch_needed(&nodes)?.max(bytes[device]);
        }
        Ok(bytes)
    }

    /// Bytes of each device's compute arena.
    pub fn arena_bytes(&self) -> Vec<usize> {
        self.arenas.iter().map(|a| a.map_or(0, |(_, bytes)| bytes)).collect()
    }

    /// Makes sure that each device's arena holds at least so many bytes. Programs prepared before
    /// must be prepared anew when this returns true.
    ///
    /// # Errors
    /// When a device has not the memory.
    pub fn reserve(&mut self, wanted: &[usize]) -> Result<bool, DeviceError> {
        let mut moved = false;
        for (d, &bytes) in wanted.iter().enumerate() {
            let have = self.arenas[d].map_or(0, |(_, have)| have);
            if bytes > have {
                if let Some((old, _)) = self.arenas[d].take() {
                    self.devices[d].free(old);
                }
                let buffer = self.devices[d].alloc(bytes, "the compute buffer")?;
                self.arenas[d] = Some((buffer, bytes));
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Gives back everything on every device: weights, caches and arenas.
    pub fn release(&mut self) {
        for device in &mut self.devices {
            device.free_all();
        }
        self.arenas.fill(None);
        self.weights.clear();
        self.caches.clear();
    }

    /// Binds a cut graph to memory and compiles it. The arenas must have been reserved.
    ///
    /// # Errors
    /// When a tensor does not fit its buffer or a device has no kernel for a node.
    pub fn prepare(
        &mut self,
        graph: &Graph,
        plan: &SplitPlan,
        allocation: &Allocation,
    ) -> Result<Prepared, ComputeError> {
        let tokens = graph.inputs().find(|(kind, _)| *kind == InputKind::Tokens);
        let n_tokens = tokens.map_or(0, |(_, id)| graph.tensor(id).ne[0]);
        let mut programs = Vec::with_capacity(plan.splits.len());
        let mut copies = Vec::with_capacity(plan.splits.len());
        for (s, part) in plan.splits.iter().enumerate() {
            let nodes = graph.nodes[part.start..part.end]
                .iter()
                .map(|node| self.bind_node(graph, allocation, node, part.device))
                .collect::<Result<Vec<_>, _>>()?;
            programs.push(self.devices[part.device.0 as usize].compile(&nodes, n_tokens)?);
            let bound = allocation.copies[s].iter().map(|step| {
                let (home, into) = step.from_home;
                let (from_buffer, from_offset) = self.resolve(home, step.from)?;
                let (to_buffer, to_offset) =
                    self.resolve(Home::Arena(step.to_offset), part.device)?;
                let from_offset = from_offset + into;
                let (from, bytes) = (step.from, step.bytes);
                Some(BoundCopy { from, from_buffer, from_offset, to_buffer, to_offset, bytes })
            });
            let bound: Option<Vec<_>> = bound.collect();
            copies.push(bound.ok_or_else(|| unplanned(graph, part.start))?);
        }
        let cpu = self.cpu();
        let mut inputs = Vec::new();
        for (kind, id) in graph.inputs() {
            let bound = self.bind(graph, allocation, id, cpu)?;
            inputs.push((kind, bound.buffer, bound.offset, graph.tensor(id).bytes()));
        }
        let mut outputs = Vec::with_capacity(graph.outputs.len());
        for &id in &graph.outputs {
            let device = plan.assignment.tensors[id.index()];
            let BoundTensor { buffer, offset, .. } = self.bind(graph, allocation, id, device)?;
            outputs.push(BoundOutput { device, buffer, offset, bytes: graph.tensor(id).bytes() });
        }
        let plan_id = self.announce(graph, plan);
        let devices = plan.splits.iter().map(|s| s.device).collect();
        Ok(Prepared { plan_id, devices, programs, copies, inputs, outputs })
    }

    /// Tells the sink how the graph was cut, once for each structure.
    fn announce(&mut self, graph: &Graph, plan: &SplitPlan) -> u32 {
        let mut fact = plan_fact(graph, plan, &self.residence, &self.names);
        let same = |old: &Arc<PlanFact>| old.n_tokens == fact.n_tokens && same_cut(old, &fact);
        if let Some(known) = self.plans.iter().find(|p| same(p)) {
            return known.id;
        }
        fact.id = self.plans.len() as u32;
        let fact = Arc::new(fact);
        self.plans.push(Arc::clone(&fact));
        self.sink.record(Event::Plan(fact));
        self.plans.len() as u32 - 1
    }

    fn resolve(&self, home: Home, device: DeviceIndex) -> Option<(BufferId, usize)> {
        match home {
            Home::Weight(w) => self.weights.get(w as usize).copied().flatten(),
            Home::Cache(c) => self.caches.get(c as usize).copied(),
            Home::Arena(offset) => self.arenas[device.0 as usize].map(|(b, _)| (b, offset)),
        }
    }

    fn bind(
        &self,
        graph: &Graph,
        allocation: &Allocation,
        id: TensorId,
        device: DeviceIndex,
    ) -> Result<BoundTensor, ComputeError> {
        let tensor = graph.tensor(id);
        let place = allocation.place(graph, id, device);
        let found = place.and_then(|(home, into)| self.resolve(home, device).map(|r| (r, into)));
        let ((buffer, base), into) = found.ok_or_else(|| {
            let problem = "it has no memory in the plan".to_string();
            let (device, what) = (self.names[device.0 as usize].clone(), tensor.name.to_string());
            DeviceError::Bounds { device, what, problem }
        })?;
        let (dtype, ne, nb) = (tensor.dtype, tensor.ne, tensor.nb);
        Ok(BoundTensor { buffer, offset: base + into, dtype, ne, nb })
    }

    fn bind_node(
        &self,
        graph: &Graph,
        allocation: &Allocation,
        node: &crate::engine::graph::Node,
        device: DeviceIndex,
    ) -> Result<BoundNode, ComputeError> {
        let bind = |&id: &TensorId| self.bind(graph, allocation, id, device);
        let src = node.src.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        Ok(BoundNode { op: node.op, src, dst: bind(&node.dst)? })
    }

    /// Runs a prepared graph on `inputs` and leaves its outputs, in the graph's order, in `outputs`.
    ///
    /// # Errors
    /// When an input or output has the wrong size or a device fails.
    pub fn compute(
        &mut self,
        prepared: &Prepared,
        inputs: &dyn Fn(InputKind) -> Option<Vec<u8>>,
        info: UbatchInfo,
        mode: ComputeMode,
        outputs: &mut [&mut [u8]],
    ) -> Result<(), ComputeError> {
        let start_ns = now_ns();
        self.write_inputs(prepared, inputs)?;
        let mut timer = Timer::new(info, prepared.plan_id, now_ns());
        for s in 0..prepared.programs.len() {
            self.run_split(prepared, s, mode, &mut timer)?;
        }
        for device in &mut self.devices {
            device.finish()?;
        }
        self.read_outputs(prepared, outputs, &mut timer)?;
        timer.emit(start_ns, now_ns(), self, prepared);
        Ok(())
    }

    fn write_inputs(
        &mut self,
        prepared: &Prepared,
        inputs: &dyn Fn(InputKind) -> Option<Vec<u8>>,
    ) -> Result<(), ComputeError> {
        let cpu = self.devices.len() - 1;
        for &(kind, buffer, offset, bytes) in &prepared.inputs {
            let error = |problem| ComputeError::Input { name: kind.name(), problem };
            let data = inputs(kind).ok_or_else(|| error("it was not given".to_string()))?;
            if data.len() != bytes {
                return Err(error(format!("{} bytes given, {bytes} needed", data.len())));
            }
            self.devices[cpu].write(buffer, offset, &data)?;
        }
        Ok(())
    }

    fn read_outputs(
        &mut self,
        prepared: &Prepared,
        outputs: &mut [&mut [u8]],
        timer: &mut Timer,
    ) -> Result<(), ComputeError> {
        let given: Vec<usize> = outputs.iter().map(|o| o.len()).collect();
        if !given.iter().copied().eq(prepared.outputs.iter().map(|o| o.bytes)) {
            let problem = format!("room for {given:?} bytes was given");
            return Err(ComputeError::Input { name: "outputs", problem });
        }
        let cpu = self.cpu();
        for (output, target) in prepared.outputs.iter().zip(outputs) {
            let start_ns = now_ns();
            let device = &mut self.devices[output.device.0 as usize];
            device.read(output.buffer, output.offset, target)?;
            if output.device != cpu {
                let time = Interval { start_ns, end_ns: now_ns() };
                timer.outputs.push((output.device, time, output.bytes));
            }
        }
        Ok(())
    }

    fn run_split(
        &mut self,
        prepared: &Prepared,
        s: usize,
        mode: ComputeMode,
        timer: &mut Timer,
    ) -> Result<(), ComputeError> {
        let device = prepared.devices[s].0 as usize;
        for (i, step) in prepared.copies[s].iter().enumerate() {
            let pair = self.devices.get_disjoint_mut([step.from.0 as usize, device]);
            let [from, to] = pair.map_err(|_| ComputeError::Input {
                name: "copy",
                problem: "source and target are the same device".to_string(),
            })?;
            let time = copy(
                (from.as_mut(), step.from_buffer, step.from_offset),
                (to.as_mut(), step.to_buffer, step.to_offset),
                step.bytes,
            )?;
            timer.copies.push((s, i, time));
        }
        let mut nodes = (mode == ComputeMode::Nodes).then(Vec::new);
        let ticket = self.devices[device].submit(&prepared.programs[s], nodes.as_mut())?;
        timer.splits.push(SplitTime { ticket, nodes: nodes.unwrap_or_default() });
        Ok(())
    }
}

fn unplanned(graph: &Graph, node: usize) -> ComputeError {
    let name = graph.tensor(graph.nodes[node].dst).name.to_string();
    let problem = "a copy of its split has no memory in the plan".to_string();
    DeviceError::Bounds { device: String::new(), what: name, problem }.into()
}

/// Two plans cut alike: same devices, same number of nodes, same inputs in each split.
fn same_cut(a: &PlanFact, b: &PlanFact) -> bool {
    a.n_nodes == b.n_nodes
        && a.splits.len() == b.splits.len()
        && a.outputs == b.outputs
        && a.splits.iter().zip(&b.splits).all(|(x, y)| {
            x.device == y.device
                && x.nodes.len() == y.nodes.len()
                && x.inputs.len() == y.inputs.len()
                && x.inputs.iter().zip(&y.inputs).all(|(i, j)| i.tensor == j.tensor)
        })
}

/// Bytes of the weights that a node reads, for its fact.
pub(super) fn weight_bytes(graph: &Graph, src: &[TensorId]) -> u64 {
    let weights = src.iter().map(|&s| graph.tensor(s));
    weights.filter(|t| matches!(t.role, Role::Weight(_))).map(|t| t.bytes() as u64).sum()
}
