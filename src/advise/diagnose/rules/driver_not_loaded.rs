//! `driver-not-loaded`: the kernel has not loaded the GPU's driver.

use crate::advise::diagnose::facts::{Facts, Host};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the GPU's driver is not running",
    doc: Doc {
        detects: "The kernel module of the GPU's driver is not loaded, so no program can see the \
            GPU.",
        costs: "Everything runs on the CPU.",
        evidence: "\"couldn't communicate with the NVIDIA driver\", NVML's \"Driver Not Loaded\" \
            (its error 9), or a container tool that says that the driver is not loaded. A missing \
            /dev/kfd outside a container is the same for AMD.",
        fix: "Load or install the driver. After an update of the kernel the module must be built \
            again (DKMS); with Secure Boot it must be signed, or the kernel refuses it.",
        example: r"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
    },
    follows_from: &[],
    check,
};

const ID: &str = "driver-not-loaded";

fn check(facts: &Facts) -> Verdict {
    let by_tool = facts
        .notice("container-runtime-failed")
        .filter(|n| n.fields.get("error").is_some_and(|e| e.contains("driver not loaded")));
    let kfd = facts.notice("kfd-missing").filter(|_| facts.host() == Host::Native);
    let Some(notice) = facts.notice("nvidia-driver-not-loaded").or(by_tool).or(kfd) else {
        return Verdict::Clear;
    };
    let amd = notice.id == "kfd-missing";
    let (name, module) = if amd { ("AMD", "amdgpu") } else { ("NVIDIA", "nvidia") };
    Finding::problem(
        ID,
        Impact::NoGpu,
        0.9,
        format!("the {name} driver is not running: its kernel module is not loaded"),
    )
    .because(
        "No program can reach the GPU while the kernel has no driver for it. After an update of \
            the kernel the module may not have been built, or Secure Boot may have refused it.",
    )
    .seen(Evidence::line(notice.first))
    .seen_if(facts.without_gpu().map(Evidence::line))
    .fix(
        Fix::system("load it", format!("sudo modprobe {module}; sudo dmesg | tail -n 20"))
            .why("the kernel says why it refuses the module, if it does", "`lsmod` lists it"),
    )
    .fix(
        Fix::system("build it for this kernel", "sudo dkms autoinstall && sudo reboot")
            .why("a new kernel needs the module built anew", "`nvidia-smi` works"),
    )
    .into()
}
