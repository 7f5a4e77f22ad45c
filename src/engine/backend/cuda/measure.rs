//! What a GPU and its link can do, measured: the limits that a run's figures are held against.
//!
//! Invariant: each figure is the best of several tries, and the work that it times is named with
//! it.

use std::time::Duration;

use crate::base::clock::now_ns;
use crate::engine::backend::device::{BoundNode, BoundTensor, Device, DeviceError};
use crate::engine::graph::Op;
use crate::engine::tensor::DType;

use super::device::CudaDevice;
use super::driver::{CudaError, PinnedMemory};

/// Tries of each figure.
const TRIES: usize = 5;

/// Launches in a row, to time one.
const LAUNCHES: usize = 100;

/// How large the measured work is.
#[derive(Clone, Copy, Debug)]
pub struct MeasureSize {
    /// Bytes of each copy.
    pub copy_bytes: usize,
    /// Rows, columns and inner extent of the matrix product.
    pub matrix: usize,
}

impl MeasureSize {
    /// Large enough for a real GPU.
    pub const FULL: Self = Self { copy_bytes: 256 << 20, matrix: 4096 };
    /// Small enough for an emulated one.
    pub const SMALL: Self = Self { copy_bytes: 1 << 20, matrix: 32 };
}

/// What was measured. Rates are bytes or operations per second, times are nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CudaMeasurements {
    /// A copy within the device's memory, reads and writes counted.
    pub memory_bytes_per_s: f64,
    /// An F16 product of square matrices, F32 activations, as the engine runs it; `None` without a
    /// kernel.
    pub matrix_f16_flops: Option<f64>,
    /// From page-locked host memory to the device.
    pub to_device_pinned_bytes_per_s: f64,
    /// From the device to page-locked host memory.
    pub from_device_pinned_bytes_per_s: f64,
    /// From ordinary host memory to the device.
    pub to_device_pageable_bytes_per_s: f64,
    /// From the device to ordinary host memory.
    pub from_device_pageable_bytes_per_s: f64,
    /// One of many launches in a row, from start to start; `None` without a kernel.
    pub launch_ns: Option<f64>,
    /// A single launch, from asking for it to knowing that it is done; `None` without a kernel.
    pub launch_round_trip_ns: Option<f64>,
    /// Four bytes to the device and back.
    pub copy_round_trip_ns: f64,
}

impl CudaDevice {
    /// Measures the device and its link to the host.
    ///
    /// # Errors
    /// When it has not the memory, or the driver fails.
    pub fn measure(&mut self, size: MeasureSize) -> Result<CudaMeasurements, DeviceError> {
        let free = self.memory().free_bytes as usize;
        let bytes = size.copy_bytes.min(free / 8).max(4096);
        let buffer = self.alloc(2 * bytes, "measuring")?;
        let measured = self.measure_in(buffer, bytes, size.matrix);
        self.free(buffer);
        measured
    }

    fn measure_in(
        &mut self,
        buffer: crate::engine::backend::device::BufferId,
        bytes: usize,
        matrix: usize,
    ) -> Result<CudaMeasurements, DeviceError> {
        let failed = self.failed("measuring");
        let low = self.range((buffer, 0), bytes)?;
        let high = self.range((buffer, bytes), bytes)?;
        let mut pinned = PinnedMemory::alloc(self.context(), bytes).map_err(&failed)?;
        let mut pageable = vec![1u8; bytes];
        let rate = |ns: u64, bytes: usize| bytes as f64 * 1e9 / ns.max(1) as f64;
        // Both ranges were just checked and lie in one live buffer, host memory outlives `best_of`,
        // which waits for each try, and nothing touches it meanwhile.
        // SAFETY: as said.
        let within = self.best_of(|d| unsafe { d.stream().copy_within(high, low, bytes) })?;
        let source = pinned.as_slice().as_ptr();
        // SAFETY: as said.
        let to_pinned = self.best_of(|d| unsafe { d.stream().copy_in(low, source, bytes) })?;
        let target = pinned.as_mut_slice().as_mut_ptr();
        // SAFETY: as said.
        let from_pinned = self.best_of(|d| unsafe { d.stream().copy_out(target, low, bytes) })?;
        let target = pageable.as_mut_ptr();
        // SAFETY: as said.
        let to_pageable = self.best_of(|d| unsafe { d.stream().copy_in(low, target, bytes) })?;
        // SAFETY: as said.
        let from_pageable = self.best_of(|d| unsafe { d.stream().copy_out(target, low, bytes) })?;
        let mut word = [0; 4];
        let copy_round_trip_ns = shortest(|| {
            self.write(buffer, 0, &[1, 2, 3, 4])?;
            self.read(buffer, 0, &mut word)
        })?;
        let (launch_ns, launch_round_trip_ns) = self.measure_launches(buffer)?.unzip();
        Ok(CudaMeasurements {
            memory_bytes_per_s: 2.0 * rate(within, bytes),
            matrix_f16_flops: self.measure_matrix(matrix)?,
            to_device_pinned_bytes_per_s: rate(to_pinned, bytes),
            from_device_pinned_bytes_per_s: rate(from_pinned, bytes),
            to_device_pageable_bytes_per_s: rate(to_pageable, bytes),
            from_device_pageable_bytes_per_s: rate(from_pageable, bytes),
            launch_ns,
            launch_round_trip_ns,
            copy_round_trip_ns,
        })
    }

