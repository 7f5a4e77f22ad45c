//! `cuda-device-unavailable`: the driver works, and refuses to hand out the GPU.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the driver says that the GPU cannot be used now",
    doc: Doc {
        detects: "CUDA finds the driver and the GPU, and the driver refuses to let a program use \
            it: exclusive use, a system that is not ready, or a stand-in library in place of the \
            driver's.",
        costs: "Everything runs on the CPU.",
        evidence: "CUDA error 46 (\"all CUDA-capable devices are busy or unavailable\"), 802 \
            (\"system not yet initialized\", on machines with NVSwitch), or 34 (\"CUDA driver is \
            a stub library\").",
        fix: "46: `nvidia-smi -c 0` (the mode is exclusive), or stop the program that has the \
            GPU; with MIG make an instance. 802: start the fabric manager of the driver's \
            version. 34: take the folder `stubs` of the CUDA toolkit out of LD_LIBRARY_PATH.",
        example: "ggml_cuda_init: failed to initialize CUDA: all CUDA-capable devices are busy or \
            unavailable",
    },
    follows_from: &[],
    check,
};

const ID: &str = "cuda-device-unavailable";

fn check(facts: &Facts) -> Verdict {
    let states = ["cuda-device-busy", "cuda-system-not-ready", "cuda-stub-library"];
    let Some(notice) = facts.any_notice(&states) else { return Verdict::Clear };
    let (title, why, fix) = match notice.id.as_str() {
        "cuda-device-busy" => (
            "the GPU is set to exclusive use, or another program has it for itself (error 46)",
            "In the mode EXCLUSIVE_PROCESS one program at a time may use the GPU; in PROHIBITED \
                none. A GPU in MIG mode without an instance answers the same.",
            Fix::system(
                "see and change the mode",
                "nvidia-smi -q -d COMPUTE; sudo nvidia-smi -c 0",
            )
            .why("0 is the default: several programs share the GPU", "CUDA starts"),
        ),
        "cuda-system-not-ready" => (
            "the machine's GPU fabric is not started (error 802)",
            "On machines with NVSwitch (HGX, DGX) CUDA waits for the fabric manager, a service \
                whose version must be that of the driver.",
            Fix::system(
                "start the fabric manager",
                "sudo systemctl enable --now nvidia-fabricmanager; systemctl status \
                    nvidia-fabricmanager",
            )
            .why("it connects the GPUs, without it none can be used", "CUDA starts"),
        ),
        _ => (
            "the CUDA library that is loaded is the toolkit's stand-in, not the driver's (error \
                34)",
            "The toolkit brings a libcuda without content, to link against. When its folder is on \
                the library path, programs load it instead of the driver's.",
            Fix::system(
                "take it off the path",
                "echo $LD_LIBRARY_PATH; ldconfig -p | grep libcuda.so",
            )
            .why("no folder named stubs may be before the driver's", "CUDA starts"),
        ),
    };
    Finding::problem(ID, Impact::NoGpu, 0.92, title)
        .because(why)
        .seen(Evidence::line(notice.first))
        .seen_if(facts.no_gpu_line().map(Evidence::line))
        .fix(fix)
        .into()
}
