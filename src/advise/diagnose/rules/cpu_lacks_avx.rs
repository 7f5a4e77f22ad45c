//! `cpu-lacks-avx`: a release that refuses GPUs on a CPU without AVX.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::LineId;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the CPU has no AVX, which this release asks for before it uses a GPU",
    doc: Doc {
        detects: "The processor, or the one that a virtual machine shows, has no AVX. Releases of \
            Ollama up to early 2025 then use no GPU, and binaries built for AVX stop with an \
            illegal instruction.",
        costs: "The GPU is not used at all, or the runner crashes at once.",
        evidence: "\"CPU does not have AVX or AVX2, disabling GPU support\", \"CPU does not have \
            minimum vector extensions, GPU inference disabled\", or SIGILL when a runner starts.",
        fix: "In a virtual machine: let it show the host's CPU (`host` or `host-passthrough` \
            instead of kvm64 or qemu64). On a real old CPU: Ollama 0.5.8 or newer, whose \
            libraries are chosen at run time, or a llama.cpp built with -DGGML_AVX=OFF \
            -DGGML_AVX2=OFF -DGGML_FMA=OFF -DGGML_F16C=OFF.",
        example: r#"level=WARN source=gpu.go:128 msg="CPU does not have AVX or AVX2, disabling GPU support.""#,
    },
    follows_from: &[],
    check,
};

const ID: &str = "cpu-lacks-avx";

fn check(facts: &Facts) -> Verdict {
    let (notice, impact, confidence) = if let Some(n) = facts.notice("cpu-lacks-avx") {
        (n, Impact::NoGpu, 0.97)
    } else if let Some(n) =
        facts.notice("cpu-no-vector-extensions").filter(|_| facts.without_gpu().is_some())
    {
        (n, Impact::NoGpu, 0.8)
    } else if let Some(line) = illegal_instruction(facts) {
        // AVX2, AVX-512 or F16C can be what is missing as well; the cure is the same.
        return found(facts, line, "", Impact::Failure, 0.75).into();
    } else {
        return Verdict::Clear;
    };
    let detected = notice.fields.get("detected").map_or("", String::as_str);
    found(facts, notice.first, detected, impact, confidence).into()
}

/// The line that says that the runner met an instruction that the CPU does not have.
fn illegal_instruction(facts: &Facts) -> Option<LineId> {
    let failed = facts.loads().find_map(|l| {
        let (line, why) = l.failure()?;
        why.contains("illegal instruction").then_some(line)
    });
    facts.notice("illegal-instruction").map(|n| n.first).or(failed)
}

fn found(facts: &Facts, line: LineId, detected: &str, impact: Impact, confidence: f64) -> Finding {
    let detected =
        if detected.is_empty() { String::new() } else { format!(" (it has {detected})") };
    let title = if impact == Impact::Failure {
        "the runner uses instructions that this CPU does not have".to_string()
    } else {
        format!("the CPU has no AVX{detected}, so this release refuses to use the GPU")
    };
    Finding::problem(ID, impact, confidence, title)
        .because(
            "GPU runners of this release are built with AVX for the part that stays on the CPU, \
                so without AVX none of them can run. The GPU and its driver are not the problem. \
                A virtual machine often hides AVX although the host has it.",
        )
        .seen(Evidence::line(line))
        .seen_if(facts.no_gpu_line().map(Evidence::line))
        .fix(
            Fix::system(
                "virtual machine",
                "set the CPU type to host (Proxmox: cpu: host; libvirt: <cpu \
                    mode='host-passthrough'/>)",
            )
            .why("kvm64 and qemu64 have no AVX", "`grep -c avx /proc/cpuinfo` is not 0"),
        )
        .fix(
            Fix::system("use a newer release", "curl -fsSL https://ollama.com/install.sh | sh")
                .why(
                    "from 0.5.8 on the CPU's library is chosen at run time, and GPUs work without \
                        AVX",
                    "`inference compute` in the log names the GPU",
                ),
        )
        .fix(
            Fix::system(
                "build without AVX",
                "cmake -B build -DGGML_CUDA=ON -DGGML_NATIVE=OFF -DGGML_AVX=OFF -DGGML_AVX2=OFF \
                    -DGGML_FMA=OFF -DGGML_F16C=OFF",
            )
            .why("the part on the CPU is slower, the GPU's is not", "the runner starts"),
        )
}
