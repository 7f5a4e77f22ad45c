//! A GPU as the scheduler sees it.
//!
//! Work runs behind the host in one stream, in the order in which it was asked for; so what one call
//! writes, the next one reads, without a wait between them. Invariant: host memory that was handed
//! in is not read after a call returns, and an interval is told only once the device has reached its
//! end.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::engine::backend::device::{
    AllocError, BoundNode, BoundTensor, BufferId, Device, DeviceError, DeviceInfo, DeviceKind,
    Interval, MemoryState, Program, Ticket,
};
use crate::engine::backend::host_memory::ForeignBytes;
use crate::engine::graph::Op;
use crate::engine::tensor::DType;

use super::buffers::DeviceBuffers;
use super::clock::DeviceClock;
use super::driver::{Context, CudaError, DeviceEvent, DeviceMemory, Stream};
use super::kernels::{Kernels, NoKernel};
use super::launch::{self, Operand, ScratchPlan};
use super::program::{CudaProgram, Replay, Step};
use super::staging::Staging;

/// How many of the latest tickets are remembered; a graph has far fewer splits and copies.
const TICKETS_KEPT: usize = 4096;

/// The oldest GPUs that kernels are built for: Turing.
const COMPUTE_CAPABILITY_MIN: (u32, u32) = (7, 5);

/// Batches from this size on are worth moving a host weight for, as in ggml's CUDA backend.
const OFFLOAD_MIN_BATCH: usize = 32;

/// What the driver takes for compiled kernels and graphs, left free when layers are fitted; on small
/// devices their 32nd part.
const HEADROOM_BYTES: u64 = 256 << 20;

/// Set to anything but 0, it keeps decode from being captured into CUDA graphs.
const NO_GRAPHS: &str = "GPUWHY_NO_CUDA_GRAPHS";

/// See the module.
pub struct CudaDevice {
    info: DeviceInfo,
    buffers: DeviceBuffers,
    scratch: Option<Arc<DeviceMemory>>,
    kernels: Kernels,
    staging: Staging,
    clock: DeviceClock,
    events: Vec<DeviceEvent>,
    pending: Vec<(Ticket, DeviceEvent, DeviceEvent)>,
    intervals: VecDeque<Option<Interval>>,
    next_ticket: u64,
    graphs: bool,
    stream: Stream,
    context: Arc<Context>,
}

