//! `container-no-gpu-access`: an engine that sees no GPU and no error, because it was given none.

use crate::advise::diagnose::facts::{Facts, Host};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::remedy;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::inspect::{Inspection, Vendor};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the container has no access to the GPU",
    doc: Doc {
        detects: "The engine looks for a GPU, meets no error, and finds none: the usual state of \
            a container that was started without GPU devices.",
        costs: "Everything runs on the CPU.",
        evidence: "No GPU is found and no message says why: a driver that fails would say so. \
            Certain when docker says that it has no device driver, or when ROCm misses /dev/kfd \
            in a container; likely when paths and addresses are those of the image. On a machine \
            without a GPU the log looks the same. An engine that is installed on the machine \
            itself is no-gpu-found.",
        fix: "NVIDIA: install the container toolkit and start with `--gpus=all`, or a `devices` \
            reservation in compose; variables like NVIDIA_VISIBLE_DEVICES alone pass nothing in. \
            AMD: `--device /dev/kfd --device /dev/dri` and the image `ollama/ollama:rocm`. On \
            macOS containers have no GPU: use the native app.",
        example: r#"level=INFO source=gpu.go:377 msg="no compatible GPUs were discovered"
level=INFO source=types.go:130 msg="inference compute" id=0 library=cpu"#,
    },
    follows_from: &[
        "gpu-backend-library-missing",
        "build-without-gpu-support",
        "invalid-library-override",
        "setting-disables-gpu",
    ],
    check,
};

const ID: &str = "container-no-gpu-access";

fn check(facts: &Facts) -> Verdict {
    if let Some((amd, text)) = facts.machine.and_then(no_device_files) {
        return found(facts, 0.9, Evidence::figure(text), amd).into();
    }
    if let Some(notice) = facts.notice("container-runtime-without-gpu") {
        return found(facts, 0.95, Evidence::line(notice.first), false).into();
    }
    let host = facts.host();
    if let Some(notice) = facts.notice("kfd-missing").filter(|_| host != Host::Native) {
        return found(facts, 0.85, Evidence::line(notice.first), true).into();
    }
    if facts.ran_on_gpu() || facts.gpus().next().is_some() {
        return Verdict::Clear;
    }
    // A driver library that finds no device: it was mounted without the device files.
    let no_device = facts.any_notice(&["cuda-no-device", "rocm-no-device"]);
    let others = ["rocm-library-missing", "rocm-library-unusable", "rocm-permission"];
    if let Some(notice) = no_device.filter(|_| host != Host::Native) {
        if facts.any_notice(&others).is_some() {
            return Verdict::Clear;
        }
        let confidence = if host == Host::Container { 0.75 } else { 0.5 };
        let amd = notice.id == "rocm-no-device";
        return found(facts, confidence, Evidence::line(notice.first), amd).into();
    }
    let Some(line) = facts.no_gpu_line() else { return Verdict::Clear };
    // An installed service: whether its machine has a GPU is the question of no-gpu-found.
    if facts.gpu_error().is_some() || host == Host::Native {
        return Verdict::Clear;
    }
    // Nothing tells a container from a machine without a driver; who asks has a GPU, and the
    // image is the most common way to run the engine without a driver in sight.
    let confidence = if host == Host::Container { 0.8 } else { 0.5 };
    found(facts, confidence, Evidence::line(line), false).into()
}

fn found(facts: &Facts, confidence: f64, evidence: Evidence, amd: bool) -> Finding {
    let certain = confidence > 0.7;
    let title = if certain {
        "the container has no access to the GPU"
    } else {
        "no GPU is visible to the engine, and no error says why: in a container, none was passed \
            in"
    };
    let why = "The engine found no driver library and no device, and that is no error to it: it \
        then computes on the CPU. In a container this means that the GPU was not passed in. \
        Outside of one, the driver is not installed or not running.";
    let found = Finding::problem(ID, Impact::NoGpu, confidence, title).because(why).seen(evidence);
    let found = found.seen_if(facts.no_gpu_line().map(Evidence::line));
    let check = Fix::system(
        "see what the container has",
        "docker exec CONTAINER sh -c 'nvidia-smi; ls -l /dev/kfd /dev/dri /dev/nvidia*'",
    )
    .why("it tells whether devices or only libraries are missing", "");
    if amd {
        return found.fix(remedy::container_amd()).fix(check);
    }
    found.fix_all(remedy::container_nvidia()).fix(remedy::container_amd()).fix(check)
}

/// A container that shows a GPU on the bus but was given no device file of it: whether it is AMD's, and
/// the evidence.
fn no_device_files(machine: &Inspection) -> Option<(bool, String)> {
    let container = machine.container?;
    let lacks =
        |vendor: Vendor, file: &str| machine.has_gpu(vendor) && machine.file(file).is_none();
    let (vendor, file) = if lacks(Vendor::Nvidia, "/dev/nvidiactl") {
        (Vendor::Nvidia, "/dev/nvidiactl")
    } else if lacks(Vendor::Amd, "/dev/kfd") {
        (Vendor::Amd, "/dev/kfd")
    } else {
        return None;
    };
    let name = vendor.name();
    let text = format!(
        "the bus shows a GPU of {name}, but {file} is not there, in a container of {container}"
    );
    Some((vendor == Vendor::Amd, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::inspect::{DeviceFile, PciGpu};
    use crate::observe::logs::LogSession;

    fn machine() -> Inspection {
        let gpu =
            PciGpu { address: "0000:01:00.0".to_string(), vendor: Vendor::Nvidia, driver: None };
        Inspection { container: Some("Docker"), gpus: vec![gpu], ..Inspection::default() }
    }

    fn finds(machine: &Inspection) -> bool {
        let log = LogSession::default();
        let facts = Facts { machine: Some(machine), ..Facts::of_log(&log) };
        check(&facts).finding().is_some()
    }

    #[test]
    fn a_container_without_the_gpus_files_is_found() {
        let mut machine = machine();
        assert!(finds(&machine));
        let path = "/dev/nvidiactl".to_string();
        machine.files = vec![DeviceFile { path, may_use: Some(true), group: String::new() }];
        assert!(!finds(&machine));
    }

    #[test]
    fn a_machine_and_a_container_without_gpu_are_not_meant() {
        assert!(!finds(&Inspection { container: None, ..machine() }));
        assert!(!finds(&Inspection { gpus: Vec::new(), ..machine() }));
    }
}
