//! Runs nodes whose tensors lie in host memory: the CPU's engine, and that of virtual devices.
//!
//! All threads run all nodes of a program in one job, with a barrier after each step. Ids in the
//! data (token ids, cache rows, experts) are checked by the kernels that follow them.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::base::clock::now_ns;
use crate::engine::backend::device::{
    BoundNode, BoundTensor, DeviceError, Interval, Program, Ticket,
};
use crate::engine::backend::host_memory::{HostBuffer, HostBuffers};
use crate::engine::graph::Op;
use crate::engine::tensor::DType;

use super::isa::Isa;
use super::kernels::flash_attn::{self, flash_attn_scratch_bytes};
use super::kernels::{elementwise, experts, matmul, norm, rope, rows, top_k};
use super::pool::{ThreadPool, Worker};
use super::steps::{HostNode, Step, shares_activations, steps_of};
use super::threads::Threads;
use super::view::TensorRef;

/// How many of the latest tickets are remembered; a graph has far fewer splits.
const TICKETS_KEPT: usize = 4096;

/// What [`Executor::compile`] makes.
struct HostProgram {
    nodes: Vec<HostNode>,
    /// The nodes again, in the groups that run without a barrier inside.
    steps: Vec<Step>,
    /// The threads that run it: those for prompts or those for decode.
    pool: Arc<ThreadPool>,
    /// Keeps every address in `nodes` valid.
    _buffers: Vec<Arc<HostBuffer>>,
}

// SAFETY: the addresses point into buffers that the program holds; `HostBuffer` is `Send + Sync`.
unsafe impl Send for HostProgram {}

/// What scratch is made of: kernels load it in vectors that must not straddle lines.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

const _: () = assert!(align_of::<CacheLine>() >= matmul::SCRATCH_ALIGN);

/// See the module.
pub(in crate::engine::backend) struct Executor {
    device: String,
    threads: Threads,
    isa: Isa,
    scratch: Vec<CacheLine>,
    next_ticket: u64,
    intervals: VecDeque<Interval>,
}

/// Whether the host has a kernel for `op` on operands of these types.
pub(in crate::engine::backend) fn host_supports(op: &Op, src: &[DType]) -> Result<(), String> {
    let f32_at = |indices: &[usize]| match indices.iter().find(|&&i| src[i] != DType::F32) {
        None => Ok(()),
        Some(&i) => Err(format!("operand {i} is {}, not F32", src[i])),
    };
    match op {
        Op::GetRows => Ok(()),
        Op::MulMat
        | Op::MulMatId
        | Op::FlashAttn { .. }
        | Op::SetRows
        | Op::ExpertWeights { .. } => {
            f32_at(&[usize::from(matches!(op, Op::MulMat | Op::MulMatId))])
        }
        Op::Rope(_) | Op::Scale { .. } | Op::SoftMax | Op::TopK { .. } => f32_at(&[0]),
        Op::Concat => f32_at(&(0..src.len()).collect::<Vec<_>>()),
        Op::RmsNorm { .. } | Op::Add | Op::Mul | Op::Glu(_) | Op::ExpertSum => f32_at(&[0, 1]),
    }
}

impl Executor {
    pub(in crate::engine::backend) fn new(device: String, threads: Threads) -> Self {
        Self {
            device,
            threads,
            isa: Isa::detect(),
            scratch: Vec::new(),
            next_ticket: 0,
            intervals: VecDeque::new(),
        }
    }

    pub(in crate::engine::backend) fn scratch_bytes(&self) -> usize {
        self.scratch.len() * size_of::<CacheLine>()
    }

