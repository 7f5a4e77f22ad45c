//! A queue of work on a device, and the marks that time it.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys;

use super::graph::Graph;
use super::module::Function;
use super::{Context, CudaError, call};
use crate::engine::backend::cuda::launch::Launch;

/// Work that runs one after the other. Calls put work into it and return.
pub(in crate::engine::backend::cuda) struct Stream {
    context: Arc<Context>,
    raw: sys::CUstream,
}

// SAFETY: see `Context`; the stream is used by one thread at a time, through `&mut` of its device.
unsafe impl Send for Stream {}

impl Stream {
    pub(in crate::engine::backend::cuda) fn new(context: &Arc<Context>) -> Result<Self, CudaError> {
        context.enter()?;
        let mut raw = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the context is current; the call writes the handle, destroyed when dropped.
        unsafe { call!(cuStreamCreate(&raw mut raw, flags)) }?;
        Ok(Self { context: Arc::clone(context), raw })
    }

    /// Waits until everything in it is done.
    pub(in crate::engine::backend::cuda) fn synchronize(&self) -> Result<(), CudaError> {
        // SAFETY: the stream lives.
        unsafe { call!(cuStreamSynchronize(self.raw)) }
    }

    /// What comes next waits for a mark of this or another stream.
    pub(in crate::engine::backend::cuda) fn wait(
        &self,
        event: &DeviceEvent,
    ) -> Result<(), CudaError> {
        // SAFETY: both handles live.
        unsafe { call!(cuStreamWaitEvent(self.raw, event.raw, 0)) }
    }

    /// Marks this point of the stream.
    pub(in crate::engine::backend::cuda) fn record(
        &self,
        event: &DeviceEvent,
    ) -> Result<(), CudaError> {
        // SAFETY: both handles live and belong to one context.
        unsafe { call!(cuEventRecord(event.raw, self.raw)) }
    }

    /// Sets bytes to zero.
    ///
    /// # Safety
    /// The range lies in live memory of this device, which outlives the work.
    pub(in crate::engine::backend::cuda) unsafe fn zero(
        &self,
        address: u64,
        bytes: usize,
    ) -> Result<(), CudaError> {
        // SAFETY: passed on.
        unsafe { call!(cuMemsetD8Async(address, 0, bytes, self.raw)) }
    }

    /// Copies host bytes to the device.
    ///
    /// # Safety
    /// The target lies in live memory of this device; the source stays as it is until the work is
    /// done.
    pub(in crate::engine::backend::cuda) unsafe fn copy_in(
        &self,
        address: u64,
        source: *const u8,
        bytes: usize,
    ) -> Result<(), CudaError> {
        // SAFETY: passed on.
        unsafe { call!(cuMemcpyHtoDAsync_v2(address, source.cast(), bytes, self.raw)) }
    }

    /// Copies bytes of the device to the host.
    ///
    /// # Safety
    /// The source lies in live memory of this device; nobody touches the target until the work is
    /// done.
    pub(in crate::engine::backend::cuda) unsafe fn copy_out(
        &self,
        target: *mut u8,
        address: u64,
        bytes: usize,
    ) -> Result<(), CudaError> {
        // SAFETY: passed on.
        unsafe { call!(cuMemcpyDtoHAsync_v2(target.cast(), address, bytes, self.raw)) }
    }

    /// Copies bytes of another device to this one.
    ///
    /// # Safety
    /// Both ranges lie in live memory of their devices until the work is done.
    pub(in crate::engine::backend::cuda) unsafe fn copy_peer(
        &self,
        address: u64,
        from: &Context,
        from_address: u64,
        bytes: usize,
    ) -> Result<(), CudaError> {
        let (to, from) = (self.context.raw(), from.raw());
        // SAFETY: passed on; both contexts live.
        unsafe { call!(cuMemcpyPeerAsync(address, to, from_address, from, bytes, self.raw)) }
    }

    /// Copies bytes within the device.
    ///
    /// # Safety
    /// Both ranges lie in live memory of this device until the work is done.
    pub(in crate::engine::backend::cuda) unsafe fn copy_within(
        &self,
        address: u64,
        from_address: u64,
        bytes: usize,
    ) -> Result<(), CudaError> {
        // SAFETY: passed on.
        unsafe { call!(cuMemcpyDtoDAsync_v2(address, from_address, bytes, self.raw)) }
    }

