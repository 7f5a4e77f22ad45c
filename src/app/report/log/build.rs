//! From a session and its diagnosis to the document.

use crate::advise::diagnose::{Diagnosis, Severity};
use crate::app::report::document::{REPORT_SCHEMA, Source, SourceKind, Verdict};
use crate::app::report::findings::{findings, open};
use crate::observe::logs::{
    BufferKind, Device, Engine, FlashAttention, Load, LoadOutcome, LogSession, Spread,
};

use super::document::{
    LogBuffer, LogDevice, LogFacts, LogLines, LogLoad, LogReport, LogSplits, LogSpread, LogTimings,
};

/// The report of a log.
pub fn build_log_report(session: &LogSession, diagnosis: &Diagnosis) -> LogReport {
    LogReport {
        schema: REPORT_SCHEMA.to_string(),
        source: source(session),
        verdict: verdict(session, diagnosis),
        findings: findings(session, diagnosis),
        open: open(diagnosis),
        clear: diagnosis.clear.iter().map(|id| (*id).to_string()).collect(),
        facts: facts(session),
        splits: splits(session),
        timings: timings(session),
    }
}

fn source(session: &LogSession) -> Source {
    let engine = match session.engine {
        Engine::Unknown => "unknown",
        Engine::Ollama => "ollama",
        Engine::LlamaCpp => "llama.cpp",
        Engine::Vllm => "vllm",
        Engine::Gpuwhy => "gpuwhy",
    };
    Source {
        kind: SourceKind::Log,
        engine: engine.to_string(),
        engine_version: session.version.as_ref().map(|v| v.value.clone()).unwrap_or_default(),
        dialect: session.dialect.map(|d| d.name().to_string()),
    }
}

/// The rule that asks why no GPU is used.
pub(super) const NO_GPU_FOUND: &str = "no-gpu-found";

/// A log that shows neither a device nor a load nor a request says nothing, so nothing is called
/// well on its account.
fn verdict(session: &LogSession, diagnosis: &Diagnosis) -> Verdict {
    let problems = diagnosis.findings.iter().any(|f| f.severity >= Severity::Warning);
    let told = !session.loads.is_empty() || !session.devices.is_empty();
    // Work on the CPU alone is not well until the log says that there is no GPU.
    let why_not_known = diagnosis.open.iter().any(|(rule, _)| *rule == NO_GPU_FOUND);
    if problems {
        Verdict::Problem
    } else if why_not_known {
        Verdict::Unknown
    } else if told && session.engine != Engine::Unknown {
        Verdict::Benign
    } else {
        Verdict::Unknown
    }
}

fn facts(session: &LogSession) -> LogFacts {
    let settings = session.settings.iter().filter(|(_, s)| !s.value.is_empty());
    LogFacts {
        os: session.os.as_ref().map(|o| o.value.clone()),
        devices: session.devices.iter().map(device).collect(),
        backends: session.backends.iter().map(|(k, v)| (k.clone(), v.value.clone())).collect(),
        settings: settings.map(|(name, s)| (name.clone(), s.value.clone())).collect(),
        loads: session.loads.iter().map(load).collect(),
        loads_left_out: session.loads_left_out,
        lines: LogLines {
            all: session.counts.lines,
            known: session.counts.known,
            unknown: session.counts.unknown,
        },
    }
}

fn device(device: &Device) -> LogDevice {
    LogDevice {
        name: device.name.clone(),
        description: device.description.clone(),
        library: device.library.map(|l| l.name().to_string()),
        compute: device.compute.clone(),
        driver: device.driver.clone(),
        total_bytes: device.total_bytes,
        free_bytes: device.free_bytes,
    }
}

fn load(load: &Load) -> LogLoad {
    let buffers = load.buffers.iter().map(|b| LogBuffer {
        kind: buffer_kind(b.kind).to_string(),
        device: b.device.clone(),
        bytes: b.bytes,
        line: b.line.0,
    });
    let asked = &load.requested;
    let (kv_k, kv_v) =
        load.kv.as_ref().map_or((None, None), |k| (k.type_k.clone(), k.type_v.clone()));
    LogLoad {
        line: load.line.0,
        model: load.model.name.clone().or_else(|| load.model.path.clone()),
        arch: load.model.arch.as_ref().map(|a| a.value.clone()),
        layers_offloaded: load.layers.map(|l| l.offloaded),
        layers_total: load.layers.map(|l| l.total),
        n_ctx: load.n_ctx.or(asked.ctx).map(|n| n.value),
        parallel: load.n_seq_max.or(asked.parallel).map(|n| n.value),
        kv_type_k: kv_k.or_else(|| asked.kv_type_k.as_ref().map(|t| t.value.clone())),
        kv_type_v: kv_v.or_else(|| asked.kv_type_v.as_ref().map(|t| t.value.clone())),
        flash_attention: load.flash_attention.map(|f| flash_attention(f.value).to_string()),
        buffers: buffers.collect(),
        outcome: outcome(&load.outcome).to_string(),
    }
}

/// The name of a kind of buffer in reports.
pub(super) fn buffer_kind(kind: BufferKind) -> &'static str {
    match kind {
        BufferKind::Model => "model",
        BufferKind::Kv => "kv",
        BufferKind::Compute => "compute",
        BufferKind::Output => "output",
        BufferKind::Recurrent => "recurrent",
        BufferKind::Adapter => "adapter",
        BufferKind::Projector => "projector",
    }
}

fn flash_attention(state: FlashAttention) -> &'static str {
    match state {
        FlashAttention::On => "on",
        FlashAttention::Off => "off",
        FlashAttention::Auto => "auto",
    }
}

fn outcome(outcome: &LoadOutcome) -> &'static str {
    match outcome {
        LoadOutcome::Unknown => "unknown",
        LoadOutcome::Ready(_) => "ready",
        LoadOutcome::Failed(_) => "failed",
        LoadOutcome::Unloaded(_) => "unloaded",
    }
}

fn splits(session: &LogSession) -> Vec<LogSplits> {
    let graphs = session.loads.iter().enumerate().filter_map(|(i, l)| Some((i, l.graph?)));
    graphs
        .flat_map(|(i, g)| {
            let (phase, batch) = ("prompt", g.batch);
            let prompt = g.splits_prompt.map(|s| (phase, s, g.nodes_prompt, batch));
            let decode = g.splits_decode.map(|s| ("decode", s, g.nodes_decode, None));
            prompt.into_iter().chain(decode).map(move |(phase, splits, nodes, batch)| LogSplits {
                load: i as u64,
                phase: phase.to_string(),
                splits,
                nodes,
                batch,
            })
        })
        .collect()
}

fn timings(session: &LogSession) -> LogTimings {
    let all = &session.requests.all;
    LogTimings {
        requests: all.count,
        failed: all.failed,
        truncated: all.truncated,
        shifts: all.shifts,
        duration_s: spread(&all.duration_s),
        prompt_tokens_per_s: spread(&all.prompt_tokens_per_s),
        decode_tokens_per_s: spread(&all.decode_tokens_per_s),
    }
}

fn spread(spread: &Spread) -> Option<LogSpread> {
    let mean = spread.mean()?;
    Some(LogSpread { count: spread.count, min: spread.min, mean, max: spread.max })
}
