//! `rocm-gfx-unsupported`: the target of an AMD GPU is not among those that the libraries are built
//! for.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::fix_env;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Engine, LibraryKind, Notice, Version};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "ROCm has no code for this AMD GPU",
    doc: Doc {
        detects: "The target of the AMD GPU (gfx1103, gfx1010, ...) is not among those that the \
            ROCm libraries of the engine have kernels for.",
        costs: "The GPU is passed over, or a load fails in rocBLAS or in the first kernel.",
        evidence: "\"amdgpu is not supported\" with a target and a list without it, \"amdgpu too \
            old\", \"no rocblas support for gfx target\", a rocBLAS that cannot read its kernels \
            for an architecture, hipErrorNoBinaryForGpu, or \"invalid device function\" of ROCm. \
            An empty list means that the kernels are missing altogether: see \
            rocm-runtime-dep-missing.",
        fix: "HSA_OVERRIDE_GFX_VERSION with a supported target of the same generation, written \
            x.y.z: 10.3.0 for gfx1031 to gfx1036, 11.0.0 for gfx1103. It works when the \
            instruction sets agree; between generations it does not. Otherwise Vulkan: \
            OLLAMA_VULKAN=1 from 0.12.11 on, -DGGML_VULKAN=ON for llama.cpp.",
        example: r#"level=WARN source=amd_linux.go:378 msg="amdgpu is not supported (supported types:[gfx1030 gfx1100 gfx1101])" gpu_type=gfx1036 gpu=0 library=/usr/lib/ollama/rocm"#,
    },
    follows_from: &["rocm-device-permission"],
    check,
};

const ID: &str = "rocm-gfx-unsupported";

fn check(facts: &Facts) -> Verdict {
    if let Some(notice) = facts.notice("rocm-gfx-unsupported") {
        let field = |name: &str| notice.fields.get(name).map_or("", String::as_str);
        let supported = targets(field("supported"));
        // An empty list says that no kernels were found at all; then the target may be fine.
        let empty = notice.fields.contains_key("supported") && supported.is_empty();
        let confidence = match (empty, USUAL.contains(&field("gfx"))) {
            (false, _) => 0.95,
            (true, false) => 0.65,
            (true, true) => 0.45,
        };
        return found(facts, notice, field("gfx"), &supported, confidence).into();
    }
    // A GPU that was seen, and taken off the list for every library.
    let removed = facts.notice("gpu-combination-removed").filter(|n| {
        let none = facts.no_gpu_line().is_some() && facts.gpus().next().is_none();
        none && n.fields.get("gfx").is_some_and(|g| g.starts_with("gfx"))
    });
    if let Some(notice) = removed {
        let gfx = notice.fields.get("gfx").map_or("", String::as_str);
        return found(facts, notice, gfx, &[], 0.8).into();
    }
    if let Some(notice) = facts.notice("rocm-no-code-object") {
        return found(facts, notice, gfx_of_device(facts), &[], 0.85).into();
    }
    let function = facts.notice("cuda-invalid-device-function");
    // Before August 2024 the message says CUDA on AMD as well; the devices tell.
    let amd = facts.gpus().any(|d| d.library == Some(LibraryKind::Rocm));
    match function.filter(|n| amd || n.fields.get("library").is_some_and(|l| l == "ROCm")) {
        Some(notice) => found(facts, notice, gfx_of_device(facts), &[], 0.85).into(),
        None => Verdict::Clear,
    }
}

/// Targets that official builds have had kernels for since 2024.
const USUAL: &[&str] = &[
    "gfx908", "gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1101", "gfx1102", "gfx1151", "gfx1200",
    "gfx1201",
];

fn gfx_of_device<'a>(facts: &Facts<'a>) -> &'a str {
    facts.gpus().find_map(|d| d.compute.as_deref()).filter(|c| c.starts_with("gfx")).unwrap_or("")
}

fn targets(list: &str) -> Vec<&str> {
    list.split([' ', ',', '[', ']', '"']).filter(|t| t.starts_with("gfx")).collect()
}

/// Generation, minor and stepping: gfx1036 is 10, 3 and 6; the last two digits are hexadecimal.
fn parts(gfx: &str) -> Option<(u32, u32, u32)> {
    let digits = gfx.strip_prefix("gfx")?;
    let (major, rest) = digits.split_at_checked(digits.len().checked_sub(2)?)?;
    let (minor, stepping) = rest.split_at_checked(1)?;
    let hex = |t: &str| u32::from_str_radix(t, 16).ok();
    Some((major.parse().ok()?, hex(minor)?, hex(stepping)?))
}

