//! The CUDA backend's matrix products, of every type of weights and by every kernel, through an
//! emulated driver: against plain arithmetic in `f64` on the dequantised weights.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod support;

use gpuwhy::engine::backend::{BoundNode, BoundTensor, BufferId, Device, open_cuda_device};
use gpuwhy::engine::graph::Op;
use gpuwhy::engine::tensor::{DType, dequantize, quantize_vec};

use support::cuda::emulated;

/// Order of summation, relative to the sum of magnitudes.
const SAME_INPUT: f64 = 1e-5;

/// Half a step of 127 on the largest of 32 activations, relative to the sum of `|w| * largest`: what
/// products of few columns may lose where weights are quantised.
const INT8_ROUNDING: f64 = 0.5 / 127.0 + SAME_INPUT;

/// What tensor cores may lose, relative to the same: activation, scale, offset and weight are rounded
/// to halves, each by 2^-11 of its magnitude at most.
const HALF_ROUNDING: f64 = 4.0 / 2048.0 + SAME_INPUT;

/// Repeatable values between -1 and 1, with an outlier now and then.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let v = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
            if (state >> 32).is_multiple_of(64) { v * 8.0 } else { v }
        })
        .collect()
}

/// `dot(w, x)` in `f64`, and the sum of `|w|` times the largest `|x|` of each 32.
fn exact(w: &[f32], x: &[f32]) -> (f64, f64) {
    let (mut sum, mut scale) = (0.0, 0.0);
    for (w, x) in w.chunks(32).zip(x.chunks(32)) {
        let largest = x.iter().fold(0.0_f32, |a, &b| a.max(b.abs()));
        for i in 0..w.len() {
            sum += f64::from(w[i]) * f64::from(x[i]);
            scale += f64::from(w[i].abs()) * f64::from(largest);
        }
    }
    (sum, scale)
}

/// A tensor in a buffer of its own, `shift` bytes from its start.
fn tensor(
    device: &mut dyn Device,
    (dtype, ne): (DType, [usize; 4]),
    row_bytes: usize,
    shift: usize,
    bytes: &[u8],
) -> BoundTensor {
    let size = row_bytes * ne[1] * ne[2];
    let buffer = device.alloc(shift + size, "a test").unwrap();
    if !bytes.is_empty() {
        assert_eq!(bytes.len(), size);
        device.write(buffer, shift, bytes).unwrap();
    }
    let plane = row_bytes * ne[1];
    let nb = [dtype.block_bytes(), row_bytes, plane, plane * ne[2]];
    BoundTensor { buffer, offset: shift, dtype, ne, nb }
}

