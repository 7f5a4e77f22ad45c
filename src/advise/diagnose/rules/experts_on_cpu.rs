//! `experts-on-cpu`: experts were put on the CPU by hand though there is room on the GPU.

use crate::advise::diagnose::facts::{Facts, LoadFacts};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;
use crate::observe::logs::{BufferKind, LineId};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "more experts are kept on the CPU than memory demands",
    doc: Doc {
        detects: "A mixture of experts with `-cmoe`, `-ncmoe N` or `-ot …=CPU`, and memory of the GPU \
            that stays free. When it is full, the split is as it should be, and is told as that.",
        costs: "Each token reads the experts that it uses from main memory, several times slower than \
            from the GPU's, and the graph is cut twice in each of these layers.",
        evidence: "The option, the weights in buffers of the host, and what is left of the free memory \
            that the log names when all buffers are subtracted.",
        fix: "A smaller N for `-ncmoe` (it counts layers whose experts stay on the CPU, from the first \
            one): the report says how many layers' experts fit. For prompts, a larger `-ub` (2048 to \
            4096) lets the GPU compute with experts from main memory.",
        example: "llama_model_load_from_file_impl: using device CUDA0 (…) - 23100 MiB free\n\
            tensor blk.0.ffn_up_exps.weight (612 MiB q4_K) buffer type overridden to CPU\n\
            load_tensors:   CPU_Mapped model buffer size = 42000.00 MiB\n\
            load_tensors:        CUDA0 model buffer size =  3200.00 MiB",
    },
    follows_from: &[],
    check,
};

const ID: &str = "experts-on-cpu";

/// Left free: what a context of the driver takes, and what sums of this kind do not know.
const RESERVE_BYTES: u64 = 1 << 30;

fn check(facts: &Facts) -> Verdict {
    facts.loads().rev().find_map(|load| found(&load)).into()
}

/// What puts experts on the CPU: the line of the option or of the first tensor, and of how many
/// layers.
fn moved(load: &LoadFacts, layers: u64) -> Option<(LineId, u64)> {
    let mut told: Option<(LineId, u64)> = None;
    for asked in &load.load.requested.overrides {
        let value = asked.value.trim();
        if let Some(tensor) = value.strip_prefix("blk.") {
            // The loader's own word, a layer at a time.
            if tensor.contains("_exps") && tensor.ends_with("=CPU") {
                let (line, n) = told.unwrap_or((asked.line, 0));
                told = Some((line, n + 1));
            }
            continue;
        }
        let number = value.rsplit([' ', '=']).next().and_then(|n| n.parse::<u64>().ok());
        let n = if ["-cmoe", "--cpu-moe"].contains(&value) {
            layers
        } else if ["-ncmoe", "--n-cpu-moe"].iter().any(|f| value.starts_with(f)) {
            number?
        } else if value.contains("exps") && value.contains("CPU") {
            layers
        } else {
            continue;
        };
        told = told.or(Some((asked.line, n)));
    }
    told.map(|(line, n)| (line, n.min(layers))).filter(|(_, n)| *n > 0)
}

fn found(load: &LoadFacts) -> Option<Finding> {
    let layers = load.repeating_layers();
    let (option, on_cpu) = moved(load, layers)?;
    let (host, gpu) = (load.on_host(BufferKind::Model), load.on_gpus(BufferKind::Model));
    if host == 0 || gpu == 0 {
        return None;
    }
    let host_line =
        load.load.buffers.iter().find(|b| b.kind == BufferKind::Model && b.is_host())?.line;
    // Experts are nearly all of a mixture's weights. Of a mapped file the buffer may span more than
    // is used, so that this is rather too much.
    let per_layer = host / on_cpu;
    let (left, free_line) = unused(load)?;
    let fit = left.saturating_sub(RESERVE_BYTES) / per_layer.max(1);
    if fit == 0 {
        let title = format!("{} of experts are on the CPU because the GPU is full", Bytes(host));
        return Some(
            Finding::benign(ID, 0.8, title)
                .because(
                    "For a mixture that does not fit, this is the better split: what every token needs \
                     is on the GPU, and of the experts only those that a token uses are read from main \
                     memory. The CPU is busy with them; that is the price.",
                )
                .seen(Evidence::line(host_line))
                .seen(Evidence::line(option)),
        );
    }
    let fit = fit.min(on_cpu);
    let share = 0.8 * fit as f64 / on_cpu as f64;
    let title = format!(
        "experts of {on_cpu} layers are on the CPU by choice, though those of about {fit} more fit the GPU"
    );
    let value = (on_cpu - fit).to_string();
    Some(
        Finding::problem(ID, Impact::Slower(share), 0.75, title)
            .because(format!(
                "{} of the GPU's memory stay free. The experts of one layer take about {}, and each layer \
                 whose experts are on the CPU costs a detour through main memory for every token.",
                Bytes(left),
                Bytes(per_layer)
            ))
            .seen(Evidence::line(option))
            .seen(Evidence::line(host_line))
            .seen_if(free_line.map(Evidence::line))
            .fix(Fix::flag("-ncmoe", value).why(
                "layers, from the first one, whose experts stay on the CPU; less one or two if loading fails",
                "a smaller CPU buffer, and more tokens per second",
            )),
    )
}

/// What stays free on the GPUs that take part, where the log tells what was free.
fn unused(load: &LoadFacts) -> Option<(u64, Option<LineId>)> {
    let mut left = 0;
    let mut line = None;
    for device in load.gpus_with_weights() {
        let free = load.load.gpu_free.iter().find(|f| f.device == device)?;
        line = Some(free.line);
        left += free.free_bytes.saturating_sub(load.allocated_on(device));
    }
    line.map(|line| (left, Some(line)))
}
