//! Which instruction set the kernels use: detected once at run time, never assumed at build time.
//!
//! Only x86-64 has kernels of its own. On other processors, 64-bit Arm among them, everything runs on
//! the portable reference: correct, and slow.

use std::fmt;
use std::sync::OnceLock;

/// The instruction sets that have kernels of their own, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Portable Rust: the reference for all others.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 (F, BW, VL, DQ) with VNNI, on top of [`Isa::Avx2`].
    Avx512Vnni,
}

impl Isa {
    /// The best set that this processor has; found once. `GPUWHY_CPU_ISA` (`scalar`, `avx2`,
    /// `avx512`) picks a weaker one, for comparing them.
    pub fn detect() -> Self {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let best = Self::available().last().copied().unwrap_or(Self::Scalar);
            let wanted = std::env::var("GPUWHY_CPU_ISA").ok();
            let wanted = wanted.as_deref().and_then(Self::from_name);
            wanted.map_or(best, |isa| isa.min(best))
        })
    }

    /// Every set that this processor has, weakest first; tests run each kernel on all of them.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "other architectures have only the reference")]
        let mut found = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni");
            if avx2 {
                found.push(Self::Avx2);
                if avx512 {
                    found.push(Self::Avx512Vnni);
                }
            }
        }
        found
    }

    /// The set with this name, as `GPUWHY_CPU_ISA` takes it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "scalar" => Some(Self::Scalar),
            "avx2" => Some(Self::Avx2),
            "avx512" => Some(Self::Avx512Vnni),
            _ => None,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "AVX2+FMA+F16C",
            Self::Avx512Vnni => "AVX-512+VNNI",
        })
    }
}
