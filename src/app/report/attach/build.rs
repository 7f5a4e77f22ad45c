//! From a session to the document.

use crate::advise::diagnose::{Diagnosis, Facts, Severity, diagnose};
use crate::app::report::document::{REPORT_SCHEMA, Source, SourceKind, Verdict};
use crate::app::report::findings::{findings, open};
use crate::base::counter::{Counter, Source as From, Subject};
use crate::base::event::{ServedModel, ServerFact, ServerState};
use crate::observe::session::{Series, Session};

use super::document::{
    AbsentFacts, AttachFacts, AttachReport, AttachTimings, Figure, GpuFacts, ObserverFacts,
    ProcessFacts, ServedModelFacts, ServerFacts, SlotFacts, ThreadFacts, state_name,
};

/// Threads of a process that are listed.
const THREADS_LISTED: usize = 16;

/// The report of a watched server as far as the session has come; `kind` says whether it was watched
/// or is a recording of that. `None` where no server was found.
pub fn attach_report(session: &mut Session, kind: SourceKind) -> Option<AttachReport> {
    let server = session.server.clone()?;
    session.log.settle();
    let session = &*session;
    let diagnosis = diagnose(&Facts::of_session(session));
    Some(AttachReport {
        schema: REPORT_SCHEMA.to_string(),
        source: Source {
            kind,
            engine: server.engine.clone(),
            engine_version: server.engine_version.clone(),
            dialect: session.log.told().dialect.map(|d| d.name().to_string()),
        },
        verdict: verdict(session, &diagnosis),
        findings: findings(session.log.told(), &diagnosis),
        open: open(&diagnosis),
        warnings: session.sums.warnings.clone(),
        facts: AttachFacts {
            server: server_facts(session, &server),
            models: server.models.iter().map(model).collect(),
            slots: slots(session),
            processes: server.working_pids.iter().map(|pid| process(session, *pid)).collect(),
            gpus: session.counters.gpus().map(|gpu| gpu_facts(session, gpu)).collect(),
            absent: absent(session),
            observer: observer(session),
        },
        splits: Vec::new(),
        timings: timings(session),
    })
}

/// Nothing is called well of a server that did not answer, or that told nothing that rules ask for.
fn verdict(session: &Session, diagnosis: &Diagnosis) -> Verdict {
    let is_up = session.server.as_ref().is_some_and(|s| s.state == ServerState::Up);
    let log = session.log.told();
    let told = !log.loads.is_empty() || !log.devices.is_empty();
    if diagnosis.findings.iter().any(|f| f.severity >= Severity::Warning) {
        Verdict::Problem
    } else if is_up && told {
        Verdict::Benign
    } else {
        Verdict::Unknown
    }
}

fn server_facts(session: &Session, server: &ServerFact) -> ServerFacts {
    let mut details: std::collections::BTreeMap<String, String> =
        server.details.iter().cloned().collect();
    ServerFacts {
        url: server.url.clone(),
        state: state_name(server.state).to_string(),
        restarts: session.server_restarts,
        pid: server.pid,
        working_pids: server.working_pids.clone(),
        slots: server.slots,
        log: details.remove("log"),
        log_lines: session.log.count(),
        details,
    }
}

fn model(model: &ServedModel) -> ServedModelFacts {
    let text = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
    ServedModelFacts {
        name: model.name.clone(),
        file: text(&model.file),
        quantization: text(&model.quantization),
        architecture: text(&model.architecture),
        parameters: model.parameters,
        layers: model.layers,
        bytes: model.bytes,
        vram_bytes: model.vram_bytes,
        context_tokens: model.context_tokens,
        context_trained: model.context_trained,
    }
}

fn figure(session: &Session, subject: Subject, counter: Counter) -> Option<Figure> {
    session.counters.get(subject, counter).map(figure_of)
}

fn figure_of(series: &Series) -> Figure {
    let kept = series.points().len() as f64;
    Figure {
        count: series.count,
        last: series.last().value,
        min: series.min,
        mean: series.points().map(|p| p.value).sum::<f64>() / kept,
        max: series.max,
    }
}

fn count(session: &Session, subject: Subject, counter: Counter) -> Option<u64> {
    session.value(subject, counter).filter(|v| *v >= 0.0).map(|v| v as u64)
}

