//! `system-ram-insufficient`: the host's memory does not suffice to load the model.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, LineId};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the host's memory and swap are too small to load the model",
    doc: Doc {
        detects: "A load that is refused, that fails, or that the system ends, because main memory \
            does not suffice for the part of the model that is not on the GPU.",
        costs: "The model does not load, or its process is killed in the middle of an answer.",
        evidence: "Ollama's \"model requires more system memory (X) than is available (Y)\" or \"model \
            request too large for system\"; an allocation of the CPU's buffer that fails; the kernel's \
            \"Out of memory: Killed process\". A failed allocation on a GPU is another rule.",
        fix: "A smaller model or quantisation, more layers on the GPU, a smaller context, or more \
            memory or swap. In a container or a virtual machine, its memory limit counts. `use_mmap` \
            lets the system read weights from the file as needed, which works but is slow.",
        example: "Error: model requires more system memory (37.5 GiB) than is available (29.0 GiB)",
    },
    follows_from: &[],
    check,
};

const ID: &str = "system-ram-insufficient";

fn check(facts: &Facts) -> Verdict {
    let by_message = facts.loads().rev().find_map(|l| {
        let (line, text) = l.failed()?;
        let host = text.contains("more system memory") || text.contains("unable to allocate CPU");
        host.then(|| (line, amounts(text)))
    });
    if let Some((line, amounts)) = by_message {
        return refused(facts, line, amounts.as_ref()).into();
    }
    if let Some(notice) = facts.notice("host-memory-too-small") {
        let field = |name: &str| notice.fields.get(name).cloned();
        let amounts = field("needed").zip(field("available"));
        return refused(facts, notice.first, amounts.as_ref()).into();
    }
    if let Some(notice) = facts.notice("host-alloc-failed") {
        let mib = notice.fields.get("mib").and_then(|m| m.parse::<f64>().ok());
        let bytes = notice.number("bytes");
        let bytes = bytes.or(mib.map(|m| (m * 1048576.0) as u64));
        return failed(facts, notice.first, bytes).into();
    }
    let killed = facts.notice("killed-by-system");
    killed.map(|n| ended(facts, n.first)).into()
}

/// The amounts in brackets: needed, available.
fn amounts(text: &str) -> Option<(String, String)> {
    let mut inside = text.split('(').skip(1).filter_map(|p| p.split_once(')')).map(|p| p.0);
    let (needed, available) = (inside.next()?, inside.next()?);
    Some((needed.to_string(), available.to_string()))
}

fn refused(facts: &Facts, line: LineId, amounts: Option<&(String, String)>) -> Finding {
    let title = match amounts {
        Some((needed, available)) => {
            format!("the model needs {needed} of system memory, {available} are available")
        }
        None => "the model needs more system memory than is available".to_string(),
    };
    // The server says so itself, and refuses.
    Finding::problem(ID, Impact::Failure, 0.95, title)
        .because(
            "Ollama adds up what does not go to a GPU and compares it with free memory and swap; it \
             refuses before it loads anything. What matters is what is free at that moment, inside the \
             container or virtual machine if there is one.",
        )
        .seen(Evidence::line(line))
        .seen_if(host_line(facts))
        .fix_all(fixes())
}

fn failed(facts: &Facts, line: LineId, bytes: Option<u64>) -> Finding {
    let size = bytes.map(|b| format!(" of {}", Bytes(b))).unwrap_or_default();
    Finding::problem(ID, Impact::Failure, 0.9, format!("an allocation{size} of main memory failed"))
        .because(format!(
            "The part of the model that is not on a GPU lies in main memory, and the system would not \
             give{size} for it.{}",
            cpu_part(facts)
        ))
        .seen(Evidence::line(line))
        .seen_if(host_line(facts))
        .fix_all(fixes())
}

fn ended(facts: &Facts, line: LineId) -> Finding {
    let title = "the system ended the process because main memory was exhausted";
    // The kernel's own words; that the model is what filled the memory is likely, not certain.
    Finding::problem(ID, Impact::Failure, 0.9, title)
        .because(format!(
            "The kernel ends the largest process when memory and swap are full, in the middle of a load \
             or an answer.{}",
            cpu_part(facts)
        ))
        .seen(Evidence::line(line))
        .seen_if(host_line(facts))
        .fix_all(fixes())
}

fn cpu_part(facts: &Facts) -> String {
    let kinds = [BufferKind::Model, BufferKind::Kv, BufferKind::Compute];
    let on_host = facts.last_load().map(|l| kinds.iter().map(|&k| l.on_host(k)).sum::<u64>());
    on_host
        .filter(|&b| b > 0)
        .map(|b| format!(" The last load put {} there.", Bytes(b)))
        .unwrap_or_default()
}

fn host_line(facts: &Facts) -> Option<Evidence> {
    let load = facts.last_load().and_then(|l| l.load.host);
    load.or(facts.log.host).map(|h| Evidence::line(h.line))
}

fn fixes() -> Vec<Fix> {
    vec![
        Fix::system("see what is free", "free -h; docker stats --no-stream")
            .why("other programs and a container's limit count", "which of them can be changed"),
        Fix::system("a smaller file", "a smaller quantisation or model").why(
            "weights that are not on the GPU have to fit main memory",
            "the load succeeds",
        ),
        Fix::system(
            "swap",
            "sudo fallocate -l 32G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && \
             sudo swapon /swapfile",
        )
        .why("lets the load pass; what is swapped out is slow", "the load succeeds"),
    ]
}
