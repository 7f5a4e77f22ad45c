//! `vram-used-by-other-process`: something else holds the memory that layers would need.

use crate::advise::diagnose::facts::lately::{gpu_name, seconds_in, watched_pids};
use crate::advise::diagnose::facts::{Cause, Facts, LoadFacts, Shortfall};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place};
use crate::advise::diagnose::room;
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::advise::diagnose::settle;
use crate::base::counter::{Counter, Subject};
use crate::base::units::Bytes;
use crate::observe::logs::{Device, LibraryKind, LineId, LoadOutcome};
use crate::observe::session::Session;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "another program holds memory of the GPU",
    doc: Doc {
        detects: "A GPU of which much less was free when the model was loaded than it has, so that \
            layers stay on the CPU that would fit an idle GPU.",
        costs: "Layers without room run on the CPU, many times slower. The engine plans with what is \
            free at that moment and does not plan anew when the other program ends.",
        evidence: "Free and total memory of the GPU in the log, and layers that would fit if it were \
            idle. When the total is not told, hardly 3 GiB free on a CUDA GPU that was found usable \
            make it likely. Of a GPU that is watched, every process on it that is not the watched one, with \
            its memory, and whether it was there or came. Memory that this server's own earlier model holds is another rule.",
        fix: "See who holds it (`nvidia-smi`, `rocm-smi --showpids`), end that program or give it less, \
            and load the model again.",
        example: "msg=\"inference compute\" library=cuda total=\"23.6 GiB\" available=\"4.1 GiB\"\n\
            msg=offload layers.model=41 layers.offload=9 memory.available=\"[4.1 GiB]\"",
    },
    follows_from: &["vram-not-released", "models-share-vram"],
    check,
};

const ID: &str = "vram-used-by-other-process";

fn check(facts: &Facts) -> Verdict {
    if let Some(verdict) = facts.live.and_then(watched) {
        return verdict;
    }
    let Some((load, short)) = facts.short_load() else { return at_discovery(facts).into() };
    if let Some(share) = short.share_of_time(Cause::Others) {
        return told(&load, &short, share).into();
    }
    if !short.free_suspicious() || !discrete(facts) {
        let asks = !short.free_known && discrete(facts) && short.by_weights < short.missing;
        return if asks { free_unknown(facts, &short) } else { Verdict::Clear };
    }
    let most = short.sizes.free_bytes.iter().copied().max().unwrap_or(0);
    guessed(&load, &short, most).into()
}

/// Much memory of a GPU in use in a log without any load: whoever loads a model now finds it taken.
fn at_discovery(facts: &Facts) -> Option<Finding> {
    const MUCH_BYTES: u64 = 4 << 30;
    if facts.log.loads.iter().any(|l| l.layers.is_some() || l.estimate.is_some())
        || !discrete(facts)
    {
        return None;
    }
    let held = |d: &Device| Some(d.total_bytes?.saturating_sub(d.free_bytes?));
    let device = facts.gpus().max_by_key(|d| held(d))?;
    let (held, total) = (held(device)?, device.total_bytes?);
    if held < MUCH_BYTES || held < total / 4 {
        return None;
    }
    let title = format!(
        "{} of {} of GPU memory were in use when the server looked, with no model loaded in this log",
        Bytes(held),
        Bytes(total)
    );
    Some(
        Finding::problem(ID, Impact::Risk, 0.7, title)
            .because(
                "Layers are placed by what is free when a model is loaded. What another program, another \
                 server or an earlier start of this one holds is missing then, and layers that do not fit \
                 run on the CPU. The load itself is not in this log.",
            )
            .seen(Evidence::line(device.line))
            .fix(
                Fix::system(
                    "see who holds it",
                    "nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv",
                )
                .why("it lists the programs on the GPU", "the program that holds the memory"),
            ),
    )
}

fn free_unknown(facts: &Facts, short: &Shortfall) -> Verdict {
    Verdict::need(
        format!(
            "how much memory of the GPU was free when the model was loaded: {} are missing on it, and \
             something else may hold what they need",
            room::layers(short.missing)
        ),
        settle::gpu_memory(facts),
    )
}

fn discrete(facts: &Facts) -> bool {
    facts.log.devices.iter().all(|d| {
        d.integrated != Some(true)
            && matches!(d.library, None | Some(LibraryKind::Cuda | LibraryKind::Rocm))
    })
}

fn told(load: &LoadFacts, short: &Shortfall, share: f64) -> Finding {
    let sizes = &short.sizes;
    // As the log tells it, whatever was reckoned with.
    let told = load.sizes().map(|s| s.free_bytes).filter(|f| !f.is_empty());
    let told = told.unwrap_or_else(|| sizes.free_bytes.clone());
    let free: u64 = told.iter().sum();
    let total: u64 = sizes.total_bytes.iter().sum();
    let title = format!(
        "only {} of {} of GPU memory were free: {} of {} layers run on the CPU",
        Bytes(free),
        Bytes(total),
        short.missing,
        sizes.layers
    );
    let why = format!(
        "Free as the load began: {}; the GPUs have {}. Something else held {}. On idle GPUs {} \
         more would fit.",
        room::memories(&told),
        room::memories(&sizes.total_bytes),
        Bytes(total.saturating_sub(free)),
        room::layers(short.by_others),
    );
    // The share of the time that the layers take which an idle GPU would bring back.
    Finding::problem(ID, Impact::Slower(share), 0.95, title)
        .because(why)
        .seen(Evidence::line(sizes.line))
        .seen_if(free_line(load).map(Evidence::line))
        .seen_if(load.log.devices.first().map(|d| Evidence::line(d.line)))
        .fix_all(fixes(load))
}

