//! Which instruction set the kernels use: detected once at run time, never assumed at build time.
//!
//! x86-64 and 64-bit Arm have kernels of their own. On other processors, and on those of the two
//! that lack the extensions below, everything runs on the portable reference: correct, and slow.
//!
//! `GPUWHY_CPU_ISA` picks a weaker set than the best. What it asks for in vain is never silent: see
//! [`Isa::complaint`].

use std::fmt;
use std::sync::OnceLock;

/// The variable that picks a set by name.
const VARIABLE: &str = "GPUWHY_CPU_ISA";

/// The instruction sets that have kernels of their own; weakest first within an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Portable Rust: the reference for all others.
    Scalar,
    /// x86-64: AVX2 with FMA and F16C.
    Avx2,
    /// x86-64: AVX-512 (F, BW, VL, DQ) with VNNI, on top of [`Isa::Avx2`].
    Avx512Vnni,
    /// 64-bit Arm: NEON with the dot product instruction. Conversion from and to F16 is a part of
    /// every NEON.
    NeonDot,
}

/// What was decided when it was first asked for.
struct Choice {
    isa: Isa,
    complaint: Option<String>,
}

impl Isa {
    /// The set in use, decided once: the best that this processor has, or the weaker one that
    /// `GPUWHY_CPU_ISA` names (`scalar`, `avx2`, `avx512`, `neon`), for comparing them.
    pub fn detect() -> Self {
        Self::choice().isa
    }

    /// What is wrong with `GPUWHY_CPU_ISA`, in words: the value, what it could be on this machine,
    /// and what is used instead. `None` when it is right or not set.
    pub fn complaint() -> Option<&'static str> {
        Self::choice().complaint.as_deref()
    }

    fn choice() -> &'static Choice {
        static CHOICE: OnceLock<Choice> = OnceLock::new();
        CHOICE.get_or_init(|| {
            let wanted = std::env::var_os(VARIABLE);
            let wanted = wanted.as_ref().map(|value| value.to_string_lossy());
            Self::choose(wanted.as_deref(), &Self::available())
        })
    }

    /// What to use when `wanted` is asked for and `available` is there, weakest first. An empty
    /// value is none.
    fn choose(wanted: Option<&str>, available: &[Self]) -> Choice {
        let best = available.last().copied().unwrap_or(Self::Scalar);
        let Some(wanted) = wanted.filter(|name| !name.is_empty()) else {
            return Choice { isa: best, complaint: None };
        };
        let problem = match Self::from_name(wanted) {
            Some(isa) if available.contains(&isa) => return Choice { isa, complaint: None },
            Some(_) => "is not what this processor has",
            None => "is no instruction set",
        };
        let names: Vec<&str> = available.iter().map(|isa| isa.name()).collect();
        let complaint = format!(
            "{VARIABLE}={wanted} {problem}; here it can be {}; using {}",
            names.join(", "),
            best.name()
        );
        Choice { isa: best, complaint: Some(complaint) }
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
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected;
            if is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod") {
                found.push(Self::NeonDot);
            }
        }
        found
    }

    /// The set with this name, as `GPUWHY_CPU_ISA` takes it.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Scalar, Self::Avx2, Self::Avx512Vnni, Self::NeonDot];
        all.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name))
    }

    /// The name that `GPUWHY_CPU_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512",
            Self::NeonDot => "neon",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "AVX2+FMA+F16C",
            Self::Avx512Vnni => "AVX-512+VNNI",
            Self::NeonDot => "NEON+DotProd",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx512Vnni];
    const ARM: [Isa; 2] = [Isa::Scalar, Isa::NeonDot];

    fn chosen(wanted: Option<&str>, available: &[Isa]) -> (Isa, Option<String>) {
        let choice = Isa::choose(wanted, available);
        (choice.isa, choice.complaint)
    }

    #[test]
    fn without_a_wish_the_best_set_is_used() {
        assert_eq!(chosen(None, &X86), (Isa::Avx512Vnni, None));
        assert_eq!(chosen(Some(""), &ARM), (Isa::NeonDot, None));
        assert_eq!(chosen(None, &[]), (Isa::Scalar, None));
    }

    #[test]
    fn a_set_that_is_there_can_be_picked_by_name() {
        for isa in X86 {
            assert_eq!(chosen(Some(isa.name()), &X86), (isa, None));
        }
        assert_eq!(chosen(Some("NEON"), &ARM), (Isa::NeonDot, None));
        assert_eq!(chosen(Some("scalar"), &ARM), (Isa::Scalar, None));
    }

    #[test]
    fn a_wish_in_vain_is_told_with_what_is_possible_and_what_is_used() {
        let (isa, complaint) = chosen(Some("avx3"), &X86);
        assert_eq!(isa, Isa::Avx512Vnni);
        let told = "GPUWHY_CPU_ISA=avx3 is no instruction set; here it can be scalar, avx2, avx512; \
                    using avx512";
        assert_eq!(complaint.as_deref(), Some(told));
        let (isa, complaint) = chosen(Some("avx2"), &ARM);
        assert_eq!(isa, Isa::NeonDot);
        let told = "GPUWHY_CPU_ISA=avx2 is not what this processor has; here it can be scalar, neon; \
                    using neon";
        assert_eq!(complaint.as_deref(), Some(told));
    }

    #[test]
    fn every_set_of_this_machine_has_a_name_of_its_own() {
        let available = Isa::available();
        assert_eq!(available[0], Isa::Scalar);
        for isa in available {
            assert_eq!(Isa::from_name(isa.name()), Some(isa));
        }
    }

    /// Where the suite is meant to prove the kernels of a set, it must not pass because the set is
    /// missing: `GPUWHY_TEST_ISA` names one that has to be there.
    #[test]
    fn the_set_that_the_suite_is_run_for_is_there() {
        if let Some(name) = std::env::var_os("GPUWHY_TEST_ISA") {
            let name = name.to_string_lossy();
            let isa = Isa::from_name(&name).expect("GPUWHY_TEST_ISA names an instruction set");
            assert!(Isa::available().contains(&isa), "{isa} is not available here");
        }
    }
}