fn run(device: &mut dyn Device, node: BoundNode, tokens: usize) -> Vec<f32> {
    let dst = node.dst;
    let program = device.compile(&[node], tokens).unwrap();
    device.submit(&program, None).unwrap();
    device.finish().unwrap();
    let mut bytes = vec![0; dst.nb[2] * dst.ne[2]];
    device.read(dst.buffer, dst.offset, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn free(device: &mut dyn Device, buffers: &[BufferId]) {
    for &buffer in buffers {
        device.free(buffer);
    }
}

fn weights(dtype: DType, elements: usize, seed: u64) -> (Vec<u8>, Vec<f32>) {
    let packed = quantize_vec(dtype, &noise(elements, seed)).unwrap();
    let mut values = vec![0.0; elements];
    dequantize(dtype, &packed, &mut values).unwrap();
    (packed, values)
}

/// What `columns` columns may differ by.
fn tolerance(dtype: DType, columns: usize) -> f64 {
    match (dtype, columns) {
        (DType::F32, _) => SAME_INPUT,
        (_, 9..) => HALF_ROUNDING,
        _ if dtype.is_quantised() => INT8_ROUNDING,
        _ => SAME_INPUT,
    }
}

/// A product of `k * n` weights and `t` columns, with gaps between the rows of both and activations
/// that are aligned to 4 bytes only.
fn check_product(device: &mut dyn Device, dtype: DType, [k, n, t]: [usize; 3]) {
    let seed = (k * 31 + n * 7 + t) as u64;
    let (packed, values) = weights(dtype, k * n, seed);
    let gap = t % 4;
    let x = noise((k + gap) * t, seed ^ 1);
    let w_t = tensor(device, (dtype, [k, n, 1, 1]), packed.len() / n, 0, &packed);
    let x_t = tensor(
        device,
        (DType::F32, [k, t, 1, 1]),
        (k + gap) * 4,
        4 * gap,
        bytemuck::cast_slice(&x),
    );
    let empty = vec![f32::NAN; (n + 3) * t];
    let dst_t =
        tensor(device, (DType::F32, [n, t, 1, 1]), (n + 3) * 4, 8, bytemuck::cast_slice(&empty));
    let node = BoundNode { op: Op::MulMat, src: vec![w_t, x_t], dst: dst_t };
    let got = run(device, node, t);
    for column in 0..t {
        let x = &x[column * (k + gap)..][..k];
        for row in 0..n {
            let (want, scale) = exact(&values[row * k..][..k], x);
            let a = f64::from(got[column * (n + 3) + row]);
            let most = scale * tolerance(dtype, t);
            assert!((a - want).abs() <= most, "{dtype} {k} {n} {t} ({row}, {column}): {a} {want}");
        }
        assert!(
            got[column * (n + 3) + n..][..3].iter().all(|v| v.is_nan()),
            "{dtype}: wrote behind a row"
        );
    }
    free(device, &[w_t.buffer, x_t.buffer, dst_t.buffer]);
}

/// A length that suits the format: not the shortest, no power of two.
fn length(dtype: DType) -> usize {
    if dtype.block_len() == 256 { 768 } else { 224 }
}

/// One column, several, few that no tile is worth, and both kinds of tiles.
#[test]
fn products_of_every_type_and_kernel_agree() {
    emulated("products_of_every_type_and_kernel_agree", &[], || {
        let mut device = open_cuda_device(0).unwrap();
        for dtype in DType::WEIGHTS {
            let k = length(dtype);
            for shape in [[k, 21, 1], [k, 40, 2], [k, 17, 8], [k, 70, 9], [k, 150, 140]] {
                check_product(&mut device, dtype, shape);
            }
        }
    });
}

/// More rows than warps, rows shorter than a chunk and longer than a ring, one row alone.
#[test]
fn long_and_short_rows_agree() {
    emulated("long_and_short_rows_agree", &[], || {
        let mut device = open_cuda_device(0).unwrap();
        for dtype in [DType::Q4_K, DType::Q6_K] {
            for shape in [[256, 300, 1], [256, 1, 1], [9216, 3, 1], [9216, 3, 5], [2304, 65, 33]] {
                check_product(&mut device, dtype, shape);
            }
        }
        for dtype in [DType::Q8_0, DType::Q4_0, DType::MXFP4] {
            for shape in [[32, 300, 1], [32, 1, 3], [9248, 3, 1], [1056, 65, 33]] {
                check_product(&mut device, dtype, shape);
            }
        }
        // Rows of plain weights may have any length, and are then not aligned to anything.
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for shape in [[51, 300, 1], [1, 1, 3], [9248, 3, 1], [51, 9, 33]] {
                check_product(&mut device, dtype, shape);
            }
        }
    });
}

#[test]
fn products_on_the_oldest_device_agree() {
    let settings = [("CUDA_EMULATOR_CAPABILITY", "7.5")];
    emulated("products_on_the_oldest_device_agree", &settings, || {
        let mut device = open_cuda_device(0).unwrap();
        for dtype in [DType::Q4_K, DType::Q8_0, DType::F16] {
            for t in [1, 5, 70] {
                check_product(&mut device, dtype, [length(dtype), 150, t]);
            }
        }
    });
}

/// `shared`: all slots of a token have the same activations.
fn check_experts(device: &mut dyn Device, dtype: DType, tokens: usize, shared: bool) {
    let (k, n, n_expert, slots) = (length(dtype), 67, 5, 3);
    let seed = (tokens * 2 + usize::from(shared)) as u64;
    let (packed, values) = weights(dtype, k * n * n_expert, seed);
    let x_slots = if shared { 1 } else { slots };
    let x = noise(k * x_slots * tokens, seed ^ 1);
    // The id of some pairs names no expert: their rows must become zeros. Expert 4 is never used.
    let pairs = slots * tokens;
    let ids: Vec<i32> = (0..pairs)
        .map(|i| match i % 11 {
            10 => [-1, n_expert as i32][i % 2],
            _ => ((i as u64 ^ seed) * 5 % 4) as i32,
        })
        .collect();
    let row_bytes = packed.len() / (n * n_expert);
    let w_t = tensor(device, (dtype, [k, n, n_expert, 1]), row_bytes, 0, &packed);
    let x_t =
        tensor(device, (DType::F32, [k, x_slots, tokens, 1]), k * 4, 0, bytemuck::cast_slice(&x));
    let ids_t = tensor(
        device,
        (DType::I32, [slots, tokens, 1, 1]),
        slots * 4,
        0,
        bytemuck::cast_slice(&ids),
    );
    let dst_t = tensor(device, (DType::F32, [n, slots, tokens, 1]), n * 4, 0, &[]);
    let node = BoundNode { op: Op::MulMatId, src: vec![w_t, x_t, ids_t], dst: dst_t };
    let got = run(device, node, tokens);
    for pair in 0..pairs {
        let x = &x[k * if shared { pair / slots } else { pair }..][..k];
        for row in 0..n {
            let (want, scale) = match usize::try_from(ids[pair]) {
                Ok(expert) if expert < n_expert => exact(&values[(expert * n + row) * k..][..k], x),
                _ => (0.0, 0.0),
            };
            let a = f64::from(got[pair * n + row]);
            let most = scale * tolerance(dtype, tokens);
            assert!((a - want).abs() <= most, "{dtype} {tokens} ({row}, {pair}): {a} {want}");
        }
    }
    free(device, &[w_t.buffer, x_t.buffer, ids_t.buffer, dst_t.buffer]);
}

#[test]
fn products_by_expert_agree() {
    emulated("products_by_expert_agree", &[], || {
        let mut device = open_cuda_device(0).unwrap();
        for (i, dtype) in DType::WEIGHTS.into_iter().enumerate() {
            check_experts(&mut device, dtype, 2, i % 2 == 0);
            check_experts(&mut device, dtype, 13, i % 2 == 1);
        }
        // More than a tile of pairs for each expert.
        check_experts(&mut device, DType::Q4_K, 50, true);
    });
}
