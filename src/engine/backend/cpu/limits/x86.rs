//! The loops of [`super`] on x86-64: AVX2 with FMA, and AVX-512 with VNNI.
//!
//! Arithmetic is inline assembly, because nothing else keeps the compiler from taking products of
//! constant operands out of the loop. Each loop has eight or twelve sums that do not depend on each
//! other: more than latency times throughput of the instructions, and few enough for the registers.

use std::arch::asm;
use std::arch::x86_64::{
    __m256, __m256i, __m512, __m512i, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_ps,
    _mm512_set1_epi8, _mm512_set1_ps,
};

use super::portable::read_streams;
use super::{Line, Loop, Loops};

pub(super) const AVX2: Loops = Loops {
    int8: Loop {
        instruction: "vpmaddubsw+vpmaddwd+vpaddd ymm",
        // SAFETY: these loops are chosen only for a detected instruction set.
        run: |rounds| unsafe { int8_avx2(rounds) },
    },
    int8_short: Some(Loop {
        instruction: "vpmaddubsw+vpaddw ymm",
        // SAFETY: as above.
        run: |rounds| unsafe { int8_short_avx2(rounds) },
    }),
    f32: Loop {
        instruction: "vfmadd231ps ymm",
        // SAFETY: as above.
        run: |rounds| unsafe { f32_avx2(rounds) },
    },
};

pub(super) const AVX512: Loops = Loops {
    int8: Loop {
        instruction: "vpdpbusd zmm",
        // SAFETY: these loops are chosen only for a detected instruction set.
        run: |rounds| unsafe { int8_avx512(rounds) },
    },
    int8_short: None,
    f32: Loop {
        instruction: "vfmadd231ps zmm",
        // SAFETY: as above.
        run: |rounds| unsafe { f32_avx512(rounds) },
    },
};

#[target_feature(enable = "avx2")]
pub(super) fn read_avx2(lines: &[Line], streams: usize) -> u64 {
    match streams {
        8 => read_streams::<8>(lines),
        4 => read_streams::<4>(lines),
        _ => read_streams::<1>(lines),
    }
}

#[target_feature(enable = "avx512f")]
pub(super) fn read_avx512(lines: &[Line], streams: usize) -> u64 {
    match streams {
        8 => read_streams::<8>(lines),
        4 => read_streams::<4>(lines),
        _ => read_streams::<1>(lines),
    }
}

/// Operations of a round: multiply-adds of `lanes` pairs in each of `sums` instructions.
const fn operations(sums: u64, lanes: u64) -> u64 {
    2 * sums * lanes
}

#[target_feature(enable = "avx2")]
fn int8_avx2(rounds: u64) -> u64 {
    let (a, b, ones): (__m256i, __m256i, __m256i) =
        (_mm256_set1_epi8(3), _mm256_set1_epi8(-2), _mm256_set1_epi16(1));
    // SAFETY: touches only the registers that are named; `rounds` is at least 1 below.
    unsafe {
        asm!(
            "2:",
            "vpmaddubsw ymm8, ymm13, ymm14",
            "vpmaddubsw ymm9, ymm13, ymm14",
            "vpmaddubsw ymm10, ymm13, ymm14",
            "vpmaddubsw ymm11, ymm13, ymm14",
            "vpmaddwd ymm8, ymm8, ymm15",
            "vpmaddwd ymm9, ymm9, ymm15",
            "vpmaddwd ymm10, ymm10, ymm15",
            "vpmaddwd ymm11, ymm11, ymm15",
            "vpaddd ymm0, ymm0, ymm8",
            "vpaddd ymm1, ymm1, ymm9",
            "vpaddd ymm2, ymm2, ymm10",
            "vpaddd ymm3, ymm3, ymm11",
            "vpmaddubsw ymm8, ymm13, ymm14",
            "vpmaddubsw ymm9, ymm13, ymm14",
            "vpmaddubsw ymm10, ymm13, ymm14",
            "vpmaddubsw ymm11, ymm13, ymm14",
            "vpmaddwd ymm8, ymm8, ymm15",
            "vpmaddwd ymm9, ymm9, ymm15",
            "vpmaddwd ymm10, ymm10, ymm15",
            "vpmaddwd ymm11, ymm11, ymm15",
            "vpaddd ymm4, ymm4, ymm8",
            "vpaddd ymm5, ymm5, ymm9",
            "vpaddd ymm6, ymm6, ymm10",
            "vpaddd ymm7, ymm7, ymm11",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) rounds.max(1) => _,
            in("ymm13") a, in("ymm14") b, in("ymm15") ones,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
            out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _,
            out("ymm10") _, out("ymm11") _,
            options(nomem, nostack),
        );
    }
    operations(8, 32) * rounds
}

