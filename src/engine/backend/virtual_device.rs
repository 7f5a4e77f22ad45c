//! A device that models another one: memory and link of its own, arithmetic by the host.
//!
//! Its buffers count against a capacity and its copies take at least the time that the modelled
//! link would need; its kernels are the CPU's and run at the CPU's speed. So splits, copies,
//! overflow and multi-device layouts can be seen on any machine, while compute times say nothing
//! about a real GPU: every name and description says "virtual".

use std::time::Duration;

use crate::base::clock::now_ns;
use crate::base::units::{Bytes, BytesPerSecond};
use crate::engine::graph::Op;
use crate::engine::tensor::DType;

use super::cpu::{Executor, Threads, host_supports};
use super::device::{
    AllocError, BoundNode, BufferId, Device, DeviceError, DeviceInfo, DeviceKind, Interval,
    MemoryState, Program, Ticket,
};
use super::host_memory::{ForeignBytes, HostBuffers};
use super::spec::VirtualSpec;

/// Batches from this size on are worth moving a host weight for, as in ggml's CUDA backend.
const OFFLOAD_MIN_BATCH: usize = 32;

/// The last stretch of a modelled transfer is spun: sleeping overshoots by tens of microseconds.
const SPIN_NS: u64 = 100_000;

/// See the module.
pub struct VirtualDevice {
    info: DeviceInfo,
    spec: VirtualSpec,
    buffers: HostBuffers,
    executor: Executor,
}

impl VirtualDevice {
    /// The `index`-th virtual device of this session, computing on `threads`.
    pub fn new(index: usize, spec: VirtualSpec, threads: Threads) -> Self {
        let link = match spec.link_bytes_per_s {
            Some(rate) => format!("link modelled at {}", BytesPerSecond(rate)),
            None => "link as fast as host memory".to_string(),
        };
        let description = format!(
            "virtual device: {} of its own, {link}, computes on the CPU",
            Bytes(spec.capacity_bytes)
        );
        let name = format!("Virtual{index}");
        let info = DeviceInfo { name, description, kind: DeviceKind::Virtual };
        let executor = Executor::new(info.name.clone(), threads);
        Self { info, spec, buffers: HostBuffers::default(), executor }
    }

    /// Lets the modelled time of a transfer pass, counted from `start_ns`.
    fn travel(&self, start_ns: u64, bytes: usize) {
        let wire_ns = self.spec.link_bytes_per_s.map_or(0.0, |rate| bytes as f64 / rate * 1e9);
        let end_ns = start_ns + self.spec.link_latency_ns + wire_ns as u64;
        let left = end_ns.saturating_sub(now_ns());
        if left > SPIN_NS {
            std::thread::sleep(Duration::from_nanos(left - SPIN_NS));
        }
        while now_ns() < end_ns {
            std::hint::spin_loop();
        }
    }

    fn bounds(&self, what: &str) -> DeviceError {
        DeviceError::Bounds {
            device: self.info.name.clone(),
            what: what.to_string(),
            problem: "the range leaves the buffer".to_string(),
        }
    }
}

impl Device for VirtualDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn memory(&self) -> MemoryState {
        let total = self.spec.capacity_bytes;
        let free = total.saturating_sub(self.buffers.owned_bytes());
        MemoryState { total_bytes: total, free_bytes: free }
    }

    fn supports(&self, op: &Op, src: &[DType]) -> Result<(), String> {
        if self.spec.lacks.iter().any(|name| name == op.name()) {
            return Err(format!("{} was told to lack {}", self.info.name, op.name()));
        }
        host_supports(op, src)
    }

    fn offloads(&self, op: &Op, batch: usize) -> bool {
        *op != Op::GetRows && batch >= OFFLOAD_MIN_BATCH
    }

    fn alloc(&mut self, bytes: usize, what: &str) -> Result<BufferId, DeviceError> {
        let memory = self.memory();
        let error = || AllocError {
            device: self.info.name.clone(),
            what: what.to_string(),
            wanted_bytes: bytes as u64,
            free_bytes: memory.free_bytes,
            total_bytes: memory.total_bytes,
        };
        if bytes as u64 > memory.free_bytes {
            return Err(error().into());
        }
        let error = error();
        Ok(self.buffers.alloc(bytes).ok_or(error)?)
    }

    fn adopt(&mut self, _bytes: ForeignBytes) -> Option<BufferId> {
        None
    }

    fn free(&mut self, buffer: BufferId) {
        self.buffers.free(buffer);
    }

    fn free_all(&mut self) {
        self.buffers.free_all();
    }

    fn write(&mut self, buffer: BufferId, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let start = now_ns();
        let error = self.bounds("a write");
        let target = self.buffers.bytes_mut(buffer).and_then(|b| b.get_mut(offset..));
        let target = target.and_then(|b| b.get_mut(..bytes.len())).ok_or(error)?;
        target.copy_from_slice(bytes);
        self.travel(start, bytes.len());
        Ok(())
    }

    fn read(&mut self, buffer: BufferId, offset: usize, out: &mut [u8]) -> Result<(), DeviceError> {
        let start = now_ns();
        let source = self.buffers.bytes(buffer).and_then(|b| b.get(offset..));
        let source =
            source.and_then(|b| b.get(..out.len())).ok_or_else(|| self.bounds("a read"))?;
        out.copy_from_slice(source);
        self.travel(start, out.len());
        Ok(())
    }

    fn compile(&mut self, nodes: &[BoundNode], n_tokens: usize) -> Result<Program, DeviceError> {
        self.executor.compile(&self.buffers, nodes, n_tokens)
    }

    fn submit(
        &mut self,
        program: &Program,
        nodes: Option<&mut Vec<Interval>>,
    ) -> Result<Ticket, DeviceError> {
        self.executor.submit(program, nodes)
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn interval(&self, ticket: Ticket) -> Option<Interval> {
        self.executor.interval(ticket)
    }

    fn scratch_bytes(&self) -> usize {
        self.executor.scratch_bytes()
    }
}
