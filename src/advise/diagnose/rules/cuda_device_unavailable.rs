//! `cuda-device-unavailable`: the driver works, and refuses to hand out the GPU.

use crate::advise::diagnose::facts::{Facts, Host};
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
            a stub library\"). Other codes with which the driver's start ends (101, 205, 304, 500 \
            and more) say that driver and device do not work together for any program.",
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
    let Some(notice) = facts.any_notice(&states) else { return does_not_start(facts) };
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

/// A code that has no rule of its own: what it means, and how to see that other programs fail, too.
fn does_not_start(facts: &Facts) -> Verdict {
    let Some(notice) = facts.notice("cuda-driver-does-not-start") else { return Verdict::Clear };
    if facts.ran_on_gpu() {
        return Verdict::Clear;
    }
    let code = notice.fields.get("code").map_or("", String::as_str);
    let meaning = match code {
        "1" | "101" | "201" => "it was given a device that does not exist",
        "2" => "it could not get memory, of the host or of the GPU",
        "205" => "it could not map memory of the device",
        "214" => "the GPU's memory has errors that cannot be corrected",
        "222" => "it cannot compile code of this version",
        "300" | "301" | "302" | "303" => "a file that it needs is missing or broken",
        "304" => "a call to the system failed, most often opening a device file",
        "500" => "a function that it needs is not there: its parts are of different versions",
        "700" | "702" | "719" => "the GPU stopped in the middle of a program",
        "801" => "this system or card does not support it",
        "805" => "the service that shares the GPU (MPS) does not answer",
        _ => "see CUresult in NVIDIA's documentation",
    };
    let container = facts.host() != Host::Native;
    let place = if container {
        " In a container the files of the driver come from the host, where the toolkit finds them: \
            copies of another version in the image, or devices that were not passed in, end so as well."
    } else {
        ""
    };
    let title = format!("the NVIDIA driver does not start (error {code}): {meaning}");
    let why = format!(
        "The engine found the driver's library and called it; the call failed with code {code}. That is \
            between the driver, the kernel module and the device: no setting of the engine changes it.\
            {place}"
    );
    let look = "nvidia-smi; ls -l /dev/nvidia*; sudo dmesg | grep -iE 'nvrm|xid' | tail";
    let found = Finding::problem(ID, Impact::NoGpu, 0.75, title)
        .because(why)
        .seen(Evidence::line(notice.first))
        .seen_if(facts.no_gpu_line().map(Evidence::line));
    let found = if container {
        found.fix(
            Fix::system(
                "compare the driver inside and outside",
                "docker exec CONTAINER sh -c 'ls -l /usr/lib/*/libcuda.so.*; nvidia-smi'; \
                    cat /proc/driver/nvidia/version",
            )
            .why("one version must be in both, and libcuda.so once", "CUDA starts"),
        )
    } else {
        found
    };
    found
        .fix(
            Fix::system("see whether the driver works at all", look)
                .why("errors of the kernel module (NVRM, Xid) name the fault", "no error"),
        )
        .fix(
            Fix::system("restart", "sudo reboot")
                .why("module and library are then of one version and the device is reset", ""),
        )
        .into()
}