impl CudaDevice {
    /// Opens the `index`-th GPU. The driver must have been found.
    ///
    /// # Errors
    /// When the driver fails, or the GPU is older than the kernels.
    pub(super) fn open(index: usize, driver_version: i32) -> Result<Self, DeviceError> {
        let name = format!("CUDA{index}");
        let failed = |source| DeviceError::Driver {
            device: name.clone(),
            doing: "opening the GPU".to_string(),
            source: Box::new(source),
        };
        let context = Context::open(index).map_err(failed)?;
        let (major, minor) = context.traits.compute_capability;
        if (major, minor) < COMPUTE_CAPABILITY_MIN {
            let reason = format!(
                "{} has compute capability {major}.{minor}; the kernels need {}.{}",
                context.name, COMPUTE_CAPABILITY_MIN.0, COMPUTE_CAPABILITY_MIN.1
            );
            return Err(DeviceError::Unusable { device: name, reason });
        }
        let stream = Stream::new(&context).map_err(failed)?;
        let clock = DeviceClock::new(&context, &stream).map_err(failed)?;
        let description = format!(
            "{}, compute capability {major}.{minor}, {} multiprocessors, driver for CUDA {}.{}",
            context.name,
            context.traits.multiprocessors,
            driver_version / 1000,
            driver_version % 1000 / 10
        );
        let graphs = std::env::var(NO_GRAPHS).is_ok_and(|v| v != "0");
        Ok(Self {
            info: DeviceInfo { name, description, kind: DeviceKind::Cuda },
            buffers: DeviceBuffers::default(),
            scratch: None,
            kernels: Kernels::new(&context, driver_version),
            staging: Staging::new(&context),
            clock,
            events: Vec::new(),
            pending: Vec::new(),
            intervals: VecDeque::new(),
            next_ticket: 0,
            graphs: !graphs,
            stream,
            context,
        })
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn failed(&self, doing: &str) -> impl Fn(CudaError) -> DeviceError + use<> {
        let (device, doing) = (self.info.name.clone(), doing.to_string());
        move |source| DeviceError::Driver {
            device: device.clone(),
            doing: doing.clone(),
            source: Box::new(source),
        }
    }

    pub(super) fn range(
        &self,
        (buffer, offset): (BufferId, usize),
        bytes: usize,
    ) -> Result<u64, DeviceError> {
        self.buffers.range(buffer, offset, bytes).ok_or_else(|| DeviceError::Bounds {
            device: self.info.name.clone(),
            what: format!("a copy of {bytes} bytes"),
            problem: "the range leaves the buffer".to_string(),
        })
    }

    fn short_of(&self, what: &str, bytes: usize) -> AllocError {
        let memory = self.memory();
        AllocError {
            device: self.info.name.clone(),
            what: what.to_string(),
            wanted_bytes: bytes as u64,
            free_bytes: memory.free_bytes,
            total_bytes: memory.total_bytes,
        }
    }

    /// An allocation that failed: for want of memory, or of a working device.
    fn not_allocated(&self, what: &str, bytes: usize, error: CudaError) -> DeviceError {
        if error.is_out_of_memory() {
            return self.short_of(what, bytes).into();
        }
        self.failed(&format!("allocating {what}"))(error)
    }

    /// Marks this point of the stream with an event of the pool.
    fn mark(&mut self) -> Result<DeviceEvent, CudaError> {
        let event = match self.events.pop() {
            Some(event) => event,
            None => DeviceEvent::new(&self.context)?,
        };
        self.stream.record(&event)?;
        Ok(event)
    }

    /// Prepares this thread for calls, and the clock for what will be timed.
    fn enter(&mut self) -> Result<(), CudaError> {
        self.context.enter()?;
        if self.pending.is_empty() {
            self.clock.refresh(&self.context, &self.stream)?;
        }
        Ok(())
    }

    /// A ticket for what the stream did since `begin`.
    fn ticket(&mut self, begin: DeviceEvent) -> Result<Ticket, CudaError> {
        let end = self.mark()?;
        if self.intervals.len() == TICKETS_KEPT {
            self.intervals.pop_front();
        }
        self.intervals.push_back(None);
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.pending.push((ticket, begin, end));
        Ok(ticket)
    }

    fn slot_of(&self, ticket: Ticket) -> Option<usize> {
        let oldest = self.next_ticket - self.intervals.len() as u64;
        Some(ticket.0.checked_sub(oldest)? as usize)
    }

    /// Waits for the stream and learns the times of everything in it.
    fn drain(&mut self) -> Result<(), CudaError> {
        self.context.enter()?;
        self.stream.synchronize()?;
        for (ticket, begin, end) in std::mem::take(&mut self.pending) {
            let start_ns = self.clock.time_ns(&begin)?;
            let interval = Interval { start_ns, end_ns: start_ns + end.since(&begin)? };
            if let Some(slot) = self.slot_of(ticket).and_then(|at| self.intervals.get_mut(at)) {
                *slot = Some(interval);
            }
            self.events.extend([begin, end]);
        }
        Ok(())
    }

    /// Puts work into the stream and times it.
    pub(super) fn timed(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), CudaError>,
    ) -> Result<Ticket, CudaError> {
        self.enter()?;
        let begin = self.mark()?;
        work(self)?;
        self.ticket(begin)
    }

