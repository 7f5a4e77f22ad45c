//! `rocm-device-permission`: the user of the engine has no right to /dev/kfd or /dev/dri.

use crate::advise::diagnose::facts::{Facts, Host};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::inspect::Vendor;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the engine may not open the AMD GPU's devices",
    doc: Doc {
        detects: "/dev/kfd or the render devices under /dev/dri cannot be opened by the user that \
            the engine runs as.",
        costs: "ROCm and Vulkan find no device and everything runs on the CPU.",
        evidence: "\"permissions not set up properly\", \"failed to check permission on \
            /dev/kfd\", or \"Permission denied\" on /dev/kfd or /dev/dri. A file that is not \
            there at all is a container without devices, or a driver that is not loaded.",
        fix: "Put the user of the service into the groups render and video. In a container give \
            the numeric groups of the host: `--group-add $(getent group render | cut -d: -f3)`.",
        example: "Unable to open /dev/kfd read-write: Permission denied",
    },
    follows_from: &[],
    check,
};

const ID: &str = "rocm-device-permission";

fn check(facts: &Facts) -> Verdict {
    let denied = facts.machine.filter(|m| m.has_gpu(Vendor::Amd)).and_then(|m| {
        let of_amd = |path: &str| path == "/dev/kfd" || path.starts_with("/dev/dri/");
        m.files.iter().find(|f| of_amd(&f.path) && f.may_use == Some(false))
    });
    let evidence = match (facts.notice("rocm-permission"), denied) {
        (Some(notice), _) => Evidence::line(notice.first),
        (None, Some(file)) => Evidence::figure(format!(
            "{} belongs to the group {}, in which this user is not",
            file.path, file.group
        )),
        (None, None) => return Verdict::Clear,
    };
    if facts.ran_on_gpu() {
        return Verdict::Clear;
    }
    let host = Fix::system(
        "add the user to the groups",
        "sudo usermod -aG render,video ollama && sudo systemctl restart ollama    # or your own \
            user",
    )
    .why("/dev/kfd and /dev/dri/renderD* belong to these groups", "`rocminfo` works as that user");
    let container = Fix::system(
        "container",
        "docker run --device /dev/kfd --device /dev/dri --group-add $(getent group render | cut \
            -d: -f3) --group-add video ollama/ollama:rocm",
    )
    .why("the numbers of groups are the host's, their names in the image need not be", "");
    let finding = Finding::problem(
        ID,
        Impact::NoGpu,
        0.95,
        "the engine's user may not open the AMD GPU's devices",
    )
    .because(
        "The driver is loaded and the devices exist, but the user that the engine runs as is not \
            in the groups that may open them.",
    )
    .seen(evidence)
    .seen_if(facts.no_gpu_line().map(Evidence::line));
    if facts.host() == Host::Container {
        finding.fix(container).fix(host).into()
    } else {
        finding.fix(host).fix(container).into()
    }
}
