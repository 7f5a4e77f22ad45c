//! `reload-option-mismatch`: the same model is loaded anew because a request differs in a resource
//! option.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::fix_env;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Load, LoadOutcome, Role};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "clients ask for the same model with different options, so it is loaded again",
    doc: Doc {
        detects: "The same model was loaded several times with different options: num_ctx, \
            num_batch, use_mlock, use_mmap, num_thread, main_gpu or num_gpu differ from request \
            to request.",
        costs: "Every change costs a whole load, seconds to minutes, before the first token, and \
            the cache of prompts is lost.",
        evidence: "Loads of the same file one after the other whose options differ, without an \
            error, an idle time or another model between them that would explain it. A number of \
            slots or layers that the server chose anew is not an option of a client.",
        fix: "Make all clients send the same options, or none: put `PARAMETER num_ctx` into a \
            Modelfile, set OLLAMA_CONTEXT_LENGTH (from 0.5.13 on), and take num_ctx out of the \
            clients that compute it for each request.",
        example: r#"msg="starting llama server" cmd="... --ctx-size 8192 ... --threads 12 --parallel 1 --port 41001"
msg="starting llama server" cmd="... --ctx-size 20480 ... --threads 12 --parallel 1 --port 41077""#,
    },
    follows_from: &[],
    check,
};

const ID: &str = "reload-option-mismatch";

fn check(facts: &Facts) -> Verdict {
    let loads: Vec<&Load> = facts.log.loads.iter().filter(|l| l.role == Role::Main).collect();
    let mut changes: Vec<(&Load, &Load, Vec<Change>)> = Vec::new();
    for pair in loads.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        // A load that failed is tried again with less by the server itself.
        let failed = matches!(before.outcome, LoadOutcome::Failed(_));
        if before.model.path.is_none() || before.model.path != after.model.path || failed {
            continue;
        }
        let differ = differences(before, after);
        if !differ.is_empty() {
            changes.push((before, after, differ));
        }
    }
    let Some((before, after, differ)) = changes.first() else {
        let said = said_by_server(facts).map(Verdict::from);
        return said.or_else(|| reload_unexplained(facts, &loads)).unwrap_or(Verdict::Clear);
    };
    let seconds: f64 = changes.iter().filter_map(|(_, l, _)| load_seconds(l)).sum();
    let cost = if seconds > 0.0 { format!(", {seconds:.1} s in all") } else { String::new() };
    let what: Vec<String> =
        differ.iter().map(|c| format!("{} {} -> {}", c.name, c.before, c.after)).collect();
    let times = changes.len();
    // That it was loaded anew is a fact; a single time may be a user who tries something.
    let confidence = if times >= 2 { 0.95 } else { 0.92 };
    // Of the request that caused it; of short answers a load is most of the time.
    let share = longest_share(facts, &changes).clamp(0.6, 0.9);
    let mut finding = Finding::problem(
        ID,
        Impact::Slower(share),
        confidence,
        format!("the same model was loaded again {times} time(s) with other options{cost}"),
    )
    .because(format!(
        "Options like num_ctx are fixed when a model is loaded. When a request asks for another \
            value, the server ends the runner and loads the model anew. Here: {}.",
        what.join(", ")
    ))
    .seen(Evidence::line(before.line))
    .seen(Evidence::said(after.line, what.join(", ")));
    for (_, again, _) in changes.iter().skip(1).take(3) {
        finding = finding.seen(Evidence::line(again.line));
    }
    for change in differ {
        finding = finding.fix(change.fix(facts));
    }
    finding
        .fix(
            Fix::system(
                "one set of options for all clients",
                "ollama show --modelfile MODEL > Modelfile; add the PARAMETER lines; ollama \
                    create MODEL-fixed -f Modelfile",
            )
            .why(
                "clients that name MODEL-fixed and send no options of their own never differ",
                "one `starting` line for the model, and no load between requests",
            ),
        )
        .into()
}

/// The same model was loaded again with the same options, sooner than the time for which it is kept
/// by default: only the debug log says why.
fn reload_unexplained(facts: &Facts, loads: &[&Load]) -> Option<Verdict> {
    const KEPT_NS: i64 = 270 * 1_000_000_000;
    let again = |pair: &&[&Load]| {
        let (before, after) = (pair[0], pair[1]);
        let failed = matches!(before.outcome, LoadOutcome::Failed(_));
        let soon =
            before.at_ns.zip(after.at_ns).is_some_and(|(a, b)| (1..KEPT_NS).contains(&(b - a)));
        before.model.path.is_some() && before.model.path == after.model.path && soon && !failed
    };
    let times = loads.windows(2).filter(again).count();
    let kept_short = facts.setting("OLLAMA_KEEP_ALIVE").is_some_and(|s| s.value != "5m0s");
    if !facts.is_ollama() || times < 2 || kept_short || facts.notice("model-evicted").is_some() {
        return None;
    }
    Some(Verdict::need(
        format!(
            "why the same model was loaded again {times} times within minutes: by options that differ \
             and that the log does not show, or by requests with a short keep_alive"
        ),
        "OLLAMA_DEBUG=1 for the server: `reloading` or `runner expired` in the log then tells which",
    ))
}

