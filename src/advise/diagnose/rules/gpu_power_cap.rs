//! `gpu-power-cap`: the driver lowers the clocks.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::facts::lately::{gpu_name, seconds_in};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::advise::diagnose::settle;
use crate::base::counter::{Counter, Subject};
use crate::observe::session::Session;
use crate::observe::telemetry::nvml::throttle::{self, Kind, Reason};

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
            (heat), HW Power Brake Slowdown (power supply), HW Slowdown. Of a GPU that is watched, the \
            driver's reasons in each sample, since when, and the clock beside its maximum; a power limit \
            counts only while the GPU works.",
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
    if let Some(finding) = facts.live.and_then(watched) {
        return finding.into();
    }
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

/// The GPU that its driver holds back now, the strongest reason of all.
fn watched(session: &Session) -> Option<Finding> {
    let held = session.counters.gpus().filter_map(|gpu| {
        let bits = session.value(Subject::Gpu(gpu), Counter::ThrottleReasons)? as u64;
        let reasons = throttle::reasons(bits).filter(|r| r.kind != Kind::Idle);
        // The later ones in the list say more precisely what "hardware slowdown" is.
        let strongest = reasons.max_by_key(|r| (r.kind == Kind::Passing, r.bit))?;
        let rank = (strongest.kind == Kind::Passing, strongest.bit);
        Some((rank, held_back(session, gpu, bits, strongest)?))
    });
    held.max_by_key(|(rank, _)| *rank).map(|(_, finding)| finding)
}

/// A GPU with less work than this is not held back by a limit of power or clocks.
const BUSY_MIN: f64 = 0.5;

fn held_back(session: &Session, gpu: u8, bits: u64, strongest: &Reason) -> Option<Finding> {
    let subject = Subject::Gpu(gpu);
    let value = |counter| session.value(subject, counter);
    let busy = value(Counter::GpuBusy);
    let passing = strongest.kind == Kind::Passing;
    if !passing && busy.is_some_and(|b| b < BUSY_MIN) {
        return None;
    }
    let clock = value(Counter::GpuClock).zip(value(Counter::GpuClockMax)).filter(|c| c.1 > 0.0);
    let lost = clock.map(|(now, max)| (1.0 - now / max).clamp(0.0, 1.0));
    // A fault lasts until somebody mends it; a limit is there on purpose, so that alone is weak.
    let (share, sure) = match (passing, strongest.id) {
        (true, _) => (lost.unwrap_or(0.3), 0.9),
        (false, "power-cap") => (lost.unwrap_or(0.1).min(0.15), 0.6),
        (false, _) => (lost?.min(0.5), 0.6),
    };
    let words: Vec<&str> =
        throttle::reasons(bits).filter(|r| r.kind != Kind::Idle).map(|r| r.words).collect();
    let words = words.join(", ");
    let at = |counter, text: String| Evidence::at(Place::Counter(subject, counter), text);
    let clocks = clock.map(|(now, max)| {
        let text = format!("clock {:.0} of {:.0} MHz", now / 1e6, max / 1e6);
        at(Counter::GpuClock, text)
    });
    let power = value(Counter::Power)
        .zip(value(Counter::PowerLimit))
        .map(|(now, max)| at(Counter::Power, format!("power {now:.0} of {max:.0} W")));
    let heat = value(Counter::Temperature).map(|c| at(Counter::Temperature, format!("{c:.0} °C")));
    let title = format!("{} is held back: {words}", gpu_name(session, gpu));
    Some(
        Finding::problem(ID, Impact::Slower(share), sure, title)
            .because(explained(strongest))
            .seen(at(Counter::ThrottleReasons, since(session, subject, strongest)))
            .seen_if(clocks)
            .seen_if(power)
            .seen_if(heat)
            .fix(remedy(strongest)),
    )
}

/// Since when a reason has been there without a break, and in how many of the kept samples.
fn since(session: &Session, subject: Subject, reason: &Reason) -> String {
    let Some(series) = session.counters.get(subject, Counter::ThrottleReasons) else {
        return reason.words.to_string();
    };
    let has = |value: f64| value as u64 & reason.bit != 0;
    let (all, held) = (series.points().len(), series.points().filter(|p| has(p.value)).count());
    let begin = series.points().rev().take_while(|p| has(p.value)).last();
    let begin = begin.map_or(0.0, |p| seconds_in(session, p.at_ns));
    format!("{} since {begin:.1} s, in {held} of the last {all} samples", reason.words)
}

