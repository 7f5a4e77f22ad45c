//! `discovery-timeout`: the process that looks for GPUs did not finish in time.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::fix_env;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the search for GPUs ran out of time",
    doc: Doc {
        detects: "The process that lists the GPUs did not finish within its limit, 3 seconds in \
            some releases, 30 seconds (90 on Windows) in newer ones.",
        costs: "The server goes on without GPUs until it is started anew, though they work; it \
            may go well the next time.",
        evidence: "\"failed to finish discovery before timeout\", \"context deadline exceeded\", \
            or \"watchdog timed out\" in a message about GPU discovery, or a discovery that took \
            as long as its limit and found nothing.",
        fix: "Keep the driver awake (`nvidia-smi -pm 1`, or the nvidia-persistenced service), so \
            that the first call does not have to start the GPU; start the server after the driver \
            is ready; exclude Ollama's folder from virus scans on Windows; restrict the search to \
            one library when another one hangs (OLLAMA_LLM_LIBRARY=cuda_v13, OLLAMA_VULKAN=0).",
        example: r#"msg="failure during GPU discovery" OLLAMA_LIBRARY_PATH="[...]" extra_envs=map[] error="failed to finish discovery before timeout""#,
    },
    follows_from: &[
        "container-gpu-lost-cgroup",
        "driver-container-mismatch",
        "driver-not-loaded",
        "driver-state-lost-after-suspend",
        "gpu-hardware-error",
    ],
    check,
};

const ID: &str = "discovery-timeout";

fn check(facts: &Facts) -> Verdict {
    let timeout = |n: &&crate::observe::logs::Notice| {
        let error = n.fields.get("error").map_or("", String::as_str);
        ["timeout", "deadline", "timed out"].iter().any(|t| error.contains(t))
    };
    let failed = facts.notice("discovery-failed").filter(timeout);
    let took = facts.notice("discovery-took").and_then(|n| {
        let seconds = seconds(n.fields.get("duration")?)?;
        (seconds >= 29.0).then_some((n, seconds))
    });
    let notice = facts.notice("discovery-timed-out").or(failed);
    let Some(notice) = notice.or(took.map(|t| t.0)) else { return Verdict::Clear };
    let gpu = facts.gpus().next();
    // When a GPU was found all the same, one of several libraries hung.
    let (impact, confidence) = match (gpu, facts.no_gpu_line()) {
        (Some(_), _) => (Impact::Risk, 0.7),
        (None, Some(_)) => (Impact::NoGpu, 0.95),
        (None, None) => (Impact::NoGpu, 0.85),
    };
    let after = took.map(|(_, s)| format!(" after {s:.0} s")).unwrap_or_default();
    Finding::problem(
        ID,
        impact,
        confidence,
        format!("the search for GPUs was given up{after}"),
    )
    .because(
        "Ollama starts a process that loads each GPU library and lists its devices, and stops it \
            when it takes too long. The libraries may be slow to load (cold disk, virus scan, a \
            container that starts while the host is busy) or the driver slow to wake the GPU. It \
            is not repeated: until the server is started anew everything runs on the CPU.",
    )
    .seen(Evidence::line(notice.first))
    .seen_if(took.map(|(n, _)| Evidence::line(n.first)))
    .seen_if(facts.no_gpu_line().map(Evidence::line))
    .fix(
        Fix::system("keep the driver awake", "sudo nvidia-smi -pm 1    # or enable \
            nvidia-persistenced")
            .why("the first call then does not have to start the GPU", "discovery takes under 1 s"),
    )
    .fix(
        Fix::system(
            "start it again when the GPU is ready",
            "nvidia-smi && sudo systemctl restart ollama    # in a container: docker restart \
                CONTAINER",
        )
        .why("the search is made once, when the server starts", "the log names the GPU"),
    )
    .fix(fix_env(facts.version(), "OLLAMA_VULKAN", "0").why(
        "one library less to search, when the GPU is NVIDIA's or AMD's with ROCm",
        "discovery takes less time",
    ))
    .into()
}

/// `30.003310087s`, `412.9ms` or `1m0.2s` in seconds.
fn seconds(text: &str) -> Option<f64> {
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse().ok().map(|ms: f64| ms / 1e3);
    }
    let text = text.strip_suffix('s')?;
    match text.split_once('m') {
        Some((minutes, rest)) => {
            Some(minutes.parse::<f64>().ok()? * 60.0 + rest.parse::<f64>().ok()?)
        }
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_prints_them() {
        assert_eq!(seconds("412.5ms"), Some(0.4125));
        assert_eq!(seconds("30.25s"), Some(30.25));
        assert_eq!(seconds("1m0.5s"), Some(60.5));
        assert_eq!(seconds("812µs"), None);
    }
}
