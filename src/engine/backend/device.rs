//! What the scheduler may ask of a device, and the errors it may get.
//!
//! The interface is made for devices that run behind the host: `submit` may return before the work
//! is done, `finish` waits for it, and `interval` then tells when it really ran. A device that runs
//! in step with the host, as the CPU does, finishes inside `submit`.

use std::any::Any;

use crate::base::clock::now_ns;
use crate::base::units::Bytes;
use crate::engine::graph::Op;
use crate::engine::tensor::DType;

use super::cuda::CudaError;
use super::host_memory::ForeignBytes;

/// What sort of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The host's processor.
    Cpu,
    /// A model of a device: its own memory and link, computing on the host's processor.
    Virtual,
    /// An NVIDIA GPU.
    Cuda,
}

/// What stays the same over a device's life.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// As ggml names it: `CPU`, `CUDA0`.
    pub name: String,
    /// What it is, in words.
    pub description: String,
    /// What sort of device it is.
    pub kind: DeviceKind,
}

/// A device's memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryState {
    /// All of it.
    pub total_bytes: u64,
    /// What an allocation could still get.
    pub free_bytes: u64,
}

/// A buffer of one device. Stale after [`Device::free`]: using it then is an error, not a read of
/// somebody else's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl BufferId {
    /// Memory that is not there yet, for [`Device::scratch_needed`].
    pub const PLANNED: Self = Self { slot: u32::MAX, generation: u32::MAX };
}

/// A tensor with its place in a buffer.
#[derive(Clone, Copy, Debug)]
pub struct BoundTensor {
    /// The buffer that holds it.
    pub buffer: BufferId,
    /// Bytes from the start of the buffer.
    pub offset: usize,
    /// Element type.
    pub dtype: DType,
    /// Extents in elements, `ne[0]` fastest.
    pub ne: [usize; 4],
    /// Strides in bytes.
    pub nb: [usize; 4],
}

impl BoundTensor {
    /// Bytes from the first to one past the last element; `None` when that overflows.
    pub(super) fn span_bytes(&self) -> Option<usize> {
        if self.ne.contains(&0) {
            return Some(0);
        }
        (1..4).try_fold(self.dtype.row_bytes(self.ne[0])?, |sum, i| {
            sum.checked_add((self.ne[i] - 1).checked_mul(self.nb[i])?)
        })
    }
}

/// A node whose tensors have their places.
#[derive(Clone, Debug)]
pub struct BoundNode {
    /// What it computes.
    pub op: Op,
    /// Operands, in the order that [`Op`] documents.
    pub src: Vec<BoundTensor>,
    /// Result.
    pub dst: BoundTensor,
}

/// Nodes checked and prepared for one device; only that device can run it.
pub struct Program(pub(super) Box<dyn Any + Send>);

/// A submission, to ask about later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub(super) u64);

/// When something ran, on [`crate::base::clock`]'s time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Start.
    pub start_ns: u64,
    /// End.
    pub end_ns: u64,
}

/// A buffer that a device could not provide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{device}: {what} needs {}, but only {} of {} are free: {} short",
    Bytes(*wanted_bytes), Bytes(*free_bytes), Bytes(*total_bytes),
    Bytes(wanted_bytes.saturating_sub(*free_bytes))
)]
pub struct AllocError {
    /// The device's name.
    pub device: String,
    /// What the buffer is for.
    pub what: String,
    /// Bytes asked for.
    pub wanted_bytes: u64,
    /// Bytes that were free.
    pub free_bytes: u64,
    /// All bytes of the device.
    pub total_bytes: u64,
}

