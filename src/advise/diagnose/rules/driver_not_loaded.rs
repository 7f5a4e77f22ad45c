//! `driver-not-loaded`: the kernel has not loaded the GPU's driver.

use crate::advise::diagnose::facts::{Facts, Host};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::counter::Source;
use crate::base::event::{Absent, AbsentReason};
use crate::observe::inspect::{Inspection, Vendor};
use crate::observe::session::Session;

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
            /dev/kfd outside a container is the same for AMD. Where the machine is watched, the answer of \
            NVML itself.",
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
        let inspected = facts.machine.and_then(inspected);
        return inspected.or_else(|| facts.live.and_then(watched)).into();
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
    .fix_all(fixes(module))
    .into()
}

fn fixes(module: &str) -> [Fix; 2] {
    [
        Fix::system("load it", format!("sudo modprobe {module}; sudo dmesg | tail -n 20"))
            .why("the kernel says why it refuses the module, if it does", "`lsmod` lists it"),
        Fix::system("build it for this kernel", "sudo dkms autoinstall && sudo reboot")
            .why("a new kernel needs the module built anew", "`nvidia-smi` works"),
    ]
}

/// A GPU on the bus that no driver for compute has; in a container the host's modules show as well.
fn inspected(machine: &Inspection) -> Option<Finding> {
    let gpu = machine.gpus.iter().find(|g| {
        let module = g.vendor.module();
        let other = g.driver.as_deref().is_some_and(|d| d != module && d != "nouveau");
        g.vendor != Vendor::Intel && !other && machine.has_module(module) == Some(false)
            // A driver that is built into the kernel is no module.
            && g.driver.as_deref() != Some(module)
    })?;
    let (name, module) = (gpu.vendor.name(), gpu.vendor.module());
    let instead = match gpu.driver.as_deref() {
        Some(other) => format!("the kernel's driver for it is {other}, which cannot compute"),
        None => "no driver of the kernel has it".to_string(),
    };
    let finding = Finding::problem(
        ID,
        Impact::NoGpu,
        0.9,
        format!("the {name} driver is not running: its kernel module is not loaded"),
    )
    .because(format!(
        "There is a GPU of {name} on the bus, and {instead}. No program can reach it. After an update of \
         the kernel the module may not have been built, or Secure Boot may have refused it."
    ))
    .seen(Evidence::figure(format!("GPU at {}: {instead}", gpu.address)))
    .fix_all(fixes(module));
    Some(finding)
}

/// NVML is installed but finds no driver, or one of another version.
fn watched(session: &Session) -> Option<Finding> {
    let absent = session.absent.get(&(Source::Nvml, None, None))?;
    match absent.reason {
        AbsentReason::DriverNotLoaded => Some(told(
            absent,
            "the NVIDIA driver is not running: its kernel module is not loaded",
            &fixes("nvidia"),
        )),
        AbsentReason::VersionMismatch => Some(told(
            absent,
            "the NVIDIA driver in the kernel is of another version than its libraries",
            &[Fix::system("load the new one", "sudo reboot").why(
                "the module in the kernel is the one from before the update",
                "`nvidia-smi` works",
            )],
        )),
        _ => None,
    }
}

fn told(absent: &Absent, title: &str, fixes: &[Fix]) -> Finding {
    Finding::problem(ID, Impact::NoGpu, 0.85, title)
        .because(format!(
            "The driver's library is installed, so a GPU is meant, but no program can reach it. {}",
            absent.hint
        ))
        .seen(Evidence::figure(absent.text.clone()))
        .fix_all(fixes.iter().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::Scene;

    #[test]
    fn a_library_without_its_driver_is_found() {
        for (reason, found) in [
            (AbsentReason::DriverNotLoaded, true),
            (AbsentReason::VersionMismatch, true),
            (AbsentReason::LibraryMissing, false),
            (AbsentReason::NoDevice, false),
        ] {
            let mut scene = Scene::new();
            scene.absent(Source::Nvml, None, reason);
            assert_eq!(check(&scene.facts()).finding().is_some(), found, "{reason:?}");
        }
    }

    #[test]
    fn a_gpu_on_the_bus_without_its_module_is_found() {
        use crate::observe::inspect::PciGpu;
        use crate::observe::logs::LogSession;
        let finds = |vendor, driver: Option<&str>, modules: &[&str]| {
            let address = "0000:01:00.0".to_string();
            let driver = driver.map(ToString::to_string);
            let machine = Inspection {
                gpus: vec![PciGpu { address, vendor, driver }],
                modules: Some(modules.iter().map(ToString::to_string).collect()),
                ..Inspection::default()
            };
            let log = LogSession::default();
            let facts = Facts { machine: Some(&machine), ..Facts::of_log(&log) };
            check(&facts).finding().is_some()
        };
        assert!(finds(Vendor::Nvidia, None, &[]));
        assert!(finds(Vendor::Nvidia, Some("nouveau"), &["nouveau"]));
        assert!(!finds(Vendor::Nvidia, Some("nvidia"), &["nvidia"]));
        assert!(!finds(Vendor::Nvidia, Some("vfio-pci"), &[]), "a virtual machine has it");
        assert!(!finds(Vendor::Amd, Some("amdgpu"), &[]), "it is built in");
        assert!(!finds(Vendor::Intel, None, &[]));
    }
}
