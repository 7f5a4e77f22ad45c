//! The host's processor as a device.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::engine::backend::device::{
    AllocError, BoundNode, BufferId, Device, DeviceError, DeviceInfo, DeviceKind, Interval,
    MemoryState, Program, Ticket,
};
use crate::engine::backend::host_memory::{ForeignBytes, HostBuffers};
use crate::engine::graph::Op;
use crate::engine::tensor::DType;

use super::executor::{Executor, host_supports};
use super::isa::Isa;
use super::threads::Threads;

/// See the module.
pub struct CpuDevice {
    info: DeviceInfo,
    buffers: HostBuffers,
    executor: Executor,
}

impl CpuDevice {
    /// The processor, computing on `threads`.
    pub fn new(threads: Threads) -> Self {
        let cpu = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
        let system = System::new_with_specifics(cpu);
        let brand =
            system.ok().and_then(|s| s.cpus().first().map(|c| c.brand().trim().to_string()));
        let brand = brand.filter(|b| !b.is_empty()).unwrap_or_else(|| "processor".to_string());
        let description =
            format!("{brand}, {} threads, {} kernels", threads.decode.threads(), Isa::detect());
        let info = DeviceInfo { name: "CPU".to_string(), description, kind: DeviceKind::Cpu };
        let executor = Executor::new(info.name.clone(), threads);
        Self { info, buffers: HostBuffers::default(), executor }
    }

    fn bounds(&self, what: &str) -> DeviceError {
        DeviceError::Bounds {
            device: self.info.name.clone(),
            what: what.to_string(),
            problem: "the range leaves the buffer or the buffer is read-only".to_string(),
        }
    }
}

impl Device for CpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn memory(&self) -> MemoryState {
        host_memory()
    }

    fn supports(&self, op: &Op, src: &[DType]) -> Result<(), String> {
        host_supports(op, src)
    }

    fn alloc(&mut self, bytes: usize, what: &str) -> Result<BufferId, DeviceError> {
        let memory = self.memory();
        let error = AllocError {
            device: self.info.name.clone(),
            what: what.to_string(),
            wanted_bytes: bytes as u64,
            free_bytes: memory.free_bytes,
            total_bytes: memory.total_bytes,
        };
        // The system hands out more than it has and kills later, so the limit is checked here.
        if bytes as u64 > memory.free_bytes {
            return Err(error.into());
        }
        Ok(self.buffers.alloc(bytes).ok_or(error)?)
    }

    fn adopt(&mut self, bytes: ForeignBytes) -> Option<BufferId> {
        Some(self.buffers.adopt(bytes))
    }

    fn free(&mut self, buffer: BufferId) {
        self.buffers.free(buffer);
    }

    fn free_all(&mut self) {
        self.buffers.free_all();
    }

    fn write(&mut self, buffer: BufferId, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let error = self.bounds("a write");
        let target = self.buffers.bytes_mut(buffer).and_then(|b| b.get_mut(offset..));
        let target = target.and_then(|b| b.get_mut(..bytes.len())).ok_or(error)?;
        target.copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, buffer: BufferId, offset: usize, out: &mut [u8]) -> Result<(), DeviceError> {
        let source = self.buffers.bytes(buffer).and_then(|b| b.get(offset..));
        let source =
            source.and_then(|b| b.get(..out.len())).ok_or_else(|| self.bounds("a read"))?;
        out.copy_from_slice(source);
        Ok(())
    }

    fn host_bytes(&self, buffer: BufferId) -> Option<&[u8]> {
        self.buffers.bytes(buffer)
    }

    fn host_bytes_mut(&mut self, buffer: BufferId) -> Option<&mut [u8]> {
        self.buffers.bytes_mut(buffer)
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

/// The memory of the machine.
pub(super) fn host_memory() -> MemoryState {
    let ram = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    // Where the system does not tell, nothing is refused: the allocator decides.
    System::new_with_specifics(ram).map_or(
        MemoryState { total_bytes: 0, free_bytes: u64::MAX },
        |s| MemoryState { total_bytes: s.total_memory(), free_bytes: s.available_memory() },
    )
}