/// What can go wrong on a device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It has not the memory.
    #[error(transparent)]
    Alloc(#[from] AllocError),
    /// A tensor does not lie in the buffer it names. A fault of the engine, not of its input.
    #[error("{device}: {what} does not fit its buffer: {problem}")]
    Bounds {
        /// The device's name.
        device: String,
        /// Which tensor.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// The device has no kernel for this.
    #[error("{device} cannot run {op}: {reason}")]
    Unsupported {
        /// The device's name.
        device: String,
        /// ggml's name of the operation.
        op: &'static str,
        /// Why not.
        reason: String,
    },
    /// A kernel panicked on a worker thread.
    #[error("{device}: a kernel failed: {reason}")]
    Kernel {
        /// The device's name.
        device: String,
        /// The panic's message.
        reason: String,
    },
    /// The device's driver failed.
    #[error("{device}: {doing}: {source}")]
    Driver {
        /// The device's name.
        device: String,
        /// What was being done.
        doing: String,
        /// The driver's answer.
        source: Box<CudaError>,
    },
    /// The device is there, but it cannot be used.
    #[error("{device} cannot be used: {reason}")]
    Unusable {
        /// The device's name.
        device: String,
        /// Why not.
        reason: String,
    },
}

impl DeviceError {
    /// What the person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Driver { source, .. } => Some(source.hint()),
            Self::Unusable { .. } => Some("-dev none uses the CPU alone"),
            _ => None,
        }
    }
}

/// A device that holds buffers and runs nodes.
pub trait Device: Any + Send {
    /// What stays the same over its life.
    fn info(&self) -> &DeviceInfo;

    /// Its memory now.
    fn memory(&self) -> MemoryState;

    /// Whether it has a kernel for `op` on operands of these types.
    ///
    /// # Errors
    /// The reason why not, in words.
    fn supports(&self, op: &Op, src: &[DType]) -> Result<(), String>;

    /// Whether it is worth copying a host weight here to run `op` on a batch of this size.
    fn offloads(&self, op: &Op, batch: usize) -> bool {
        let _ = (op, batch);
        false
    }

    /// A new buffer, zeroed.
    ///
    /// # Errors
    /// When the memory is not there, or the device fails.
    fn alloc(&mut self, bytes: usize, what: &str) -> Result<BufferId, DeviceError>;

    /// A read-only buffer over bytes that something else keeps, without a copy. `None` when the
    /// device cannot read host memory.
    fn adopt(&mut self, bytes: ForeignBytes) -> Option<BufferId>;

    /// Gives a buffer back.
    fn free(&mut self, buffer: BufferId);

    /// Gives all buffers back.
    fn free_all(&mut self);

    /// Memory to leave free when a model is fitted to the device: what its driver and its kernels
    /// take beside the buffers.
    fn headroom_bytes(&self) -> u64 {
        0
    }

