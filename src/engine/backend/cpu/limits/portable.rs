//! The loops of [`super`] in plain Rust, for instruction sets without loops of their own.
//!
//! The compiler vectorises them with what every processor of the architecture has, as it does with
//! the portable kernels.

use std::hint::black_box;

use super::{Line, Loop, Loops};

pub(super) const LOOPS: Loops = Loops {
    int8: Loop { instruction: "portable multiply-add", run: int8 },
    int8_short: None,
    f32: Loop { instruction: "portable multiply, add", run: f32 },
};

/// Lanes that are computed side by side.
const LANES: usize = 64;

/// Reads every line once, as `streams` streams side by side.
pub(super) fn read(lines: &[Line], streams: usize) -> u64 {
    match streams {
        8 => read_streams::<8>(lines),
        4 => read_streams::<4>(lines),
        _ => read_streams::<1>(lines),
    }
}

/// Of each stream four lines at a time, and one accumulator for each.
#[inline(always)]
pub(super) fn read_streams<const S: usize>(lines: &[Line]) -> u64 {
    const STEP: usize = 4;
    let part = lines.len() / S / STEP * STEP;
    let (body, rest) = lines.split_at(part * S);
    let mut streams: [&[Line]; S] = [&[]; S];
    for (s, stream) in streams.iter_mut().enumerate() {
        *stream = &body[s * part..(s + 1) * part];
    }
    let mut sums = [[0_u64; 8]; STEP];
    for at in (0..part).step_by(STEP) {
        for stream in &streams {
            for (sum, line) in sums.iter_mut().zip(&stream[at..at + STEP]) {
                for (s, value) in sum.iter_mut().zip(&line.0) {
                    *s |= value;
                }
            }
        }
    }
    let tail = rest.iter().flat_map(|l| &l.0);
    sums.iter().flatten().chain(tail).fold(0, |all, value| all | value)
}

fn int8(rounds: u64) -> u64 {
    let (mut a, b) = (black_box([3_i8; LANES]), black_box([-2_i8; LANES]));
    let mut sums = [0_i32; LANES];
    for _ in 0..rounds {
        // Through memory, so that the product is not taken out of the loop.
        a = black_box(a);
        for ((sum, &a), &b) in sums.iter_mut().zip(&a).zip(&b) {
            *sum = sum.wrapping_add(i32::from(a) * i32::from(b));
        }
    }
    black_box(sums);
    2 * LANES as u64 * rounds
}

fn f32(rounds: u64) -> u64 {
    let (a, b) = (black_box([1.0_f32; LANES / 2]), black_box([1e-9_f32; LANES / 2]));
    let mut sums = [1.0_f32; LANES / 2];
    for _ in 0..rounds {
        for ((sum, &a), &b) in sums.iter_mut().zip(&a).zip(&b) {
            *sum = *sum * a + b;
        }
    }
    black_box(sums);
    LANES as u64 * rounds
}
