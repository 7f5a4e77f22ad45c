//! `no-gpu-found`: an engine on the machine itself that sees no GPU and no error.

use crate::advise::diagnose::facts::{Facts, Host};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::advise::diagnose::settle;
use crate::base::counter::Source;
use crate::base::event::AbsentReason;
use crate::observe::logs::LineId;
use crate::observe::session::Session;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the engine finds no GPU on this machine",
    doc: Doc {
        detects: "An engine that is installed on the machine looks for a GPU, meets no error, and \
            finds none.",
        costs: "Everything runs on the CPU.",
        evidence: "The server says that it computes on the CPU, no message says why, and paths \
            show that it does not run in a container. That is a finding when something shows that a \
            GPU is meant: a driver's library that lists no device, or a setting that is for GPUs. \
            Without any of that the log does not tell whether the machine has a GPU, and on one \
            that has none all is as it should be: the report asks. Of a machine that is watched: a driver's \
            library that is missing or lists no device is no fault by itself.",
        fix: "See whether the driver works at all (`nvidia-smi`, `rocminfo`, `vulkaninfo \
            --summary`); install it where it does not. NVIDIA: the proprietary or open NVIDIA \
            driver, not nouveau. AMD: ROCm supports some cards only; others work with Vulkan.",
        example: r#"level=INFO source=types.go:60 msg="inference compute" id=cpu library=cpu"#,
    },
    follows_from: &[
        "gpu-backend-library-missing",
        "invalid-library-override",
        "setting-disables-gpu",
        "build-without-gpu-support",
    ],
    check,
};

const ID: &str = "no-gpu-found";

fn check(facts: &Facts) -> Verdict {
    if facts.log.counts.lines == 0
        && let Some(session) = facts.live
    {
        return watched(session).into();
    }
    if facts.ran_on_gpu() || facts.gpus().next().is_some() {
        return Verdict::Clear;
    }
    if facts.host() != Host::Native && facts.no_gpu_line().is_some() {
        return Verdict::Clear;
    }
    let Some(line) = facts.no_gpu_line() else { return open(facts) };
    let no_device = facts.any_notice(&["cuda-no-device", "rocm-no-device"]);
    let others = ["rocm-library-missing", "rocm-library-unusable", "rocm-permission"];
    let told = if no_device.is_some() {
        facts.any_notice(&others).is_some()
    } else {
        facts.gpu_error().is_some()
    };
    if told {
        return Verdict::Clear;
    }
    let meant = meant_for_gpu(facts);
    if no_device.is_none() && meant.is_none() {
        return Verdict::need(
            "whether this machine has a GPU: the server looked, met no error, found none, and computes on \
             the CPU, which is right on a machine without one",
            settle::look_for_gpu(facts),
        );
    }
    Finding::problem(
        ID,
        Impact::NoGpu,
        if no_device.is_some() { 0.7 } else { 0.6 },
        "no GPU was found on this machine, so everything runs on the CPU",
    )
    .because(
        "The engine looked for the driver libraries of NVIDIA, AMD and Vulkan and found no \
            device. Either the machine has no GPU that it can use, or the driver is not \
            installed, or the kernel uses another one (nouveau), or the user of the service may \
            not open the devices.",
    )
    .seen(Evidence::line(line))
    .seen_if(no_device.map(|n| Evidence::line(n.first)))
    .seen_if(
        meant.map(|(name, line)| Evidence::said(line, format!("{name} is set, which is for GPUs"))),
    )
    .fix(Fix::system("see whether the driver works", settle::look_for_gpu(facts)).why(
        "what these tools do not see, the engine cannot use",
        "the GPU is listed; then restart the engine",
    ))
    .into()
}