    /// Nodes one by one with a mark between them. Waits for the end.
    fn run_marked(
        &mut self,
        program: &CudaProgram,
        times: &mut Vec<Interval>,
    ) -> Result<Ticket, CudaError> {
        self.enter()?;
        let mut marks = vec![self.mark()?];
        for node in &program.nodes {
            program.run_node(&self.stream, node.clone())?;
            marks.push(self.mark()?);
        }
        let ticket = {
            let begin = self.mark()?;
            self.ticket(begin)?
        };
        self.drain()?;
        for pair in marks.windows(2) {
            let start_ns = self.clock.time_ns(&pair[0])?;
            times.push(Interval { start_ns, end_ns: start_ns + pair[1].since(&pair[0])? });
        }
        let whole = times.first().zip(times.last());
        let whole = whole.map(|(a, b)| Interval { start_ns: a.start_ns, end_ns: b.end_ns });
        if let (Some(at), Some(whole)) = (self.slot_of(ticket), whole) {
            self.intervals[at] = Some(whole);
        }
        self.events.extend(marks);
        Ok(ticket)
    }

    /// Plans the launches of all nodes.
    fn plan(
        &self,
        nodes: &[(Op, Vec<Operand>, Operand)],
        scratch: &mut ScratchPlan,
    ) -> Result<(Vec<launch::Launch>, Vec<Range<usize>>), DeviceError> {
        let (mut launches, mut ranges) = (Vec::new(), Vec::with_capacity(nodes.len()));
        for (op, src, dst) in nodes {
            let first = launches.len();
            scratch.begin_node();
            launch::plan(op, src, dst, &self.context.traits, scratch, &mut launches).map_err(
                |reason| {
                    let device = self.info.name.clone();
                    DeviceError::Unsupported { device, op: op.name(), reason }
                },
            )?;
            scratch.end_node(dst);
            ranges.push(first..launches.len());
        }
        Ok((launches, ranges))
    }

    /// Finds the kernel of each launch; compiles those that are new. `written`: what the nodes write, if
    /// launches may overlap. The first one never does: what ran before it is not known here.
    fn with_functions(
        &mut self,
        planned: Vec<launch::Launch>,
        written: Option<&[Range<u64>]>,
    ) -> Result<Vec<Step>, DeviceError> {
        let mut launches: Vec<Step> = Vec::with_capacity(planned.len());
        for launch in planned {
            let function = self.kernels.get(launch.kernel, launch.shared_bytes);
            let function = function.map_err(|e| match e {
                NoKernel::Driver(e) => {
                    self.failed(&format!("compiling kernel {}", launch.kernel))(e)
                }
                NoKernel::NotBuilt { .. } => {
                    DeviceError::Kernel { device: self.info.name.clone(), reason: e.to_string() }
                }
            })?;
            let is_constant = |read: &Range<u64>| {
                let writes = written.unwrap_or_default();
                writes.iter().all(|w| w.end <= read.start || read.end <= w.start)
            };
            let overlaps = written.is_some()
                && function.can_overlap()
                && !launches.is_empty()
                && launch::read_before_the_wait(&launch).iter().all(is_constant);
            launches.push(Step { function, launch, overlaps });
        }
        Ok(launches)
    }

    fn scratch_of(&mut self, bytes: usize) -> Result<Arc<DeviceMemory>, DeviceError> {
        if let Some(have) = self.scratch.as_ref().filter(|s| s.bytes() >= bytes) {
            return Ok(Arc::clone(have));
        }
        let what = "the kernels' scratch memory";
        self.scratch = None;
        let made = DeviceMemory::alloc(&self.context, bytes);
        let made = made.map_err(|e| self.not_allocated(what, bytes, e))?;
        Ok(Arc::clone(self.scratch.insert(Arc::new(made))))
    }
}

