//! Checks that every format's tests share. Where the golden files come from stands in
//! `fixtures/quant/README.md`.

use std::fs;
use std::path::PathBuf;

use super::Block;

/// The most that a round trip may lose; both bounds are specific to a format.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// On ggml's own test data, by the formula of its `test-quantize-fns`: root of the sum of
    /// squared differences, divided by the number of elements.
    pub(super) ggml: f32,
    /// On Gaussian data: root mean square of the difference, relative to the deviation.
    pub(super) gaussian: f32,
}

/// Gaussian numbers in [`check_error`].
const GAUSSIAN_LEN: usize = 64 * 256;

/// Magnitudes at which the peaks of a block must keep their sign: from what a half still holds as a
/// scale to far beyond it, but not to where the sums of the searches overflow.
const SIGNS_KEPT: std::ops::RangeInclusive<f32> = 1e-3..=1e12;

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/quant").join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn file_stem<B: Block>() -> String {
    B::DTYPE.name().to_lowercase()
}

/// Random blocks must give the floats that the reference gives, bit for bit.
pub(super) fn check_golden_dequantize<B: Block>() {
    let name = format!("{}.dequantized.bin", file_stem::<B>());
    let file = fixture(&name);
    let (block_bytes, float_bytes) = (size_of::<B>(), 4 * B::LEN);
    assert!(!file.is_empty() && file.len().is_multiple_of(block_bytes + float_bytes), "{name}");
    let n = file.len() / (block_bytes + float_bytes);
    let (blocks, expected) = file.split_at(n * block_bytes);
    let expected = floats(expected);
    let mut got = vec![0.0; B::LEN];
    for (i, bytes) in blocks.chunks_exact(block_bytes).enumerate() {
        bytemuck::pod_read_unaligned::<B>(bytes).dequantize(&mut got);
        for (j, value) in got.iter().enumerate() {
            let want = expected[i * B::LEN + j];
            let same = value.to_bits() == want.to_bits();
            assert!(same, "{name}: block {i}, element {j}: {value:e}, reference {want:e}");
        }
    }
}

/// The shared input must give the bytes that the reference quantiser gives.
pub(super) fn check_golden_quantize<B: Block>() {
    let input = floats(&fixture("input.f32.bin"));
    let name = format!("{}.quantized.bin", file_stem::<B>());
    let expected = fixture(&name);
    assert_eq!(expected.len(), input.len() / B::LEN * size_of::<B>(), "{name}");
    for (i, x) in input.chunks_exact(B::LEN).enumerate() {
        let block = B::quantize(x);
        let want = &expected[i * size_of::<B>()..][..size_of::<B>()];
        assert_eq!(bytemuck::bytes_of(&block), want, "{name}: block {i}");
    }
}

/// Quantising and reading back must not lose more than the bounds.
pub(super) fn check_error<B: Block>(bounds: Bounds) {
    let wave: Vec<f32> = (0..32 * 128).map(|i| 0.1 + 2.0 * (i as f32).cos()).collect();
    let lost = (sum_squares(&wave, &round_trip::<B>(&wave)).sqrt() / wave.len() as f64) as f32;
    assert!(lost <= bounds.ggml, "{}: {lost} on ggml's data", B::DTYPE);

    let noise = gaussian(GAUSSIAN_LEN);
    let lost = (sum_squares(&noise, &round_trip::<B>(&noise)) / noise.len() as f64).sqrt() as f32;
    assert!(lost <= bounds.gaussian, "{}: {lost} on Gaussian data", B::DTYPE);
}

/// Zeros must stay zeros; all other finite input must give finite output, and at sane magnitudes
/// saturation in place of overflow.
pub(super) fn check_extremes<B: Block>() {
    let zeros = round_trip::<B>(&vec![0.0; B::LEN]);
    assert!(zeros.iter().all(|&v| v == 0.0), "{}: {zeros:?}", B::DTYPE);
    for magnitude in [f32::MAX, 1e30, 1e12, 7e4, 1.0, 1e-7, 1e-20, f32::MIN_POSITIVE, 1e-45] {
        let ramp = |i: usize| magnitude * ((i % 29) as f32 / 14.0 - 1.0);
        let shapes: [fn(usize) -> f32; 4] = [
            |_| 1.0,
            |_| -1.0,
            |i| if i.is_multiple_of(2) { 1.0 } else { -1.0 },
            |i| if i == 5 { -1.0 } else { 0.0 },
        ];
        let mut rows: Vec<Vec<f32>> =
            shapes.iter().map(|f| (0..B::LEN).map(|i| magnitude * f(i)).collect()).collect();
        rows.push((0..B::LEN).map(ramp).collect());
        for (shape, row) in rows.iter().enumerate() {
            let got = round_trip::<B>(row);
            let finite = got.iter().all(|v| v.is_finite());
            assert!(finite, "{}: shape {shape} of {magnitude:e}: {got:?}", B::DTYPE);
            if SIGNS_KEPT.contains(&magnitude) {
                for (want, v) in row.iter().zip(&got) {
                    let large = want.abs() >= 0.99 * magnitude;
                    let kept = !large || v.signum() == want.signum() && *v != 0.0;
                    assert!(kept, "{}: shape {shape}: {want:e} became {v:e}", B::DTYPE);
                }
            }
        }
    }
}

fn round_trip<B: Block>(x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for (x, out) in x.chunks_exact(B::LEN).zip(out.chunks_exact_mut(B::LEN)) {
        B::quantize(x).dequantize(out);
    }
    out
}

fn sum_squares(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Gaussian numbers (mean 0, deviation 1) by the Box-Muller transform of a small generator.
pub(super) fn gaussian(n: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 + 0.5) / (1 << 24) as f32
    };
    (0..n)
        .map(|_| (-2.0 * uniform().ln()).sqrt() * (std::f32::consts::TAU * uniform()).cos())
        .collect()
}