    /// Starts a kernel; with `overlaps` perhaps before the one before it has ended.
    ///
    /// # Safety
    /// The launch's argument is the kernel's struct, and all memory that it names lives until the
    /// work is done. A kernel that overlaps reads only what no earlier kernel writes until it waits.
    pub(in crate::engine::backend::cuda) unsafe fn launch(
        &self,
        function: &Function,
        launch: &Launch,
        overlaps: bool,
    ) -> Result<(), CudaError> {
        let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, launch.block);
        let mut argument: *mut c_void = launch.params.as_bytes().as_ptr().cast_mut().cast();
        if !overlaps {
            // SAFETY: the driver copies the argument, whose size it knows from the kernel, before it
            // returns; the rest is passed on.
            return unsafe {
                call!(cuLaunchKernel(
                    function.raw(),
                    gx,
                    gy,
                    gz,
                    bx,
                    by,
                    bz,
                    launch.shared_bytes,
                    self.raw,
                    &raw mut argument,
                    std::ptr::null_mut(),
                ))
            };
        }
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: gx,
            gridDimY: gy,
            gridDimZ: gz,
            blockDimX: bx,
            blockDimY: by,
            blockDimZ: bz,
            sharedMemBytes: launch.shared_bytes,
            hStream: self.raw,
            attrs: &raw mut attribute,
            numAttrs: 1,
        };
        // SAFETY: as above; the driver reads the attribute before it returns.
        unsafe {
            call!(cuLaunchKernelEx(
                &raw const config,
                function.raw(),
                &raw mut argument,
                std::ptr::null_mut(),
            ))
        }
    }

    /// Collects what `fill` puts into the stream as a graph, instead of running it.
    pub(in crate::engine::backend::cuda) fn capture(
        &self,
        fill: impl FnOnce() -> Result<(), CudaError>,
    ) -> Result<Graph, CudaError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives and is not capturing.
        unsafe { call!(cuStreamBeginCapture_v2(self.raw, mode)) }?;
        let filled = fill();
        let mut graph = std::ptr::null_mut();
        // SAFETY: ends the capture begun above, whatever became of it; the call writes the handle.
        let ended = unsafe { call!(cuStreamEndCapture(self.raw, &raw mut graph)) };
        let made = ended.and_then(|()| Graph::instantiate(&self.context, graph));
        filled.and(made)
    }

    /// Runs a captured graph.
    ///
    /// # Safety
    /// As for the launches in it.
    pub(in crate::engine::backend::cuda) unsafe fn launch_graph(
        &self,
        graph: &Graph,
    ) -> Result<(), CudaError> {
        // SAFETY: passed on; both handles live.
        unsafe { call!(cuGraphLaunch(graph.raw(), self.raw)) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: created once and destroyed once; the driver lets running work end first.
            unsafe { sys::cuStreamDestroy_v2(self.raw) };
        }
    }
}

/// A mark in a stream that knows when the device reached it.
pub(in crate::engine::backend::cuda) struct DeviceEvent {
    context: Arc<Context>,
    raw: sys::CUevent,
}

// SAFETY: see `Stream`.
unsafe impl Send for DeviceEvent {}

impl DeviceEvent {
    pub(in crate::engine::backend::cuda) fn new(context: &Arc<Context>) -> Result<Self, CudaError> {
        context.enter()?;
        let mut raw = std::ptr::null_mut();
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT as u32;
        // SAFETY: the context is current; the call writes the handle, destroyed when dropped.
        unsafe { call!(cuEventCreate(&raw mut raw, flags)) }?;
        Ok(Self { context: Arc::clone(context), raw })
    }

    /// Waits until the device has reached it.
    pub(in crate::engine::backend::cuda) fn synchronize(&self) -> Result<(), CudaError> {
        // SAFETY: the event lives.
        unsafe { call!(cuEventSynchronize(self.raw)) }
    }

    /// Nanoseconds from `earlier` to this one, both reached. The driver counts in single precision
    /// milliseconds, about half a microsecond exact within a second.
    pub(in crate::engine::backend::cuda) fn since(&self, earlier: &Self) -> Result<u64, CudaError> {
        let mut ms = 0.0f32;
        // SAFETY: both events live and were recorded with their times.
        unsafe { call!(cuEventElapsedTime(&raw mut ms, earlier.raw, self.raw)) }?;
        Ok((f64::from(ms) * 1e6).max(0.0) as u64)
    }
}

impl Drop for DeviceEvent {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: created once and destroyed once.
            unsafe { sys::cuEventDestroy_v2(self.raw) };
        }
    }
}