/// The server says that it loads a model anew for a request, without saying what differs.
fn said_by_server(facts: &Facts) -> Option<Finding> {
    let notice = facts.notice("reload-needed")?;
    let title =
        format!("a request made the server load the same model again {} time(s)", notice.count);
    // It says so, too, when a runner does not answer any more; a difference is far more common.
    Some(
        Finding::problem(ID, Impact::Slower(0.6), 0.8, title)
            .because(
                "A request asked for other options than those that the model was loaded with \
                    (num_ctx, num_batch, num_gpu, main_gpu, num_thread, use_mmap, adapters), so \
                    the runner is ended and the model loaded anew. The log does not tell which \
                    option it is.",
            )
            .seen(Evidence::line(notice.first))
            .fix(fix_env(facts.version(), "OLLAMA_DEBUG_LOG_REQUESTS", "1").why(
                "requests are then written to a folder, and their options can be compared",
                "the options that differ between clients",
            ))
            .fix(
                Fix::system("one set of options", "leave num_ctx and the like out of all clients")
                    .why(
                        "the values of the Modelfile and the server then hold for all",
                        "one load",
                    ),
            ),
    )
}

/// The largest part of a request's time that was the load which it caused.
fn longest_share(facts: &Facts, changes: &[(&Load, &Load, Vec<Change>)]) -> f64 {
    let served = |load: &Load| {
        let mut requests = facts.log.requests.kept();
        let first = requests.find(|r| r.line > load.line)?.duration_ns?;
        Some(load_seconds(load)? / (first as f64 / 1e9))
    };
    changes.iter().filter_map(|(_, load, _)| served(load)).fold(0.0, f64::max)
}

struct Change {
    name: &'static str,
    before: String,
    after: String,
    larger: String,
}

impl Change {
    fn fix(&self, facts: &Facts) -> Fix {
        let server = (self.name == "num_ctx")
            .then(|| fix_env(facts.version(), "OLLAMA_CONTEXT_LENGTH", self.larger.clone()));
        // A switch that only some clients send is best sent by none.
        let value = if self.name.starts_with("use_") { "" } else { self.larger.as_str() };
        server.unwrap_or_else(|| Fix::option(self.name, value)).why(
            format!("the same {} for every request; take it out of the clients", self.name),
            "the model stays loaded between requests",
        )
    }
}

/// Options of a client that differ. The context is that of one slot, because the server multiplies
/// it by a number of slots that it may choose itself.
fn differences(before: &Load, after: &Load) -> Vec<Change> {
    let mut all = Vec::new();
    let mut differ = |name, a: Option<String>, b: Option<String>| {
        if let (Some(a), Some(b)) = (a, b) {
            let number = |t: &String| t.parse::<u64>().unwrap_or(0);
            let larger = if number(&b) > number(&a) { b.clone() } else { a.clone() };
            if a != b {
                all.push(Change { name, before: a, after: b, larger });
            }
        }
    };
    let text = |n: Option<u64>| n.map(|n| n.to_string());
    let ctx = |l: &Load| {
        let slots = l.requested.parallel.or(l.n_seq_max).map_or(1, |s| s.value.max(1));
        l.requested.ctx.or(l.n_ctx).map(|c| c.value / slots)
    };
    differ("num_ctx", text(ctx(before)), text(ctx(after)));
    let both = |get: fn(&Load) -> Option<u64>| (text(get(before)), text(get(after)));
    let (a, b) = both(|l| l.requested.batch.map(|s| s.value));
    differ("num_batch", a, b);
    let (a, b) = both(|l| l.requested.threads.map(|s| s.value));
    differ("num_thread", a, b);
    let (a, b) = both(|l| l.requested.main_gpu.map(|s| s.value));
    differ("main_gpu", a, b);
    // A flag that stands on one command line only; where no command line was logged nothing is
    // known.
    if before.requested.command.is_some() && after.requested.command.is_some() {
        let flag = |on: Option<bool>| Some(on.unwrap_or(false).to_string());
        let lock = |l: &Load| flag(l.requested.mlock.map(|m| m.value));
        differ("use_mlock", lock(before), lock(after));
    }
    all
}

fn load_seconds(load: &Load) -> Option<f64> {
    load.load_ns.map(|ns| ns.value as f64 / 1e9)
}