fn explained(reason: &Reason) -> &'static str {
    match reason.id {
        "power-cap" => {
            "The driver keeps the card within its power limit by lowering its clocks. Under full load that \
             is usual; it costs speed when the limit was set lower than the card's own."
        }
        "application-clocks" | "display-clocks" => {
            "Somebody, or the driver for a display, has set clocks below the highest. That stays until it \
             is set back."
        }
        "sync-boost" => "The GPU keeps step with a slower one of its sync boost group.",
        "power-brake" => {
            "The power supply asks the card to slow down: it is too weak, a cable is missing, or the \
             machine's own limit was reached. That is not usual and costs speed as long as it lasts."
        }
        _ => {
            "The card protects itself by lowering its clocks. That is not usual and costs speed as long as \
             it lasts."
        }
    }
}

fn remedy(reason: &Reason) -> Fix {
    let expected = "the reason is gone and the clock rises under load";
    match reason.id {
        "power-cap" => Fix::system(
            "see and raise the limit",
            "nvidia-smi -q -d POWER; sudo nvidia-smi -pl WATTS",
        )
        .why("the limit can be raised up to the card's maximum", expected),
        "application-clocks" | "display-clocks" => {
            Fix::system("clocks as they come", "sudo nvidia-smi -rac; sudo nvidia-smi -rgc")
                .why("sets back clocks that somebody has set", expected)
        }
        "power-brake" => {
            Fix::system("power supply", "check the card's cables and the power supply")
                .why("the signal comes from the power supply or the mainboard", expected)
        }
        "sync-boost" => Fix::system("the other GPU", "nvidia-smi -q -d PERFORMANCE,CLOCK")
            .why("the slowest GPU of the group decides; find what holds that one", expected),
        _ => Fix::system("cool it", "check fans, dust, airflow and the temperature of the room")
            .why("the card is too hot for its clocks", expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::Scene;

    const GPU: Subject = Subject::Gpu(0);

    fn scene(bits: u64, busy: f64) -> Scene {
        let mut scene = Scene::new();
        scene.name(GPU, "Example H100");
        for (counter, value) in [
            (Counter::GpuClock, 1.05e9),
            (Counter::GpuClockMax, 2.1e9),
            (Counter::Power, 690.0),
            (Counter::PowerLimit, 700.0),
            (Counter::GpuBusy, busy),
            (Counter::ThrottleReasons, 1.0),
        ] {
            scene.sample(GPU, counter, value);
        }
        scene.tick().sample(GPU, Counter::ThrottleReasons, bits as f64);
        scene
    }

    #[test]
    fn heat_is_found_at_its_first_sample() {
        let found = check(&scene(0x48, 0.9).facts()).finding().cloned().unwrap();
        assert_eq!(
            found.title,
            "GPU 0 (Example H100) is held back: hardware slowdown (heat or power supply), hardware \
             slowdown by heat"
        );
        assert_eq!((found.impact, found.confidence), (Impact::Slower(0.5), 0.9));
        let told: Vec<&str> = found.evidence.iter().map(|e| &*e.text).collect();
        assert!(told[0].ends_with("in 1 of the last 2 samples"), "{told:?}");
        assert_eq!(told[1..], ["clock 1050 of 2100 MHz", "power 690 of 700 W"]);
    }

    #[test]
    fn a_power_limit_under_load_is_weak_and_without_load_is_none() {
        let found = check(&scene(0x4, 0.95).facts()).finding().cloned().unwrap();
        assert_eq!((found.impact, found.confidence), (Impact::Slower(0.15), 0.6));
        assert_eq!(check(&scene(0x4, 0.1).facts()), Verdict::Clear);
    }

    #[test]
    fn an_idle_gpu_is_not_held_back() {
        assert_eq!(check(&scene(0x1, 0.0).facts()), Verdict::Clear);
    }
}
