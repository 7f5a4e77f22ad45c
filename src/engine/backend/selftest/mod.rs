//! Checks a device's kernels against another device, on random shapes and inputs.
//!
//! It asks the device nothing but what the scheduler asks, so it checks what a model would run:
//! the choice of a kernel by type and shape included. It measures no speed. Invariant: the cases
//! depend on the seed alone, so two runs with one seed do the same.

mod cases;
mod data;

use crate::engine::tensor::{DType, dequantize};

use super::device::{BoundNode, BoundTensor, Device, DeviceError};
use cases::{Case, Output};
use data::Random;

/// Alignment of operands within the buffer of a case, as in the scheduler's arenas.
const ALIGN_BYTES: usize = 64;

/// How one case went.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseResult {
    /// ggml's name of the operation.
    pub op: &'static str,
    /// Types and shapes, in words.
    pub case: String,
    /// The largest difference from the reference, over the reference's root mean square.
    pub error: f32,
    /// How large it may be.
    pub tolerance: f32,
    /// What went wrong beside the numbers.
    pub problem: Option<String>,
    /// The device has no kernel for it, and says why: the scheduler then uses the CPU.
    pub unsupported: Option<String>,
}

impl CaseResult {
    /// True when the device may be trusted with this.
    pub fn passed(&self) -> bool {
        self.problem.is_none() && (self.unsupported.is_some() || self.error <= self.tolerance)
    }
}

/// Runs `rounds` times one case for each operation, type and kind of shape, and tells each result
/// to `report`. Stops when it returns false, or when the device no longer works.
pub fn selftest(
    device: &mut dyn Device,
    reference: &mut dyn Device,
    seed: u64,
    rounds: usize,
    report: &mut dyn FnMut(CaseResult) -> bool,
) {
    for round in 0..rounds as u64 {
        let mut random = Random::new(seed.wrapping_add(round));
        for case in cases::all(&mut random) {
            let (result, alive) = check(device, reference, &case);
            if !report(result) || !alive {
                return;
            }
        }
    }
}

/// One case, and whether the device can go on.
fn check(device: &mut dyn Device, reference: &mut dyn Device, case: &Case) -> (CaseResult, bool) {
    let mut result = CaseResult {
        op: case.op.name(),
        case: case.name.clone(),
        error: 0.0,
        tolerance: case.tolerance,
        problem: None,
        unsupported: None,
    };
    let types: Vec<DType> = case.src.iter().map(|s| s.dtype).collect();
    if let Err(reason) = device.supports(&case.op, &types) {
        result.unsupported = Some(reason);
        return (result, true);
    }
    let wanted = run(reference, case);
    let got = run(device, case);
    let alive = !matches!(got, Err(DeviceError::Driver { .. }));
    match (got, wanted) {
        (Ok(got), Ok(wanted)) => match difference(&got, &wanted) {
            Ok(error) => result.error = error,
            Err(problem) => result.problem = Some(problem),
        },
        (Err(DeviceError::Unsupported { reason, .. }), _) => result.unsupported = Some(reason),
        (Err(e), _) => result.problem = Some(e.to_string()),
        (_, Err(e)) => result.problem = Some(format!("the reference: {e}")),
    }
    (result, alive)
}

/// The largest difference, over the root mean square of what was wanted.
fn difference(got: &[f32], wanted: &[f32]) -> Result<f32, String> {
    let squares: f64 = wanted.iter().map(|&w| f64::from(w).powi(2)).sum();
    let scale = (squares / wanted.len().max(1) as f64).sqrt().max(1e-30);
    let mut largest = 0.0f64;
    for (i, (&g, &w)) in got.iter().zip(wanted).enumerate() {
        if !g.is_finite() && g.to_bits() != w.to_bits() {
            return Err(format!("element {i} is {g}, not {w}"));
        }
        if g.is_finite() {
            largest = largest.max((f64::from(g) - f64::from(w)).abs());
        }
    }
    Ok((largest / scale) as f32)
}

/// Runs a case and brings its result back as floats.
fn run(device: &mut dyn Device, case: &Case) -> Result<Vec<f32>, DeviceError> {
    let mut at = 0;
    let mut offsets = Vec::new();
    let (dtype, ne, nb) = match case.output {
        Output::New(dtype, ne) => (dtype, ne, data::strides(dtype, ne)),
        Output::Into(operand) => {
            let into = &case.src[operand];
            (into.dtype, into.ne, into.nb)
        }
    };
    let bytes = nb[2] * ne[2] * ne[3].max(1);
    for length in case.src.iter().map(|s| s.bytes.len()).chain([bytes]) {
        offsets.push(at);
        at = (at + length).next_multiple_of(ALIGN_BYTES);
    }
    let buffer = device.alloc(at, "a case of the self-test")?;
    let result = (|| {
        let mut src = Vec::new();
        for (operand, &offset) in case.src.iter().zip(&offsets) {
            device.write(buffer, offset, &operand.bytes)?;
            let (dtype, ne, nb) = (operand.dtype, operand.ne, operand.nb);
            src.push(BoundTensor { buffer, offset, dtype, ne, nb });
        }
        let offset = match case.output {
            Output::New(..) => offsets[case.src.len()],
            Output::Into(operand) => offsets[operand],
        };
        let dst = BoundTensor { buffer, offset, dtype, ne, nb };
        let node = BoundNode { op: case.op, src, dst };
        let program = device.compile(&[node], case.n_tokens)?;
        device.submit(&program, None)?;
        device.finish()?;
        let mut raw = vec![0; bytes];
        device.read(buffer, offset, &mut raw)?;
        Ok(floats(dtype, &raw))
    })();
    device.free(buffer);
    result
}

fn floats(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    if dtype == DType::I32 {
        let whole = bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        return whole.map(|i| i as f32).collect();
    }
    let mut out = vec![0.0; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    // The bytes are whole blocks of a type that has a conversion.
    let _ = dequantize(dtype, bytes, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::backend::cpu::{CpuDevice, Threads};
    use crate::engine::graph::Op;

    #[test]
    fn the_cpu_agrees_with_itself_on_every_operation() {
        let (mut a, mut b) =
            (CpuDevice::new(Threads::new(1, 1)), CpuDevice::new(Threads::new(2, 2)));
        let mut ops = BTreeSet::new();
        selftest(&mut a, &mut b, 1, 1, &mut |result| {
            assert!(result.passed() && result.unsupported.is_none(), "{result:?}");
            ops.insert(result.op);
            true
        });
        assert_eq!(ops, BTreeSet::from(Op::NAMES));
    }

    #[test]
    fn a_wrong_number_shows() {
        assert!(difference(&[1.0, 2.0], &[1.0, 2.0]).unwrap() == 0.0);
        assert!(difference(&[1.0, 2.5], &[1.0, 2.0]).unwrap() > 0.3);
        assert!(difference(&[1.0, f32::NAN], &[1.0, 2.0]).is_err());
        let infinite = [f32::NEG_INFINITY, 1.0];
        assert_eq!(difference(&infinite, &infinite), Ok(0.0));
    }
}