    /// Checks every tensor against its buffer and every operation against the kernels.
    pub(in crate::engine::backend) fn compile(
        &mut self,
        buffers: &HostBuffers,
        nodes: &[BoundNode],
        n_tokens: usize,
    ) -> Result<Program, DeviceError> {
        let mut held: Vec<Arc<HostBuffer>> = Vec::new();
        let mut place = |tensor: &BoundTensor, what: String, write: bool| {
            let found = buffers.resolve(tensor, write);
            let (ptr, buffer) = found.map_err(|problem| DeviceError::Bounds {
                device: self.device.clone(),
                what,
                problem,
            })?;
            if !held.iter().any(|b| Arc::ptr_eq(b, &buffer)) {
                held.push(buffer);
            }
            Ok::<_, DeviceError>(TensorRef {
                ptr,
                dtype: tensor.dtype,
                ne: tensor.ne,
                nb: tensor.nb,
            })
        };
        let mut checked: Vec<HostNode> = Vec::with_capacity(nodes.len());
        for (n, node) in nodes.iter().enumerate() {
            let types: Vec<DType> = node.src.iter().map(|s| s.dtype).collect();
            host_supports(&node.op, &types).map_err(|reason| DeviceError::Unsupported {
                device: self.device.clone(),
                op: node.op.name(),
                reason,
            })?;
            let name = node.op.name();
            let src = node.src.iter().enumerate();
            let src = src
                .map(|(i, s)| place(s, format!("operand {i} of node {n} ({name})"), false))
                .collect::<Result<Vec<_>, _>>()?;
            let dst = place(&node.dst, format!("the result of node {n} ({name})"), true)?;
            let mut next = HostNode { op: node.op, src, dst, x_is_ready: false };
            next.x_is_ready = shares_activations(&checked, &next);
            checked.push(next);
        }
        let pool = Arc::clone(self.threads.for_tokens(n_tokens));
        let workers = pool.threads();
        let need = checked.iter().map(|n| scratch_bytes(n, workers)).max().unwrap_or(0);
        if need > self.scratch_bytes() {
            self.scratch = vec![CacheLine::zeroed(); need.div_ceil(size_of::<CacheLine>())];
        }
        let steps = steps_of(&checked);
        Ok(Program(Box::new(HostProgram { nodes: checked, steps, pool, _buffers: held })))
    }

    /// Runs a program to its end.
    pub(in crate::engine::backend) fn submit(
        &mut self,
        program: &Program,
        nodes: Option<&mut Vec<Interval>>,
    ) -> Result<Ticket, DeviceError> {
        let Some(program) = program.0.downcast_ref::<HostProgram>() else {
            return Err(DeviceError::Bounds {
                device: self.device.clone(),
                what: "the program".to_string(),
                problem: "it was compiled for another kind of device".to_string(),
            });
        };
        let start_ns = now_ns();
        let scratch: &mut [u8] = bytemuck::cast_slice_mut(&mut self.scratch);
        let scratch = Scratch(scratch);
        match nodes {
            None => self.run(&program.pool, &program.nodes, &program.steps, scratch)?,
            Some(times) => {
                // One by one, or else there would be nothing to time.
                for index in 0..program.nodes.len() {
                    let start_ns = now_ns();
                    let alone = [Step::alone(index)];
                    self.run(&program.pool, &program.nodes, &alone, scratch)?;
                    times.push(Interval { start_ns, end_ns: now_ns() });
                }
            }
        }
        if self.intervals.len() == TICKETS_KEPT {
            self.intervals.pop_front();
        }
        self.intervals.push_back(Interval { start_ns, end_ns: now_ns() });
        self.next_ticket += 1;
        Ok(Ticket(self.next_ticket - 1))
    }

    /// Runs nodes; a kernel that panics is an error, and the pool stays usable.
    fn run(
        &self,
        pool: &ThreadPool,
        nodes: &[HostNode],
        steps: &[Step],
        scratch: Scratch,
    ) -> Result<(), DeviceError> {
        let job = AssertUnwindSafe(|| run(pool, self.isa, nodes, steps, scratch));
        catch_unwind(job).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let reason = text.unwrap_or("a worker panicked").to_string();
            DeviceError::Kernel { device: self.device.clone(), reason }
        })
    }

    pub(in crate::engine::backend) fn interval(&self, ticket: Ticket) -> Option<Interval> {
        let oldest = self.next_ticket - self.intervals.len() as u64;
        self.intervals.get(ticket.0.checked_sub(oldest)? as usize).copied()
    }
}

/// The scratch memory that all workers of a job share.
#[derive(Clone, Copy)]
struct Scratch(*mut [u8]);

// SAFETY: kernels divide the scratch among the workers as they divide the result.
unsafe impl Sync for Scratch {}