fn guessed(load: &LoadFacts, short: &Shortfall, free: u64) -> Finding {
    let sizes = &short.sizes;
    let title = format!(
        "only {} of GPU memory were free: {} of {} layers run on the CPU",
        Bytes(free),
        short.missing,
        sizes.layers
    );
    let why = format!(
        "The GPU is good enough to be used, and hardly any such GPU has so little memory: most of it was \
         probably held by another program as the load began. The model needs {}. The log does not tell \
         how much the GPU has in all; `nvidia-smi` does, and it lists who holds it.",
        room::parts(sizes, &sizes.as_is()),
    );
    // All missing layers may be its fault; that the GPU is just small is the other possibility.
    let others = Finding::problem(ID, Impact::Slower(short.time_share), 0.9, title);
    let sure = if short.by_weights > 0 { 0.85 } else { 0.7 };
    Finding { confidence: sure, ..others }
        .because(why)
        .seen(Evidence::line(sizes.line))
        .seen_if(free_line(load).map(Evidence::line))
        .fix_all(fixes(load))
}

fn free_line(load: &LoadFacts) -> Option<LineId> {
    let estimate = load.load.estimate.as_ref().map(|e| e.line);
    estimate.or(load.load.gpu_free.first().map(|g| g.line))
}

fn fixes(load: &LoadFacts) -> Vec<Fix> {
    let amd = load.log.devices.iter().any(|d| d.library == Some(LibraryKind::Rocm));
    let list = if amd {
        "rocm-smi --showpids --showmeminfo vram"
    } else {
        "nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv"
    };
    let resident = load
        .facts()
        .loads()
        .any(|l| l.load.index < load.load.index && matches!(l.load.outcome, LoadOutcome::Ready(_)));
    let mut fixes = vec![Fix::system("see who holds it", list).why(
        "it lists the programs on the GPU and what each of them holds",
        "the program that holds the memory",
    )];
    fixes.push(
        Fix::system("load anew", "end that program or limit its memory, then load the model again")
            .why("layers are placed by what is free at that moment", "more layers offloaded"),
    );
    if resident {
        fixes.push(Fix::system("ollama ps", "ollama ps; ollama stop MODEL").why(
            "earlier models of this server hold memory as well until they are unloaded",
            "one model in the list",
        ));
    }
    fixes
}

/// A process on a GPU that is not what is watched.
struct Other<'a> {
    gpu: u8,
    pid: u32,
    name: &'a str,
    bytes: u64,
    busy: f64,
    /// When it came, or took much more; `None` for one that was there from the begin.
    came_ns: Option<u64>,
}

/// What a desktop and its programs hold.
const SMALL_BYTES: u64 = 256 << 20;

/// Less of the GPU's time is a desktop's.
const BUSY_SMALL: f64 = 0.05;

/// What watching tells; `None` where no GPU with processes is watched, and then the log has the word.
fn watched(session: &Session) -> Option<Verdict> {
    let all = processes(session);
    let own = watched_pids(session);
    if own.is_empty() {
        let any = all.iter().any(|p| p.bytes >= SMALL_BYTES);
        return any.then(|| {
            Verdict::need(
                "which of the processes on the GPU is the watched one",
                "nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv",
            )
        });
    }
    // From inside a container processes have other numbers than the driver's.
    let known = all.iter().any(|p| own.contains(&p.pid));
    let others = all.into_iter().filter(|p| !own.contains(&p.pid));
    let big = others.filter(|p| p.bytes >= SMALL_BYTES || p.busy >= BUSY_SMALL);
    let worst = big.max_by_key(|p| (p.came_ns.is_some(), p.bytes))?;
    Some(seen_there(session, &worst, known).into())
}

fn processes(session: &Session) -> Vec<Other<'_>> {
    let of = |subject| match subject {
        Subject::GpuProcess { gpu, pid } if pid > 0 => Some((subject, gpu, pid)),
        _ => None,
    };
    let found = session.counters.subjects().filter_map(of).map(|(subject, gpu, pid)| {
        let value = |counter| session.value(subject, counter).unwrap_or(0.0);
        let bytes = value(Counter::VramUsed) as u64;
        let memory = session.counters.get(subject, Counter::VramUsed);
        let begin =
            session.counters.get(Subject::Gpu(gpu), Counter::VramTotal).map(|s| s.first.at_ns);
        // Its first sample above half of what it has now.
        let grown = memory.and_then(|s| s.points().find(|p| p.value * 2.0 > bytes as f64));
        let came_ns = grown.zip(begin).filter(|(p, begin)| p.at_ns > *begin).map(|(p, _)| p.at_ns);
        // A process without memory is gone, and its last share of time is old.
        let there = memory.is_none() || bytes > 0;
        let busy = if there { value(Counter::GpuBusy) } else { 0.0 };
        Other { gpu, pid, name: session.name(subject).unwrap_or("unknown"), bytes, busy, came_ns }
    });
    found.collect()
}