impl Device for CudaDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn memory(&self) -> MemoryState {
        // A device that no longer answers has nothing to give; the next call says why.
        let free_bytes = self.context.free_bytes().unwrap_or(0);
        MemoryState { total_bytes: self.context.total_bytes, free_bytes }
    }

    fn headroom_bytes(&self) -> u64 {
        HEADROOM_BYTES.min(self.context.total_bytes / 32)
    }

    fn supports(&self, op: &Op, src: &[DType]) -> Result<(), String> {
        launch::supports(op, src)
    }

    fn offloads(&self, op: &Op, batch: usize) -> bool {
        *op != Op::GetRows && batch >= OFFLOAD_MIN_BATCH
    }

    fn alloc(&mut self, bytes: usize, what: &str) -> Result<BufferId, DeviceError> {
        let id = self.buffers.alloc(&self.context, bytes);
        let id = id.map_err(|e| self.not_allocated(what, bytes, e))?;
        if let Some(address) = self.buffers.range(id, 0, bytes).filter(|_| bytes > 0) {
            // SAFETY: the range is a live buffer, which is freed only after the stream's work.
            unsafe { self.stream.zero(address, bytes) }.map_err(self.failed("clearing memory"))?;
        }
        Ok(id)
    }

    fn adopt(&mut self, _bytes: ForeignBytes) -> Option<BufferId> {
        None
    }

    fn free(&mut self, buffer: BufferId) {
        self.buffers.free(buffer);
    }

    fn free_all(&mut self) {
        self.buffers.free_all();
        self.scratch = None;
    }

    fn write(&mut self, buffer: BufferId, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let address = self.range((buffer, offset), bytes.len())?;
        let failed = self.failed("copying to the GPU");
        self.context.enter().map_err(&failed)?;
        // SAFETY: the range was just checked; the buffer is freed only after the stream's work.
        unsafe { self.staging.copy_in(&self.stream, address, bytes) }.map_err(failed)
    }

    fn read(&mut self, buffer: BufferId, offset: usize, out: &mut [u8]) -> Result<(), DeviceError> {
        let address = self.range((buffer, offset), out.len())?;
        let failed = self.failed("copying from the GPU");
        self.context.enter().map_err(&failed)?;
        // SAFETY: the range was just checked.
        unsafe { self.staging.copy_out(&self.stream, address, out) }.map_err(failed)
    }

    fn copy_in(
        &mut self,
        (buffer, offset): (BufferId, usize),
        bytes: &[u8],
    ) -> Result<Option<Ticket>, DeviceError> {
        let address = self.range((buffer, offset), bytes.len())?;
        // SAFETY: the range was just checked; the buffer is freed only after the stream's work.
        let work = |d: &mut Self| unsafe { d.staging.copy_in(&d.stream, address, bytes) };
        self.timed(work).map(Some).map_err(self.failed("copying to the GPU"))
    }

    fn copy_peer(
        &mut self,
        to: (BufferId, usize),
        from: &mut dyn Device,
        source: (BufferId, usize),
        bytes: usize,
    ) -> Result<Option<Ticket>, DeviceError> {
        let Some(from) = (from as &mut dyn Any).downcast_mut::<Self>() else { return Ok(None) };
        let (to, source) = (self.range(to, bytes)?, from.range(source, bytes)?);
        let failed = self.failed(&format!("copying from {}", from.info.name));
        // The copy begins when its source was computed, and the source may be overwritten only after
        // the copy: each stream waits for the other's mark, the host for neither.
        from.context.enter().map_err(&failed)?;
        let computed = from.mark().map_err(&failed)?;
        self.enter().map_err(&failed)?;
        self.stream.wait(&computed).map_err(&failed)?;
        // SAFETY: both ranges were just checked, and each buffer is freed only after the work of its
        // device's stream, which waits for the copy.
        let work = |d: &mut Self| unsafe { d.stream.copy_peer(to, &from.context, source, bytes) };
        let ticket = self.timed(work).map_err(&failed)?;
        let copied = self.mark().map_err(&failed)?;
        from.context.enter().map_err(&failed)?;
        from.stream.wait(&copied).map_err(&failed)?;
        from.events.push(computed);
        self.events.push(copied);
        Ok(Some(ticket))
    }

    fn reach(&mut self, other: &mut dyn Device) -> Result<Option<bool>, DeviceError> {
        let Some(other) = (other as &mut dyn Any).downcast_mut::<Self>() else { return Ok(None) };
        let failed = self.failed(&format!("asking whether it reaches {}", other.info.name));
        self.context.reach(&other.context).map(Some).map_err(failed)
    }

    fn compile(&mut self, nodes: &[BoundNode], _n_tokens: usize) -> Result<Program, DeviceError> {
        self.context.enter().map_err(self.failed("preparing a graph"))?;
        let mut memory: Vec<Arc<DeviceMemory>> = Vec::new();
        let mut place = |tensor: &BoundTensor, what: &dyn Fn() -> String| {
            let (operand, held) = self.buffers.resolve(tensor).map_err(|problem| {
                DeviceError::Bounds { device: self.info.name.clone(), what: what(), problem }
            })?;
            if !memory.iter().any(|m| Arc::ptr_eq(m, held)) {
                memory.push(Arc::clone(held));
            }
            Ok::<_, DeviceError>(operand)
        };
        let mut placed = Vec::with_capacity(nodes.len());
        for (n, node) in nodes.iter().enumerate() {
            let name = node.op.name();
            let src = node.src.iter().enumerate();
            let src = src
                .map(|(i, s)| place(s, &|| format!("operand {i} of node {n} ({name})")))
                .collect::<Result<Vec<_>, _>>()?;
            let dst = place(&node.dst, &|| format!("the result of node {n} ({name})"))?;
            placed.push((node.op, src, dst));
        }
        let mut measured = ScratchPlan::measuring();
        self.plan(&placed, &mut measured)?;
        let scratch = self.scratch_of(measured.bytes())?;
        let mut scratch_plan = ScratchPlan::placed(scratch.address(), &measured);
        let (planned, ranges) = self.plan(&placed, &mut scratch_plan)?;
        memory.push(scratch);
        let written: Vec<Range<u64>> = placed
            .iter()
            .map(|(_, _, dst)| dst.address..dst.address + dst.span_bytes() as u64)
            .collect();
        let fused = launch::fuse(&planned, &self.context.traits);
        let joined = self.with_functions(fused, Some(&written))?;
        let launches = self.with_functions(planned, None)?;
        let replay = Mutex::new(Replay::Launches(0));
        Ok(Program(Box::new(CudaProgram {
            joined,
            launches,
            nodes: ranges,
            _memory: memory,
            replay,
        })))
    }

    fn submit(
        &mut self,
        program: &Program,
        nodes: Option<&mut Vec<Interval>>,
    ) -> Result<Ticket, DeviceError> {
        let Some(program) = program.0.downcast_ref::<CudaProgram>() else {
            return Err(DeviceError::Bounds {
                device: self.info.name.clone(),
                what: "the program".to_string(),
                problem: "it was compiled for another kind of device".to_string(),
            });
        };
        let graphs = self.graphs;
        let ticket = match nodes {
            None => self.timed(|d| program.run(&d.stream, graphs)),
            Some(times) => self.run_marked(program, times),
        };
        ticket.map_err(self.failed("starting kernels"))
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        self.drain().map_err(self.failed("waiting for its work"))
    }

    fn interval(&self, ticket: Ticket) -> Option<Interval> {
        self.intervals.get(self.slot_of(ticket)?).copied().flatten()
    }

    fn scratch_needed(&self, nodes: &[BoundNode]) -> Result<usize, DeviceError> {
        let operand = |t: &BoundTensor| Operand {
            address: t.offset as u64,
            dtype: t.dtype,
            ne: t.ne,
            nb: t.nb,
        };
        let placed = |n: &BoundNode| (n.op, n.src.iter().map(operand).collect(), operand(&n.dst));
        let mut measured = ScratchPlan::measuring();
        self.plan(&nodes.iter().map(placed).collect::<Vec<_>>(), &mut measured)?;
        Ok(measured.bytes())
    }

    fn reserve_scratch(&mut self, bytes: usize) -> Result<(), DeviceError> {
        if bytes > 0 {
            self.context.enter().map_err(self.failed("setting scratch memory aside"))?;
            self.scratch_of(bytes)?;
        }
        Ok(())
    }

    fn scratch_bytes(&self) -> usize {
        self.scratch.as_ref().map_or(0, |s| s.bytes())
    }

    fn compile_ns(&self) -> u64 {
        self.kernels.compile_ns()
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        // Nothing may still run when memory and streams are given back. An error was told before, or
        // has nobody left to tell.
        if self.context.enter().is_ok() {
            let _ = self.stream.synchronize();
        }
    }
}