    /// Copies host bytes into a buffer. On return the source may change, and whatever is asked of
    /// the device next sees the bytes.
    ///
    /// # Errors
    /// When the range leaves the buffer, or the buffer is read-only.
    fn write(&mut self, buffer: BufferId, offset: usize, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Copies bytes of a buffer to the host and waits for that.
    ///
    /// # Errors
    /// When the range leaves the buffer.
    fn read(&mut self, buffer: BufferId, offset: usize, out: &mut [u8]) -> Result<(), DeviceError>;

    /// As [`Device::write`], but timed by the device where it runs behind the host: the ticket
    /// tells when. `None` when the copy was done on return.
    ///
    /// # Errors
    /// As [`Device::write`].
    fn copy_in(
        &mut self,
        (buffer, offset): (BufferId, usize),
        bytes: &[u8],
    ) -> Result<Option<Ticket>, DeviceError> {
        self.write(buffer, offset, bytes).map(|()| None)
    }

    /// Copies from a device of the same kind without the host's waiting, in order with the work of
    /// both. `None` when the two have no such way.
    ///
    /// # Errors
    /// When a range leaves its buffer, or the device fails.
    fn copy_peer(
        &mut self,
        to: (BufferId, usize),
        from: &mut dyn Device,
        source: (BufferId, usize),
        bytes: usize,
    ) -> Result<Option<Ticket>, DeviceError> {
        let _ = (to, from, source, bytes);
        Ok(None)
    }

    /// Lets the device read another one's memory directly: whether it can, or `None` when the
    /// question has no meaning for the two.
    ///
    /// # Errors
    /// When the device fails.
    fn reach(&mut self, other: &mut dyn Device) -> Result<Option<bool>, DeviceError> {
        let _ = other;
        Ok(None)
    }

    /// The bytes of a buffer where the host can read them in place.
    fn host_bytes(&self, buffer: BufferId) -> Option<&[u8]> {
        let _ = buffer;
        None
    }

    /// The bytes of a buffer where the host can write them in place.
    fn host_bytes_mut(&mut self, buffer: BufferId) -> Option<&mut [u8]> {
        let _ = buffer;
        None
    }

    /// Checks nodes against their buffers and prepares them for a ubatch of `n_tokens`.
    ///
    /// # Errors
    /// When a tensor leaves its buffer or the device has no kernel for a node.
    fn compile(&mut self, nodes: &[BoundNode], n_tokens: usize) -> Result<Program, DeviceError>;

    /// Starts a program. With `nodes`, runs its nodes one by one and tells when each one ran, which
    /// costs a barrier per node.
    ///
    /// # Errors
    /// When the program is another device's, or a kernel failed.
    fn submit(
        &mut self,
        program: &Program,
        nodes: Option<&mut Vec<Interval>>,
    ) -> Result<Ticket, DeviceError>;

    /// Waits until everything submitted is done.
    ///
    /// # Errors
    /// When a kernel failed.
    fn finish(&mut self) -> Result<(), DeviceError>;

    /// When the work behind a ticket ran; known after [`Device::finish`] for the latest tickets.
    fn interval(&self, ticket: Ticket) -> Option<Interval>;

    /// Bytes of the device's memory that kernels will use beside the buffers to run these nodes,
    /// before anything is allocated: buffers are [`BufferId::PLANNED`], and offsets stand for addresses.
    ///
    /// # Errors
    /// When the device has no kernel for a node.
    fn scratch_needed(&self, nodes: &[BoundNode]) -> Result<usize, DeviceError> {
        let _ = nodes;
        Ok(0)
    }

    /// Sets that memory aside, so that compiling needs none later.
    ///
    /// # Errors
    /// When the memory is not there, or the device fails.
    fn reserve_scratch(&mut self, bytes: usize) -> Result<(), DeviceError> {
        let _ = bytes;
        Ok(())
    }

    /// Bytes that kernels use beside the buffers.
    fn scratch_bytes(&self) -> usize;

    /// Time spent on compiling kernels for this very device since it was opened.
    fn compile_ns(&self) -> u64 {
        0
    }
}

/// When a copy between devices ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyTime {
    /// The host did it, or waited for it, in this time; before that the source was waited for.
    Blocking(Interval),
    /// The target's stream does it, behind the host; its device knows when.
    Queued(Ticket),
}

/// Copies bytes between two devices: behind the host where the devices can, otherwise through the
/// host, in place where one side is host memory, after waiting for the source.
///
/// # Errors
/// When a range leaves its buffer, or a device fails.
pub fn copy(
    (from, from_buffer, from_offset): (&mut dyn Device, BufferId, usize),
    (to, to_buffer, to_offset): (&mut dyn Device, BufferId, usize),
    bytes: usize,
) -> Result<CopyTime, DeviceError> {
    let target = (to_buffer, to_offset);
    if let Some(ticket) = to.copy_peer(target, from, (from_buffer, from_offset), bytes)? {
        return Ok(CopyTime::Queued(ticket));
    }
    // What the source still computes is a wait, not part of the copy.
    from.finish()?;
    let start_ns = now_ns();
    let in_place = match to.host_bytes_mut(to_buffer) {
        Some(target) => match target.get_mut(to_offset..to_offset + bytes) {
            Some(target) => from.read(from_buffer, from_offset, target).map(|()| true)?,
            None => false,
        },
        None => false,
    };
    let ticket = if in_place {
        None
    } else if let Some(source) = from.host_bytes(from_buffer)
        && let Some(source) = source.get(from_offset..from_offset + bytes)
    {
        to.copy_in(target, source)?
    } else {
        let mut staging = vec![0; bytes];
        from.read(from_buffer, from_offset, &mut staging)?;
        to.copy_in(target, &staging)?
    };
    let done = || CopyTime::Blocking(Interval { start_ns, end_ns: now_ns() });
    Ok(ticket.map_or_else(done, CopyTime::Queued))
}
