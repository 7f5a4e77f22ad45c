//! `vulkan-device-selection`: which devices Vulkan uses is not what one would choose.

use crate::advise::diagnose::facts::{Facts, Host, is_software};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::fix_env;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Buffer, BufferKind, Device, Engine, LibraryKind};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "Vulkan uses another device than the one that is meant, or hides it",
    doc: Doc {
        detects: "Vulkan finds no device, a renderer in software, or the wrong one of several; or \
            an integrated GPU is left out because it has to be asked for.",
        costs: "Work runs on the CPU or on the slower device, while the better one is idle.",
        evidence: "\"No devices found\", a device that is a CPU (llvmpipe), an index in \
            GGML_VK_VISIBLE_DEVICES that does not exist, \"dropping integrated GPU; to enable, \
            set OLLAMA_IGPU_ENABLE=1\" when it is the only one, \"experimental Vulkan support \
            disabled\" without any other GPU, or weights on an integrated GPU next to a discrete \
            one.",
        fix: "GGML_VK_VISIBLE_DEVICES with the number of the device in the list (0 is the first), \
            OLLAMA_IGPU_ENABLE=1 to use an integrated GPU, OLLAMA_VULKAN=1 before 0.30, `-dev \
            Vulkan1` for llama.cpp, and the vendor's Vulkan driver where only a software renderer \
            is listed.",
        example: r#"level=INFO msg="dropping integrated GPU; to enable, set OLLAMA_IGPU_ENABLE=1" id=0 library=Vulkan name=Vulkan0 description="AMD Radeon 760M Graphics""#,
    },
    follows_from: &[],
    check,
};

const ID: &str = "vulkan-device-selection";

fn check(facts: &Facts) -> Verdict {
    let wrong = wrong_device(facts).or_else(|| wrong_index(facts)).or_else(|| swapped(facts));
    if let Some(finding) = wrong {
        return finding.into();
    }
    if facts.ran_on_gpu() || facts.gpus().next().is_some() {
        return Verdict::Clear;
    }
    dropped(facts).or_else(|| disabled(facts)).or_else(|| software(facts)).into()
}

fn problem(confidence: f64, title: String, why: &str) -> Finding {
    Finding::problem(ID, Impact::NoGpu, confidence, title).because(why)
}

/// Weights on an integrated GPU next to a discrete one.
fn wrong_device(facts: &Facts) -> Option<Finding> {
    let load = facts.last_load()?.load;
    let on = |b: &&Buffer| b.kind == BufferKind::Model && !b.is_host() && b.bytes > 0;
    let used: Vec<&str> = load.buffers.iter().filter(on).map(|b| b.device.as_str()).collect();
    let holds = |d: &&Device| d.name.as_deref().is_some_and(|n| used.contains(&n));
    let device = facts.gpus().filter(|d| d.integrated == Some(true)).find(holds)?;
    let better = facts.gpus().find(|d| d.integrated == Some(false))?;
    let name = |d: &Device| {
        let text = d.description.clone().or_else(|| d.name.clone());
        text.unwrap_or_else(|| "a GPU".into())
    };
    let both = facts.gpus().filter(holds).count() > 1;
    let mut finding = Finding::problem(
        ID,
        Impact::Slower(if both { 0.5 } else { 0.7 }),
        0.8,
        format!("{} holds weights although there is {}", name(device), name(better)),
    )
    .because(
        "The integrated GPU shares the memory of the CPU, which is several times slower than that \
            of the discrete one. Whatever lies on it sets the pace.",
    )
    .seen(Evidence::line(device.line))
    .seen(Evidence::line(better.line));
    if let Some(buffer) = load.buffers.iter().find(|b| device.name.as_deref() == Some(&b.device)) {
        finding = finding.seen(Evidence::line(buffer.line));
    }
    let index = better.index.map_or_else(|| "N".to_string(), |i| i.to_string());
    let finding = match better.library {
        Some(LibraryKind::Vulkan) => finding.fix(
            fix_env(facts.version(), "GGML_VK_VISIBLE_DEVICES", index)
                .why("Vulkan then uses this device alone", "the list of devices has one entry"),
        ),
        _ if facts.is_ollama() => finding.fix(
            fix_env(facts.version(), "OLLAMA_VULKAN", "0")
                .why("the discrete GPU has a library of its own", "no Vulkan device in the log"),
        ),
        _ => finding,
    };
    Some(match (&better.name, facts.log.engine) {
        (Some(name), Engine::LlamaCpp | Engine::Unknown) => finding.fix(
            Fix::flag("--device", name.clone())
                .why("only this device is used", "all buffers are on it"),
        ),
        _ => finding,
    })
}