/// Bytes of scratch that a node needs.
fn scratch_bytes(node: &HostNode, threads: usize) -> usize {
    let ne = |i: usize| node.src[i].ne;
    let dtype = node.src[0].dtype;
    match node.op {
        Op::MulMat => matmul::mul_mat_scratch_bytes(dtype, ne(0)[0], ne(1)[1], threads),
        Op::MulMatId => {
            let [n_used, t, ..] = ne(2);
            let [k, _, n_expert, _] = ne(0);
            let x_rows = ne(1)[1];
            matmul::mul_mat_id_scratch_bytes(dtype, k, x_rows, n_expert, n_used, t, threads)
        }
        Op::FlashAttn { .. } => {
            let ([d, n_head, t, _], [_, n_kv, n_head_kv, _], dv) = (ne(0), ne(1), ne(2)[0]);
            flash_attn_scratch_bytes(d, dv, n_head, n_head_kv, n_kv, t, threads)
        }
        _ => 0,
    }
}

fn run(pool: &ThreadPool, isa: Isa, nodes: &[HostNode], steps: &[Step], scratch: Scratch) {
    pool.run(&|wk: &Worker| {
        let mut angles = rope::RopeAngles::default();
        for step in steps {
            // Borrowing the whole struct keeps the closure `Sync`.
            let scratch = &scratch;
            let nodes = &nodes[step.nodes.clone()];
            // SAFETY: `compile` checked every tensor against its buffer, results lie in writable
            // memory, the arena keeps live tensors apart, `&mut` of the device keeps others out,
            // the scratch was sized for the largest node, and `steps_of` groups only nodes that
            // may run by rows.
            unsafe {
                match nodes {
                    [node] => execute(wk, isa, node, scratch.0, &mut angles),
                    _ => execute_together(wk, isa, nodes, step, scratch.0),
                }
            }
            wk.barrier();
        }
    });
}

/// Runs the nodes of a step: products of the same activations, the norm that makes these, if it is
/// part of the step, and what follows by rows.
///
/// # Safety
/// As [`execute`] for each node; the nodes are those of `step`, which is one of [`steps_of`].
unsafe fn execute_together(
    wk: &Worker,
    isa: Isa,
    nodes: &[HostNode],
    step: &Step,
    scratch: *mut [u8],
) {
    let (norms, nodes) = nodes.split_at(usize::from(step.norm));
    let (products, followers) = nodes.split_at(step.products);
    let x = products[0].src[1];
    for norm in norms {
        // SAFETY: passed on; `steps_of` found that the norm makes `x`, which is quantised.
        unsafe { normalise(wk, isa, norm, scratch.cast()) };
        wk.barrier();
    }
    let outputs: Vec<_> = products.iter().map(|p| (p.src[0], p.dst)).collect();
    let then = |rows: Range<usize>| {
        for node in followers {
            // SAFETY: the followers' operands are results of these rows, or were ready before.
            unsafe {
                elementwise::on_columns(isa, &node.op, node.src[0], node.src[1], node.dst, &rows);
            }
        }
    };
    let together = !followers.is_empty();
    let ready = step.norm || products[0].x_is_ready;
    // SAFETY: passed on.
    unsafe { matmul::mul_mats(wk, isa, &outputs, x, scratch.cast(), ready, together, &then) }
}

/// Makes rows of activations and quantises each while it is in the cache.
///
/// # Safety
/// As [`execute`] for `norm`; the scratch has room for its result as quantised activations.
unsafe fn normalise(wk: &Worker, isa: Isa, norm: &HostNode, scratch: *mut u8) {
    let Op::RmsNorm { eps } = norm.op else { return };
    for row in wk.share(norm.dst.rows(), 1) {
        // SAFETY: passed on; shares do not overlap.
        unsafe {
            norm::rms_norm_row(isa, norm.src[0], norm.src[1], norm.dst, eps, row);
            matmul::prepare_row(isa, norm.dst, row, scratch);
        }
    }
}