/// The supported target whose kernels a GPU can most likely run: same generation and minor, the
/// highest stepping that is not above it. Without a list, the ones that official builds have.
fn stand_in<'a>(gfx: &str, supported: &[&'a str]) -> Option<&'a str> {
    let (major, minor, stepping) = parts(gfx)?;
    let known: &[&str] = if supported.is_empty() { USUAL } else { supported };
    let same = known.iter().copied().filter_map(|t| Some((t, parts(t)?)));
    let near = same
        .filter(|(t, (ma, mi, st))| (*ma, *mi) == (major, minor) && *st <= stepping && *t != gfx);
    near.max_by_key(|(_, p)| p.2).map(|(t, _)| t)
}

fn dotted(gfx: &str) -> Option<String> {
    parts(gfx).map(|(major, minor, stepping)| format!("{major}.{minor}.{stepping}"))
}

fn found(
    facts: &Facts,
    notice: &Notice,
    gfx: &str,
    supported: &[&str],
    confidence: f64,
) -> Finding {
    // rocBLAS ends the program when it has no kernels; discovery only leaves the GPU out.
    let rocblas = notice.fields.get("library").is_some_and(|l| l.contains("Tensile"));
    let left_out = ["rocm-gfx-unsupported", "gpu-combination-removed"];
    let fails = rocblas || !left_out.contains(&notice.id.as_str());
    let impact = match (fails, facts.ran_on_gpu()) {
        (true, _) => Impact::Failure,
        (false, true) => Impact::Risk,
        (false, false) => Impact::NoGpu,
    };
    let name = if gfx.is_empty() { "this AMD GPU" } else { gfx };
    let list = if supported.is_empty() {
        String::new()
    } else {
        format!(" It has kernels for {}.", supported.join(", "))
    };
    let mut finding = Finding::problem(
        ID,
        impact,
        confidence,
        format!("ROCm in this build has no kernels for {name}"),
    )
    .because(format!(
        "The libraries carry compiled kernels for a list of AMD targets only, and {name} is not \
            on it.{list} The driver and the card are not at fault."
    ))
    .seen(Evidence::line(notice.first))
    .seen_if(facts.no_gpu_line().map(Evidence::line));
    let version = facts.version();
    if let Some(over) = facts.notice("rocm-gfx-override") {
        let value = over.fields.get("value").map_or("", String::as_str);
        if value.starts_with("gfx") {
            finding = finding.seen(Evidence::said(
                over.first,
                format!("HSA_OVERRIDE_GFX_VERSION={value} cannot be read: it is written x.y.z"),
            ));
        }
    }
    // The HIP of Windows does not read the variable.
    let windows = facts.runs_on("windows") == Some(true);
    if let Some(target) = stand_in(gfx, supported).filter(|_| !windows) {
        let value = dotted(target).unwrap_or_default();
        finding = finding.fix(fix_env(version, "HSA_OVERRIDE_GFX_VERSION", value).why(
            format!("{gfx} then uses the kernels of {target}, of the same generation"),
            "`inference compute` in the log names the GPU; if a load crashes, take it out again",
        ));
    }
    let llama_cpp = facts.log.engine == Engine::LlamaCpp;
    if facts.ollama_since(Version(0, 30, 0)) != Some(true) && !llama_cpp {
        finding = finding.fix(
            fix_env(version, "OLLAMA_VULKAN", "1")
                .why("Vulkan does not need kernels for a target", "a Vulkan device in the log"),
        );
    }
    finding.fix(
        Fix::system("llama.cpp", "cmake -B build -DGGML_VULKAN=ON && cmake --build build -j")
            .why("runs on any GPU with Vulkan 1.2", "`llama-server --list-devices` lists Vulkan0"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_is_of_the_same_generation_and_not_newer() {
        let list = ["gfx1030", "gfx1100", "gfx1101", "gfx906"];
        assert_eq!(stand_in("gfx1036", &list), Some("gfx1030"));
        assert_eq!(stand_in("gfx1103", &list), Some("gfx1101"));
        assert_eq!(stand_in("gfx1010", &list), None);
        assert_eq!(stand_in("gfx1031", &[]), Some("gfx1030"));
        assert_eq!(dotted("gfx90a").as_deref(), Some("9.0.10"));
        assert_eq!(dotted("gfx1101").as_deref(), Some("11.0.1"));
    }
}