    /// The shortest time of some work, by the device's events.
    fn best_of(
        &mut self,
        work: impl Fn(&mut Self) -> Result<(), CudaError>,
    ) -> Result<u64, DeviceError> {
        let mut best = u64::MAX;
        for _ in 0..TRIES {
            let ticket = self.timed(&work).map_err(self.failed("measuring"))?;
            self.finish()?;
            let time = self.interval(ticket).unwrap_or_default();
            best = best.min(time.end_ns - time.start_ns);
        }
        Ok(best)
    }

    fn measure_launches(
        &mut self,
        buffer: crate::engine::backend::device::BufferId,
    ) -> Result<Option<(f64, f64)>, DeviceError> {
        let op = Op::Scale { factor: 1.0 };
        if self.supports(&op, &[DType::F32]).is_err() {
            return Ok(None);
        }
        let (ne, nb) = ([32, 1, 1, 1], [4, 128, 128, 128]);
        let tensor = BoundTensor { buffer, offset: 0, dtype: DType::F32, ne, nb };
        let node = BoundNode { op, src: vec![tensor], dst: tensor };
        let one = self.compile(std::slice::from_ref(&node), 1)?;
        let round_trip_ns = shortest(|| {
            self.submit(&one, None)?;
            self.finish()
        })?;
        let many = self.compile(&vec![node; LAUNCHES], 1)?;
        let mut best = u64::MAX;
        for _ in 0..TRIES {
            let ticket = self.submit(&many, None)?;
            self.finish()?;
            let time = self.interval(ticket).unwrap_or_default();
            best = best.min(time.end_ns - time.start_ns);
        }
        Ok(Some((best as f64 / LAUNCHES as f64, round_trip_ns)))
    }

    fn measure_matrix(&mut self, n: usize) -> Result<Option<f64>, DeviceError> {
        if self.supports(&Op::MulMat, &[DType::F16, DType::F32]).is_err() {
            return Ok(None);
        }
        let tensor = |buffer, offset, dtype: DType| {
            let row = n * dtype.block_bytes();
            let (ne, nb) = ([n, n, 1, 1], [dtype.block_bytes(), row, row * n, row * n]);
            BoundTensor { buffer, offset, dtype, ne, nb }
        };
        let buffer = self.alloc(10 * n * n, "measuring products")?;
        let w = tensor(buffer, 0, DType::F16);
        let x = tensor(buffer, 2 * n * n, DType::F32);
        let dst = tensor(buffer, 6 * n * n, DType::F32);
        let node = BoundNode { op: Op::MulMat, src: vec![w, x], dst };
        let result = (|| {
            let program = self.compile(&[node], n)?;
            let mut best = u64::MAX;
            for _ in 0..TRIES {
                let ticket = self.submit(&program, None)?;
                self.finish()?;
                let time = self.interval(ticket).unwrap_or_default();
                best = best.min(time.end_ns - time.start_ns);
            }
            Ok(Some(2.0 * (n as f64).powi(3) * 1e9 / best.max(1) as f64))
        })();
        self.free(buffer);
        result
    }
}

/// The shortest time of some work, by the host's clock.
fn shortest(mut work: impl FnMut() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
    let mut best = Duration::MAX.as_secs_f64() * 1e9;
    for _ in 0..10 * TRIES {
        let start_ns = now_ns();
        work()?;
        best = best.min((now_ns() - start_ns) as f64);
    }
    Ok(best)
}
