//! Commands and settings that settle what a log leaves open, as they are for the engine at hand.

use crate::observe::logs::Engine;

use super::facts::Facts;

/// Makes the engine log where layers and buffers are.
pub(super) fn load_lines(facts: &Facts) -> String {
    match facts.log.engine {
        Engine::Ollama => "`ollama ps` while the model is loaded: its column PROCESSOR tells the share \
                           on the GPU; the log from the start of the load on tells why (`journalctl -u \
                           ollama --no-pager`, `docker logs`, or server.log)"
            .to_string(),
        // Newer builds log these lines at a level that is hidden by default.
        _ => "start llama-server with `-lv 4` (older builds: `-v`) and send the log from its first line on"
            .to_string(),
    }
}

/// Shows what holds back a GPU, while an answer is being made.
pub(super) fn gpu_state(facts: &Facts) -> &'static str {
    let names = facts.log.devices.iter().filter_map(|d| d.library);
    if names.clone().any(|l| l.name() == "ROCm") {
        "rocm-smi --showuse --showpower --showclocks, while an answer is being made"
    } else if names.clone().any(|l| l.name() == "Metal") {
        "sudo powermetrics --samplers gpu_power -n 3, while an answer is being made"
    } else {
        "nvidia-smi -q -d PERFORMANCE,CLOCK,POWER -l 2, while an answer is being made"
    }
}

/// Shows whether a machine has a GPU and whether its driver works.
pub(super) fn look_for_gpu(facts: &Facts) -> &'static str {
    match facts.log.os.as_ref().map(|os| os.value.as_str()) {
        Some("windows") => "nvidia-smi    # AMD and Intel: see Device Manager, Display adapters",
        Some("macos") => "system_profiler SPDisplaysDataType",
        _ => "lspci -k | grep -A3 -iE 'vga|3d|display'; nvidia-smi; rocminfo | grep gfx",
    }
}

/// Shows who holds memory of the GPU.
pub(super) fn gpu_memory(facts: &Facts) -> &'static str {
    if facts.log.devices.iter().any(|d| d.library.is_some_and(|l| l.name() == "ROCm")) {
        "rocm-smi --showmeminfo vram --showpids, before the model is loaded"
    } else {
        "nvidia-smi, before the model is loaded: memory used, and by which processes"
    }
}