fn slots(session: &Session) -> Vec<SlotFacts> {
    let slots = session.counters.subjects().filter_map(|subject| match subject {
        Subject::Slot(slot) => Some(slot),
        _ => None,
    });
    let facts = slots.map(|slot| {
        let of = |counter| count(session, Subject::Slot(slot), counter);
        SlotFacts {
            slot,
            busy: of(Counter::SlotsBusy) == Some(1),
            context_tokens: of(Counter::SlotContext),
            prompt_tokens: of(Counter::SlotPrompt),
            decoded_tokens: of(Counter::SlotDecoded),
            decode_tokens_per_s: figure(session, Subject::Slot(slot), Counter::DecodeRate),
        }
    });
    facts.collect()
}

fn process(session: &Session, pid: u32) -> ProcessFacts {
    let subject = Subject::Process(pid);
    let mut threads: Vec<ThreadFacts> = threads_of(session, pid);
    threads.sort_by(|a, b| b.cpus.mean.total_cmp(&a.cpus.mean));
    threads.truncate(THREADS_LISTED);
    let vram = session.counters.gpus().filter_map(|gpu| {
        let of = Subject::GpuProcess { gpu, pid };
        Some((gpu, count(session, of, Counter::VramUsed)?))
    });
    ProcessFacts {
        pid,
        name: session.name(subject).unwrap_or_default().to_string(),
        cpus: figure(session, subject, Counter::CpuUsed),
        resident_bytes: count(session, subject, Counter::Resident),
        vram_bytes: vram.collect(),
        threads_count: count(session, subject, Counter::Threads),
        threads,
    }
}

fn threads_of(session: &Session, pid: u32) -> Vec<ThreadFacts> {
    let owner = pid.to_string();
    let threads = session.counters.subjects().filter_map(|subject| {
        let Subject::Thread(tid) = subject else { return None };
        let fact = session.subjects.get(&subject)?;
        let is_its = fact.details.iter().any(|(name, value)| name == "process" && *value == owner);
        let cpus = figure(session, subject, Counter::CpuUsed).filter(|_| is_its)?;
        Some(ThreadFacts { tid, name: fact.name.clone(), cpus })
    });
    threads.collect()
}

fn gpu_facts(session: &Session, gpu: u8) -> GpuFacts {
    let subject = Subject::Gpu(gpu);
    GpuFacts {
        index: gpu,
        name: session.name(subject).unwrap_or_default().to_string(),
        busy_share: figure(session, subject, Counter::GpuBusy),
        vram_bytes_used: count(session, subject, Counter::VramUsed),
        vram_bytes_total: count(session, subject, Counter::VramTotal),
    }
}

/// What of the server could not be read, and of other sources what is absent as a whole: single
/// counters that a machine lacks are no news to who asks about a server.
fn absent(session: &Session) -> Vec<AbsentFacts> {
    let told = session
        .absent
        .values()
        .filter(|a| a.source == From::Server || (a.subject.is_none() && a.counter.is_none()));
    let facts = told.map(|a| AbsentFacts {
        source: a.source.name().to_string(),
        text: a.text.clone(),
        hint: a.hint.clone(),
    });
    facts.collect()
}

fn observer(session: &Session) -> Vec<ObserverFacts> {
    let sources = [From::Server, From::Host, From::Process, From::Nvml];
    let facts = sources.into_iter().filter_map(|source| {
        let subject = Subject::Observer(source);
        let reading_ns = figure(session, subject, Counter::ReadingTime)?;
        Some(ObserverFacts {
            source: source.name().to_string(),
            reading_cpu_ns: figure(session, subject, Counter::ReadingCost),
            reading_ns: Some(reading_ns),
        })
    });
    facts.collect()
}

fn timings(session: &Session) -> AttachTimings {
    let of = |counter| figure(session, Subject::Server, counter);
    AttachTimings {
        watched_s: session.duration_ns() as f64 / 1e9,
        slots_busy: of(Counter::SlotsBusy),
        requests_queued: of(Counter::RequestsQueued),
        kv_used_share: of(Counter::KvUsed),
        prompt_tokens_per_s: of(Counter::PromptRate),
        decode_tokens_per_s: of(Counter::DecodeRate),
        prompt_tokens: grown(session, Counter::PromptTokens),
        decoded_tokens: grown(session, Counter::DecodedTokens),
        probe: None,
    }
}

/// How much a total of the server has grown since the first sample; after it began to count anew,
/// nobody can say.
fn grown(session: &Session, counter: Counter) -> Option<u64> {
    let series = session.counters.get(Subject::Server, counter)?;
    let grown = series.last().value - series.first.value;
    (grown >= 0.0).then_some(grown as u64)
}
