//! `gpu-power-cap`: the driver lowers the clocks.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::advise::diagnose::settle;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "a power or heat limit holds the GPU back",
    doc: Doc {
        detects: "The driver says that it lowers the GPU's clocks because of a power limit, heat, \
            or the power supply.",
        costs: "Prompts lose in proportion to the clock; answers, which are bound by memory, lose \
            less.",
        evidence: "`nvidia-smi -q` with a reason that is Active: SW Power Cap (the card is at its \
            limit, which is usual under full load), HW Thermal Slowdown or SW Thermal Slowdown \
            (heat), HW Power Brake Slowdown (power supply), HW Slowdown.",
        fix: "Power cap: raise the limit (`sudo nvidia-smi -pl W`, within what `nvidia-smi -q -d \
            POWER` allows), or let it be: the last 20 % of power give little. Heat: airflow, \
            dust, fan curve. Power brake: cables and power supply.",
        example: "        SW Power Cap                      : Active",
    },
    follows_from: &[
        "windows-shared-memory-spill",
        "decode-slows-with-depth",
        "sampling-dominates",
        "kv-cache-on-cpu",
        "kv-quant-attention-on-cpu",
        "op-unsupported-on-backend",
        "batch-too-small",
    ],
    check,
};

const ID: &str = "gpu-power-cap";

fn check(facts: &Facts) -> Verdict {
    // A card at its power limit is where a card under load should be, so that alone is weak; heat
    // and the power supply are faults.
    let reasons = [
        ("gpu-power-brake", "the power supply's brake signal", 0.3, 0.85),
        ("gpu-thermal-slowdown", "heat", 0.3, 0.85),
        ("gpu-hw-slowdown", "the hardware (heat or power)", 0.3, 0.8),
        ("gpu-sw-power-cap", "its power limit", 0.15, 0.6),
    ];
    let found = reasons.iter().find_map(|r| Some((facts.notice(r.0)?, r.1, r.2, r.3)));
    let Some((notice, reason, share, confidence)) = found else {
        return slow_without_reason(facts);
    };
    let power = notice.id == "gpu-sw-power-cap";
    let why = if power {
        "The driver keeps the card within its power limit by lowering the clocks. Under full load \
            that is usual; it costs speed when the limit was set lower than the card's own, or \
            when the card is at the limit although the load is light."
    } else {
        "The card protects itself by lowering its clocks. That is not usual and costs speed as \
            long as it lasts."
    };
    let fix = if power {
        Fix::system("see and raise the limit", "nvidia-smi -q -d POWER; sudo nvidia-smi -pl 350")
            .why("the limit can be raised up to the card's maximum", "clocks rise under load")
    } else {
        Fix::system("watch it under load", "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER -l 2")
            .why("the reason that is Active, with temperature and power, tells what to change", "")
    };
    Finding::problem(
        ID,
        Impact::Slower(share),
        confidence,
        format!("the GPU's clocks are held back by {reason}"),
    )
    .because(why)
    .seen(Evidence::line(notice.first))
    .fix(fix)
    .fix(
        Fix::system(
            "compare",
            "nvidia-smi --query-gpu=clocks.sm,clocks.max.sm,power.draw,power.limit --format=csv \
                -l 2",
        )
        .why("a clock far below the maximum during an answer shows what it costs", ""),
    )
    .into()
}

/// Generation far below what the GPU's memory allows, although all of the model is there and the graph
/// is whole: the state of the GPU is one of the reasons, and only the driver tells it.
fn slow_without_reason(facts: &Facts) -> Verdict {
    let Some(load) = facts.last_load() else { return Verdict::Clear };
    let Some(speed) = load.memory_speed_used().filter(|s| s.share() < SLOW_SHARE) else {
        return Verdict::Clear;
    };
    let splits = load.load.graph.and_then(|g| g.splits_decode.max(g.splits_prompt));
    let whole = splits.zip(load.splits_expected()).is_none_or(|(is, normal)| is <= normal + 4);
    // Small models wait for launches; and answers at the same time share the speed.
    let small = speed.weights_bytes < 1 << 30;
    if !whole || small || load.parallel() > 1 {
        return Verdict::Clear;
    }
    Verdict::need(
        format!(
            "why generation reaches only {:.0} % of what the GPU's memory allows ({:.1} of {:.1} tokens/s) \
             with all layers there: low clocks, heat, another program on the GPU, or memory that the \
             driver moved",
            100.0 * speed.share(),
            speed.tokens_per_s,
            speed.tokens_per_s_max
        ),
        settle::gpu_state(facts),
    )
}

/// A whole model reaches more than this of its memory's speed on any GPU in good order.
const SLOW_SHARE: f64 = 0.25;