/// A setting that somebody made for a GPU.
fn meant_for_gpu(facts: &Facts) -> Option<(&'static str, LineId)> {
    const FOR_GPUS: &[&str] = &[
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "GPU_DEVICE_ORDINAL",
        "GGML_VK_VISIBLE_DEVICES",
        "HSA_OVERRIDE_GFX_VERSION",
    ];
    const SWITCHES: &[&str] = &["OLLAMA_SCHED_SPREAD", "OLLAMA_INTEL_GPU"];
    let named = FOR_GPUS.iter().find_map(|n| Some((*n, facts.setting(n)?.line)));
    let switched = || {
        let mut on = SWITCHES.iter().filter(|n| facts.setting_switch(n) == Some(true));
        on.find_map(|n| Some((*n, facts.setting(n)?.line)))
    };
    named.or_else(switched).or_else(|| {
        let asked = facts.loads().filter_map(|l| l.load.estimate.as_ref());
        let asked = asked.filter(|e| e.layers_requested.is_some_and(|n| n > 0));
        asked.map(|e| ("num_gpu", e.line)).next()
    })
}

/// A server whose model lies on the CPU, in a log that lacks the start: there it says which GPUs it
/// found, or why none. A program that is built for the CPU has nothing to say.
fn open(facts: &Facts) -> Verdict {
    let load = facts.cpu_only_load().filter(|_| facts.is_ollama());
    let told = facts.gpu_error().is_some();
    match load {
        Some(load) if load.layers_set_by_user().is_none() && !told => Verdict::need(
            format!(
                "the model runs on the CPU alone (line {}), and what the server said about GPUs when \
                    it started is not in this log",
                load.weights_line().0
            ),
            "restart the server and read its log from the start: journalctl -u ollama -b, docker logs \
                NAME, or server.log; the lines with `inference compute` tell",
        ),
        _ => Verdict::Clear,
    }
}

/// A machine without a GPU that is watched, and nothing that says that there should be one.
fn watched(session: &Session) -> Option<Finding> {
    let gpu_works = session.counters.gpus().next().is_some()
        || session.sums.devices.iter().any(|d| d.name != "CPU" && !d.is_virtual)
        || session
            .server
            .iter()
            .flat_map(|s| &s.models)
            .any(|m| m.vram_bytes.is_some_and(|b| b > 0));
    if gpu_works {
        return None;
    }
    let absent = session.absent.get(&(Source::Nvml, None, None))?;
    if !matches!(absent.reason, AbsentReason::LibraryMissing | AbsentReason::NoDevice) {
        return None;
    }
    let title = "no NVIDIA GPU is seen here, so the CPU computes";
    Some(
        Finding::benign(ID, 0.8, title)
            .because(format!(
                "{}. On a machine without a GPU all is as it should be. If it has one: {}.",
                absent.text, absent.hint
            ))
            .seen(Evidence::figure(format!("NVML: {}", absent.text)))
            .fix(Fix::system("if there should be one", "gpuwhy doctor").why(
                "it looks for devices, drivers, libraries and permissions",
                "what is missing",
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::finding::Kind;
    use crate::advise::diagnose::scenes::Scene;
    use crate::base::counter::{Counter, Subject};

    #[test]
    fn a_machine_without_gpu_is_no_fault() {
        let mut scene = Scene::new();
        scene.devices(&["CPU"]).absent(Source::Nvml, None, AbsentReason::LibraryMissing);
        let found = check(&scene.facts()).finding().cloned().unwrap();
        assert_eq!(found.kind, Kind::Benign);
        assert!(found.explanation.contains("do something"), "{found:?}");
    }

    #[test]
    fn one_whose_gpu_works_is_not_meant() {
        let mut scene = Scene::new();
        scene.absent(Source::Nvml, Some(Subject::Gpu(0)), AbsentReason::NotSupported);
        scene.sample(Subject::Gpu(0), Counter::Power, 1.0);
        assert_eq!(check(&scene.facts()), Verdict::Clear);
        let mut scene = Scene::new();
        scene.devices(&["CUDA0", "CPU"]).absent(Source::Nvml, None, AbsentReason::LibraryMissing);
        assert_eq!(check(&scene.facts()), Verdict::Clear);
    }

    #[test]
    fn before_the_library_was_looked_for_nothing_is_told() {
        assert_eq!(check(&Scene::new().facts()), Verdict::Clear);
    }
}