/// Runs one node on this worker.
///
/// # Safety
/// The contract of [`super::kernels`] for every tensor of the node; `scratch` holds
/// [`scratch_bytes`].
unsafe fn execute(
    wk: &Worker,
    isa: Isa,
    node: &HostNode,
    scratch: *mut [u8],
    angles: &mut rope::RopeAngles,
) {
    let (src, dst, ready) = (&node.src, node.dst, node.x_is_ready);
    // SAFETY: the caller vouches for the node; the operand counts were checked when the graph was
    // built.
    unsafe {
        match node.op {
            Op::GetRows => rows::get_rows(wk, isa, src[0], src[1], dst),
            Op::MulMat => matmul::mul_mat(wk, isa, src[0], src[1], dst, scratch.cast(), ready),
            Op::MulMatId => {
                matmul::mul_mat_id(wk, isa, src[0], src[1], src[2], dst, scratch.cast(), ready);
            }
            Op::RmsNorm { eps } => norm::rms_norm(wk, isa, src[0], src[1], dst, eps),
            Op::Rope(ref p) => {
                rope::rope(wk, isa, src[0], src[1], src.get(2).copied(), dst, p, angles);
            }
            Op::SetRows => rows::set_rows(wk, isa, src[0], src[1], dst),
            Op::FlashAttn { scale, softcap } => flash_attn::flash_attn(
                wk, isa, src[0], src[1], src[2], src[3], dst, scale, softcap, scratch,
            ),
            Op::Add => elementwise::add(wk, isa, src[0], src[1], dst),
            Op::Mul => elementwise::mul(wk, isa, src[0], src[1], dst),
            Op::Scale { factor } => elementwise::scale(wk, isa, src[0], dst, factor),
            Op::Glu(kind) => elementwise::glu(wk, isa, kind, src[0], src[1], dst),
            Op::SoftMax => norm::soft_max(wk, isa, src[0], dst),
            Op::TopK { .. } => top_k::top_k(wk, isa, src[0], dst),
            Op::ExpertWeights { normalise } => {
                experts::expert_weights(wk, src[0], src[1], dst, normalise);
            }
            Op::ExpertSum => experts::expert_sum(wk, isa, src[0], src[1], dst),
            Op::Concat => rows::concat(wk, src, dst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::backend::device::BufferId;
    use crate::engine::graph::GluKind;
    use crate::engine::tensor::quantize_vec;

    const WIDTH: usize = 64;
    const ROWS: usize = 5;

    fn tensor(buffer: BufferId, offset: usize, dtype: DType, rows: usize) -> BoundTensor {
        let row = dtype.row_bytes(WIDTH).unwrap();
        let nb = [dtype.block_bytes(), row, row * rows, row * rows];
        BoundTensor { buffer, offset, dtype, ne: [WIDTH, rows, 1, 1], nb }
    }

    /// Products whose activations differ, or only lie elsewhere, must not share their rounding.
    #[test]
    fn activations_are_reused_only_for_the_same_operand() {
        let mut buffers = HostBuffers::default();
        let weights: Vec<f32> = (0..WIDTH * ROWS).map(|i| (i as f32 * 0.37).sin()).collect();
        let quantised = quantize_vec(DType::Q8_0, &weights).unwrap();
        let x: Vec<f32> = (0..2 * WIDTH).map(|i| (i as f32 * 0.11).cos()).collect();
        let (w, memory) = (buffers.alloc(quantised.len()).unwrap(), buffers.alloc(4096).unwrap());
        buffers.bytes_mut(w).unwrap().copy_from_slice(&quantised);
        let x_bytes: &[u8] = bytemuck::cast_slice(&x);
        buffers.bytes_mut(memory).unwrap()[..x_bytes.len()].copy_from_slice(x_bytes);
        let product = |x: usize, slot: usize| {
            let mut dst = tensor(memory, 1024 + 256 * slot, DType::F32, 1);
            dst.ne[0] = ROWS;
            let src =
                vec![tensor(w, 0, DType::Q8_0, ROWS), tensor(memory, x * WIDTH * 4, DType::F32, 1)];
            BoundNode { op: Op::MulMat, src, dst }
        };
        let mut executor = Executor::new("CPU".to_string(), Threads::new(2, 2));
        let nodes = [product(0, 0), product(0, 1), product(1, 2), product(0, 3)];
        let program = executor.compile(&buffers, &nodes, 1).unwrap();
        let flags = program.0.downcast_ref::<HostProgram>().unwrap();
        let ready: Vec<bool> = flags.nodes.iter().map(|n| n.x_is_ready).collect();
        assert_eq!(ready, [false, true, false, false]);
        executor.submit(&program, None).unwrap();
        for (slot, which) in [0, 0, 1, 0].into_iter().enumerate() {
            let at = 1024 + 256 * slot;
            let bytes = &buffers.bytes(memory).unwrap()[at..at + 4 * ROWS];
            for (row, value) in bytemuck::cast_slice::<u8, f32>(bytes).iter().enumerate() {
                let exact: f32 =
                    (0..WIDTH).map(|i| weights[row * WIDTH + i] * x[which * WIDTH + i]).sum();
                assert!(
                    (value - exact).abs() < 0.2,
                    "slot {slot}, row {row}: {value}, not {exact}"
                );
            }
        }
    }

    /// Steps are an optimisation: node by node, every tensor must come out the same, bit for bit.
    #[test]
    fn running_together_changes_no_bit() {
        for dtype in [DType::Q8_0, DType::F32] {
            for t in [1, 9] {
                let [together, alone] = [false, true].map(|timed| feed_forward(dtype, t, timed));
                assert_eq!(together, alone, "{dtype}, {t} tokens");
            }
        }
    }

    /// The memory that norm, gate, up, gated unit, down and residual leave behind.
    fn feed_forward(dtype: DType, t: usize, timed: bool) -> Vec<u8> {
        const INNER: usize = 160;
        let mut buffers = HostBuffers::default();
        let mut weights = |seed: usize| {
            let values = (0..WIDTH * INNER).map(|i| ((i * 31 + seed) as f32 * 0.37).sin());
            let bytes = quantize_vec(dtype, &values.collect::<Vec<_>>()).unwrap();
            let buffer = buffers.alloc(bytes.len()).unwrap();
            buffers.bytes_mut(buffer).unwrap().copy_from_slice(&bytes);
            buffer
        };
        let [gate, up, down] = [weights(1), weights(2), weights(3)];
        let memory = buffers.alloc(64 << 10).unwrap();
        let x: Vec<f32> = (0..WIDTH * t).map(|i| (i as f32 * 0.11).cos()).collect();
        let bytes: &[u8] = bytemuck::cast_slice(&x);
        buffers.bytes_mut(memory).unwrap()[..bytes.len()].copy_from_slice(bytes);
        let matrix = |buffer, k: usize, n: usize| {
            let row = dtype.row_bytes(k).unwrap();
            let nb = [dtype.block_bytes(), row, row * n, row * n];
            BoundTensor { buffer, offset: 0, dtype, ne: [k, n, 1, 1], nb }
        };
        let rows = |slot: usize, n: usize| {
            let nb = [4, 4 * n, 4 * n * t, 4 * n * t];
            let dtype = DType::F32;
            BoundTensor { buffer: memory, offset: slot * (8 << 10), dtype, ne: [n, t, 1, 1], nb }
        };
        let (x, normed) = (rows(0, WIDTH), rows(6, WIDTH));
        let mut scale = rows(0, WIDTH);
        scale.ne[1] = 1;
        let node = |op, src: [BoundTensor; 2], dst| BoundNode { op, src: src.to_vec(), dst };
        let (wide, out) = ([rows(1, INNER), rows(2, INNER)], rows(4, WIDTH));
        let nodes = [
            node(Op::RmsNorm { eps: 1e-5 }, [x, scale], normed),
            node(Op::MulMat, [matrix(gate, WIDTH, INNER), normed], wide[0]),
            node(Op::MulMat, [matrix(up, WIDTH, INNER), normed], wide[1]),
            node(Op::Glu(GluKind::Silu), wide, rows(3, INNER)),
            node(Op::MulMat, [matrix(down, INNER, WIDTH), rows(3, INNER)], out),
            node(Op::Add, [out, x], rows(5, WIDTH)),
        ];
        let mut executor = Executor::new("CPU".to_string(), Threads::new(2, 2));
        let program = executor.compile(&buffers, &nodes, t).unwrap();
        let host = program.0.downcast_ref::<HostProgram>().unwrap();
        assert_eq!(host.steps.len(), if dtype.is_quantised() { 2 } else { 3 });
        executor.submit(&program, timed.then_some(&mut Vec::new())).unwrap();
        buffers.bytes(memory).unwrap().to_vec()
    }

    #[test]
    fn what_the_host_cannot_run_is_refused_when_it_is_compiled() {
        let mut buffers = HostBuffers::default();
        let memory = buffers.alloc(4096).unwrap();
        let half = tensor(memory, 0, DType::F16, 1);
        let node = BoundNode {
            op: Op::Add,
            src: vec![half, half],
            dst: tensor(memory, 1024, DType::F32, 1),
        };
        let mut executor = Executor::new("CPU".to_string(), Threads::new(1, 1));
        let Err(error) = executor.compile(&buffers, &[node], 1) else { panic!("F16 has no ADD") };
        assert_eq!(error.to_string(), "CPU cannot run ADD: operand 0 is F16, not F32");
    }
}