fn seen_there(session: &Session, other: &Other, known: bool) -> Finding {
    let subject = Subject::GpuProcess { gpu: other.gpu, pid: other.pid };
    let gpu = gpu_name(session, other.gpu);
    let Other { name, pid, .. } = other;
    let holds = Bytes(other.bytes);
    let (title, since) = match other.came_ns {
        Some(at_ns) => (
            format!("{name} (process {pid}) has taken {holds} of {gpu}"),
            format!("since {:.1} s", seconds_in(session, at_ns)),
        ),
        None => {
            (format!("{name} (process {pid}) holds {holds} of {gpu}"), "from the begin".to_string())
        }
    };
    // What it takes of the GPU's time is measured; what its memory costs is not.
    let impact = if other.busy >= BUSY_SMALL { Impact::Slower(other.busy) } else { Impact::Risk };
    let doubt = if known {
        ""
    } else {
        " None of the watched processes shows on the GPU: if this runs in a container, where processes \
         have other numbers, it may be the watched one itself."
    };
    let busy = (other.busy > 0.0).then(|| {
        let text = format!("it keeps the GPU busy in {:.0} % of the time", 100.0 * other.busy);
        Evidence::at(Place::Counter(subject, Counter::GpuBusy), text)
    });
    let free = session.value(Subject::Gpu(other.gpu), Counter::VramFree).map(|free| {
        let text = format!("{} are free on {gpu}", Bytes(free as u64));
        Evidence::at(Place::Counter(Subject::Gpu(other.gpu), Counter::VramFree), text)
    });
    let sure = if known { 0.9 } else { 0.5 };
    let finding = Finding::problem(ID, impact, sure, title)
        .because(format!(
            "It is not what is watched. Memory that it holds is missing when a model is loaded or a \
             context grows, and while it computes, the GPU's time is shared.{doubt}"
        ))
        .seen(Evidence::at(
            Place::Counter(subject, Counter::VramUsed),
            format!("{holds} {since}"),
        ))
        .seen_if(free)
        .seen_if(busy);
    finding.fix(
        Fix::system("see what it is", format!("ps -fp {pid}"))
            .why("it can be ended, moved to another GPU, or given less", "more memory free"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::Scene;

    fn on_gpu(pid: u32) -> Subject {
        Subject::GpuProcess { gpu: 0, pid }
    }

    fn scene() -> Scene {
        let mut scene = Scene::new();
        scene.sample(Subject::Process(10), Counter::CpuUsed, 1.0);
        scene.sample(Subject::Gpu(0), Counter::VramTotal, f64::from(1 << 30) * 80.0);
        scene.sample(on_gpu(10), Counter::VramUsed, f64::from(1 << 30) * 8.0);
        scene
    }

    #[test]
    fn a_process_that_comes_is_found_at_its_first_sample() {
        let mut scene = scene();
        assert_eq!(check(&scene.facts()), Verdict::Clear);
        scene.tick().name(on_gpu(77), "blender");
        scene.sample(on_gpu(77), Counter::VramUsed, f64::from(1 << 30) * 2.0);
        let found = check(&scene.facts()).finding().cloned().unwrap();
        assert_eq!(found.title, "blender (process 77) has taken 2.00 GiB of GPU 0");
        assert_eq!((found.impact, found.confidence), (Impact::Risk, 0.9));
        scene.tick().sample(on_gpu(77), Counter::VramUsed, 0.0);
        assert_eq!(check(&scene.facts()), Verdict::Clear);
    }

    #[test]
    fn one_that_was_there_is_told_apart() {
        let mut scene = scene();
        scene.sample(on_gpu(77), Counter::VramUsed, f64::from(1 << 30) * 2.0);
        scene.sample(on_gpu(77), Counter::GpuBusy, 0.4);
        let found = check(&scene.facts()).finding().cloned().unwrap();
        assert_eq!(found.title, "unknown (process 77) holds 2.00 GiB of GPU 0");
        assert_eq!(found.impact, Impact::Slower(0.4));
    }

    #[test]
    fn a_desktop_and_our_own_process_are_none() {
        let mut scene = scene();
        scene.tick().sample(on_gpu(77), Counter::VramUsed, 1e8);
        assert_eq!(check(&scene.facts()), Verdict::Clear);
    }

    #[test]
    fn without_knowing_who_is_watched_it_asks() {
        let mut scene = Scene::new();
        scene.sample(on_gpu(77), Counter::VramUsed, f64::from(1 << 30) * 2.0);
        assert!(matches!(check(&scene.facts()), Verdict::NeedMore(_)));
    }
}