/// A discrete GPU, by its name, that is left out as an integrated one while Vulkan uses another.
fn swapped(facts: &Facts) -> Option<Finding> {
    const DISCRETE: [&str; 7] =
        ["GeForce", "RTX", "GTX", "Quadro", "Tesla", "Radeon RX", "Radeon Pro"];
    let notice = facts.notice("igpu-dropped")?;
    let name =
        notice.fields.get("description").filter(|d| DISCRETE.iter().any(|w| d.contains(w)))?;
    let other = facts.gpus().find(|d| d.library == Some(LibraryKind::Vulkan))?;
    let used = other.description.as_deref().unwrap_or("another GPU");
    let title = format!("{name} is left out as if it were integrated, and {used} is used");
    let why = "On some systems Vulkan tells the server the wrong kind of device, or devices in another \
        order than the system does. The discrete GPU is then dropped, and models lie in main memory on \
        the integrated one.";
    Some(
        Finding::problem(ID, Impact::Slower(0.8), 0.85, title)
            .because(why)
            .seen(Evidence::line(notice.first))
            .seen(Evidence::line(other.line))
            .fix(fix_env(facts.version(), "OLLAMA_VULKAN", "0").why(
                "the discrete GPU has a library of its own",
                "`inference compute` names it alone",
            ))
            .fix(
                fix_env(facts.version(), "GGML_VK_VISIBLE_DEVICES", "1").why(
                    "or the number of the discrete GPU in Vulkan's list",
                    "one device is listed",
                ),
            ),
    )
}

fn wrong_index(facts: &Facts) -> Option<Finding> {
    let notice = facts.notice("vulkan-invalid-index")?;
    let index = notice.fields.get("index").map_or("", String::as_str);
    let title = format!("GGML_VK_VISIBLE_DEVICES names device {index}, which does not exist");
    let why = "Devices are counted from 0 in the order in which Vulkan lists them. With a number \
        that is not in the list no device is left.";
    Some(
        problem(0.9, title, why).seen(Evidence::line(notice.first)).fix(
            fix_env(facts.version(), "GGML_VK_VISIBLE_DEVICES", "0")
                .why("the first device of the list", "`ggml_vulkan: Found 1 Vulkan devices`"),
        ),
    )
}

/// An integrated GPU that has to be asked for.
fn dropped(facts: &Facts) -> Option<Finding> {
    let notice = facts.any_notice(&["igpu-dropped", "igpu-skipped"])?;
    let name = notice.fields.get("description").map_or("the integrated GPU", String::as_str);
    let why = "This release leaves integrated GPUs out unless they are asked for, because they \
        share the CPU's memory and often bring little. There is no other GPU here, so everything \
        runs on the CPU.";
    let found = problem(0.85, format!("{name} is left out: integrated GPUs are off"), why)
        .seen(Evidence::line(notice.first))
        .seen_if(facts.no_gpu_line().map(Evidence::line));
    Some(found.fix(fix_env(facts.version(), "OLLAMA_IGPU_ENABLE", "1").why(
        "the server then uses it; compare the speed, prompts gain more than answers",
        "`inference compute` in the log names it",
    )))
}

fn disabled(facts: &Facts) -> Option<Finding> {
    let notice = facts.notice("vulkan-disabled").filter(|_| facts.no_gpu_line().is_some())?;
    let why = "No GPU was found with CUDA or ROCm, and Vulkan, which drives most others, is off \
        in this release unless it is asked for.";
    // In a container the device is missing for every library more often than this one is.
    let confidence = if facts.host() == Host::Container { 0.45 } else { 0.7 };
    let title = "Vulkan is off, and no other library found a GPU";
    let found = problem(confidence, title.into(), why)
        .seen(Evidence::line(notice.first))
        .seen_if(facts.no_gpu_line().map(Evidence::line));
    Some(
        found.fix(
            fix_env(facts.version(), "OLLAMA_VULKAN", "1")
                .why("the server then looks for GPUs with Vulkan", "a Vulkan device in the log"),
        ),
    )
}

/// No device, or a renderer in software alone.
fn software(facts: &Facts) -> Option<Finding> {
    let llvmpipe = facts.log.devices.iter().find(|d| is_software(d)).map(|d| d.line);
    let cpu = facts.notice("vulkan-cpu-device").map(|n| n.first);
    let none = facts.any_notice(&["vulkan-no-devices", "vulkan-too-old"]).map(|n| n.first);
    let line = cpu.or(llvmpipe).or(none)?;
    let (title, confidence) = if cpu.or(llvmpipe).is_some() {
        ("Vulkan lists only a renderer in software, which is the CPU", 0.9)
    } else {
        ("Vulkan finds no device", 0.75)
    };
    let why = "Vulkan works through a driver of the GPU's vendor. Where it is not installed, or \
        the user may not open /dev/dri, or a container was not given it, no device is listed, or \
        only Mesa's renderer in software.";
    Some(
        problem(confidence, title.into(), why)
            .seen(Evidence::line(line))
            .fix(
                Fix::system(
                    "install the Vulkan driver",
                    "sudo apt install mesa-vulkan-drivers vulkan-tools    # NVIDIA: part of its \
                        driver",
                )
                .why("it makes the GPU known to Vulkan", "`vulkaninfo --summary` lists the GPU"),
            )
            .fix(
                Fix::system("container", "docker run --device /dev/dri ...")
                    .why("the driver needs the render device", "`ls /dev/dri` shows renderD128"),
            ),
    )
}
