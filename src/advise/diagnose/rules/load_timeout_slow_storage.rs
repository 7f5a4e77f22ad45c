//! `load-timeout-slow-storage`: a load that was given up because it stood still too long.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::{fix_env, since_note};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{LineId, Request, Version};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "loading took longer than the limit",
    doc: Doc {
        detects: "A model did not finish loading within the limit of the server (5 minutes \
            without progress by default), so the load was given up.",
        costs: "The request fails after minutes, and every new one starts from the beginning.",
        evidence: "\"timed out waiting for llama runner to start\" with the progress reached, or \
            a status 500 after five minutes in a row with a load. Progress near 0 points to slow \
            storage, a network drive, or memory that is too small for the file's pages; a load \
            that fails quickly is another fault.",
        fix: "OLLAMA_LOAD_TIMEOUT=30m (from 0.3.10 on), so that it gets through; then the cause: \
            models on a local SSD, `use_mmap` false when the host has less memory than the model, \
            a virus scanner that reads every file.",
        example: r#"level=ERROR msg="error loading llama server" error="timed out waiting for llama runner to start - progress 0.12 - ""#,
    },
    follows_from: &[],
    check,
};

const ID: &str = "load-timeout-slow-storage";

fn check(facts: &Facts) -> Verdict {
    let failed = facts.loads().find_map(|l| {
        let (line, why) = l.failure()?;
        why.contains("timed out waiting").then(|| (line, why.to_string(), l))
    });
    let aborted = facts.notice("load-aborted-by-client");
    let (line, why, load) = match (failed, aborted) {
        (Some((line, why, load)), _) => (line, why, Some(load)),
        (None, Some(notice)) => (notice.first, String::new(), facts.last_load()),
        (None, None) => return Verdict::Clear,
    };
    let progress = why.split("progress ").nth(1).and_then(|p| p.split(' ').next());
    let progress: Option<f64> = progress.and_then(|p| p.parse().ok());
    let by_client = why.is_empty() || why.contains("context canceled");
    if by_client && let Some((line, seconds)) = given_up_soon(facts) {
        return cancelled(line, seconds).into();
    }
    let reached = progress.map(|p| format!(" at {:.0} %", p * 100.0)).unwrap_or_default();
    let (title, confidence) = if by_client {
        ("the client gave up while the model was still loading".to_string(), 0.6)
    } else {
        (format!("loading was given up{reached}: it took longer than the limit"), 0.95)
    };
    let bytes = load.and_then(|l| l.load.model.bytes).map(|b| b.value);
    let memory = load.and_then(|l| l.load.host).or(facts.log.host).and_then(|h| h.total_bytes);
    let short = bytes.zip(memory).filter(|(b, m)| b > m);
    let ram = short.map(|(b, m)| {
        let gib = |n: u64| n as f64 / (1u64 << 30) as f64;
        format!(
            " The model has {:.1} GiB and the host {:.1} GiB of memory, so pages are read and \
                dropped again.",
            gib(b),
            gib(m)
        )
    });
    Finding::problem(ID, Impact::Failure, confidence, title)
        .because(format!(
            "The weights are read from storage while the model loads. The server stops waiting \
                when nothing moves for its limit: a slow or network drive, a cold cache, a \
                scanner, or a host with less memory than the file.{}",
            ram.unwrap_or_default()
        ))
        .seen(Evidence::line(line))
        .seen_if(server_error(facts).map(Evidence::line))
        .fix(timeout_fix(facts))
        .fix(Fix::option("use_mmap", "false").why(
            "the file is read once in order, which is faster on slow storage and with little \
                memory",
            "loads finish",
        ))
        .fix(
            Fix::system(
                "see how fast the storage is",
                "dd if=MODEL.gguf of=/dev/null bs=16M status=progress",
            )
            .why("the size of the model divided by this is the least time of a load", ""),
        )
        .into()
}

/// A request that the client ended within so few seconds that it was no limit of anybody's.
fn given_up_soon(facts: &Facts) -> Option<(LineId, u64)> {
    const SOON_NS: u64 = 25_000_000_000;
    let mut ended = facts.log.requests.kept().filter(|r| r.status == Some(499));
    let seconds = |r: &Request| Some((r.line, r.duration_ns? / 1_000_000_000));
    ended.find(|r| r.duration_ns.is_some_and(|ns| ns < SOON_NS)).and_then(seconds)
}

fn cancelled(line: LineId, seconds: u64) -> Finding {
    Finding::benign(ID, 0.8, "a client ended its request while the model was still loading")
        .because(format!(
            "After {seconds} s the client closed the connection, so the server gave up the load. The \
             message speaks of a time limit; there was none. The next request loads the model again.",
        ))
        .seen(Evidence::line(line))
}

fn timeout_fix(facts: &Facts) -> Fix {
    // Before 0.3.10 the limit could not be set.
    let version = facts.version().or_else(|| {
        (facts.ollama_since(Version(0, 3, 10)) == Some(false)).then_some(Version(0, 3, 9))
    });
    fix_env(version, "OLLAMA_LOAD_TIMEOUT", "30m").why(
        format!(
            "lets a slow load get through{}",
            since_note(facts.version(), "OLLAMA_LOAD_TIMEOUT")
        ),
        "`runner started in` in the log, with the time",
    )
}

/// The request that failed after the limit.
fn server_error(facts: &Facts) -> Option<LineId> {
    let long = |ns: Option<u64>| ns.is_some_and(|n| n > 60_000_000_000);
    let mut failed = facts.log.requests.kept().filter(|r| r.status.is_some_and(|s| s >= 499));
    failed.find(|r| long(r.duration_ns)).map(|r| r.line)
}