#[target_feature(enable = "avx2")]
fn int8_short_avx2(rounds: u64) -> u64 {
    let (a, b): (__m256i, __m256i) = (_mm256_set1_epi8(3), _mm256_set1_epi8(-2));
    // SAFETY: touches only the registers that are named.
    unsafe {
        asm!(
            "2:",
            "vpmaddubsw ymm8, ymm14, ymm15",
            "vpmaddubsw ymm9, ymm14, ymm15",
            "vpmaddubsw ymm10, ymm14, ymm15",
            "vpmaddubsw ymm11, ymm14, ymm15",
            "vpaddw ymm0, ymm0, ymm8",
            "vpaddw ymm1, ymm1, ymm9",
            "vpaddw ymm2, ymm2, ymm10",
            "vpaddw ymm3, ymm3, ymm11",
            "vpmaddubsw ymm8, ymm14, ymm15",
            "vpmaddubsw ymm9, ymm14, ymm15",
            "vpmaddubsw ymm10, ymm14, ymm15",
            "vpmaddubsw ymm11, ymm14, ymm15",
            "vpaddw ymm4, ymm4, ymm8",
            "vpaddw ymm5, ymm5, ymm9",
            "vpaddw ymm6, ymm6, ymm10",
            "vpaddw ymm7, ymm7, ymm11",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) rounds.max(1) => _,
            in("ymm14") a, in("ymm15") b,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
            out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _,
            out("ymm10") _, out("ymm11") _,
            options(nomem, nostack),
        );
    }
    operations(8, 32) * rounds
}

/// A loop of twelve equal instructions, each with a sum of its own.
macro_rules! twelve_sums {
    ($instruction:literal, $register:literal, $rounds:expr, $ra:tt = $a:expr, $rb:tt = $b:expr) => {
        asm!(
            // Sums start at 0: what a register held before may be slow to compute with.
            "vpxor xmm0, xmm0, xmm0",
            "vpxor xmm1, xmm1, xmm1",
            "vpxor xmm2, xmm2, xmm2",
            "vpxor xmm3, xmm3, xmm3",
            "vpxor xmm4, xmm4, xmm4",
            "vpxor xmm5, xmm5, xmm5",
            "vpxor xmm6, xmm6, xmm6",
            "vpxor xmm7, xmm7, xmm7",
            "vpxor xmm8, xmm8, xmm8",
            "vpxor xmm9, xmm9, xmm9",
            "vpxor xmm10, xmm10, xmm10",
            "vpxor xmm11, xmm11, xmm11",
            "2:",
            concat!($instruction, " ", $register, "0, ", $register, "14, ", $register, "15"),
            concat!($instruction, " ", $register, "1, ", $register, "14, ", $register, "15"),
            concat!($instruction, " ", $register, "2, ", $register, "14, ", $register, "15"),
            concat!($instruction, " ", $register, "3, ", $register, "14, ", $register, "15"),
            concat!($instruction, " ", $register, "4, ", $register, "14, ", $register, "15"),
            concat!($instruction, " ", $register, "5, ", $register, "14, ", $register, "15"),
            concat!($instruction, " ", $register, "6, ", $register, "14, ", $register, "15"),
            concat!($instruction, " ", $register, "7, ", $register, "14, ", $register, "15"),
            concat!($instruction, " ", $register, "8, ", $register, "14, ", $register, "15"),
            concat!($instruction, " ", $register, "9, ", $register, "14, ", $register, "15"),
            concat!($instruction, " ", $register, "10, ", $register, "14, ", $register, "15"),
            concat!($instruction, " ", $register, "11, ", $register, "14, ", $register, "15"),
            "dec {n}",
            "jnz 2b",
            n = inout(reg) $rounds.max(1) => _,
            in($ra) $a, in($rb) $b,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
            out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
            out("xmm10") _, out("xmm11") _,
            options(nomem, nostack),
        )
    };
}

#[target_feature(enable = "avx2,fma")]
fn f32_avx2(rounds: u64) -> u64 {
    let (a, b): (__m256, __m256) = (_mm256_set1_ps(1.0), _mm256_set1_ps(1e-9));
    // SAFETY: touches only the registers that are named.
    unsafe { twelve_sums!("vfmadd231ps", "ymm", rounds, "ymm14" = a, "ymm15" = b) };
    operations(12, 8) * rounds
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_avx512(rounds: u64) -> u64 {
    let (a, b): (__m512i, __m512i) = (_mm512_set1_epi8(3), _mm512_set1_epi8(-2));
    // SAFETY: touches only the registers that are named.
    unsafe { twelve_sums!("vpdpbusd", "zmm", rounds, "zmm14" = a, "zmm15" = b) };
    operations(12, 64) * rounds
}

#[target_feature(enable = "avx512f")]
fn f32_avx512(rounds: u64) -> u64 {
    let (a, b): (__m512, __m512) = (_mm512_set1_ps(1.0), _mm512_set1_ps(1e-9));
    // SAFETY: touches only the registers that are named.
    unsafe { twelve_sums!("vfmadd231ps", "zmm", rounds, "zmm14" = a, "zmm15" = b) };
    operations(12, 16) * rounds
}
