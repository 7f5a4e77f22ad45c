//! `pcie-link-degraded`: a GPU's link to the host is narrower or slower than it could be.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::facts::lately::{gpu_name, seconds_in, value_at};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::counter::{Counter, Subject};
use crate::base::event::Phase;
use crate::observe::session::{Point, Session};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "a GPU's PCIe link is narrower or slower than it could be",
    doc: Doc {
        detects: "A watched GPU whose PCIe link has fewer lanes than GPU and slot can do, or runs at a \
            lower generation while the GPU works.",
        costs: "Everything that goes between host and GPU, or between GPUs, takes longer in \
            proportion: loading, prompts with weights in main memory, layers shared between devices. A \
            model that is wholly on one GPU hardly feels it after loading.",
        evidence: "The link's width below its maximum in two samples in a row, or its generation below \
            its maximum in two samples while the GPU was busy. A generation that is low only while the \
            GPU idles is none: the link saves power then and comes back with work.",
        fix: "Reseat the card, look at the riser and the slot (some have fewer lanes, or share them with \
            an SSD), set the generation in the BIOS, and look for errors of the link in `dmesg`.",
        example: "the PCIe link of GPU 0 (Example H100) has 4 of 16 lanes",
    },
    follows_from: &["gpu-hardware-error"],
    check,
};

const ID: &str = "pcie-link-degraded";

/// A GPU with more work than this does not save power on its link.
const BUSY_MIN: f64 = 0.3;

fn check(facts: &Facts) -> Verdict {
    let Some(session) = facts.live else { return Verdict::Clear };
    let mut idle = None;
    let mut open = None;
    for gpu in session.counters.gpus() {
        if let Some(finding) = narrow(session, gpu).or_else(|| slow(session, gpu)) {
            return finding.into();
        }
        idle = idle.or_else(|| asleep(session, gpu));
        open = open.or_else(|| once(session, gpu));
    }
    idle.map(Verdict::from).or(open).unwrap_or(Verdict::Clear)
}

/// The last two samples of a counter, the older one first, and the most that it could be.
fn last_two(session: &Session, gpu: u8, of: Counter, max: Counter) -> Option<([Point; 2], f64)> {
    let series = session.counters.get(Subject::Gpu(gpu), of)?;
    let mut latest = series.points().rev();
    let (last, before) = (latest.next()?, latest.next()?);
    Some(([before, last], session.value(Subject::Gpu(gpu), max)?))
}

fn narrow(session: &Session, gpu: u8) -> Option<Finding> {
    let (of, max_of) = (Counter::PcieWidth, Counter::PcieWidthMax);
    let (two, max) = last_two(session, gpu, of, max_of)?;
    if two.iter().any(|p| p.value >= max || p.value < 1.0) {
        return None;
    }
    let (now, name) = (two[1].value, gpu_name(session, gpu));
    let series = session.counters.get(Subject::Gpu(gpu), of)?;
    let fell = series.max > now;
    let since = series.points().find(|p| p.value <= now).map_or(0, |p| p.at_ns);
    let (title, text) = if fell {
        (
            format!("the PCIe link of {name} fell from {:.0} to {now:.0} lanes", series.max),
            format!("{now:.0} lanes since {:.1} s", seconds_in(session, since)),
        )
    } else {
        (
            format!("the PCIe link of {name} has {now:.0} of {max:.0} lanes"),
            format!("{now:.0} lanes all the time"),
        )
    };
    let impact = Impact::Slower(lost(session, now / max));
    let sure = if fell { 0.95 } else { 0.8 };
    Some(
        Finding::problem(ID, impact, sure, title)
            .because(format!(
                "GPU and slot can do {max:.0} lanes. A link loses lanes when contacts are bad, when a \
                 riser or the slot has fewer, or when another card or an SSD takes them. All that goes \
                 over it takes {:.0} times as long.",
                max / now
            ))
            .seen(Evidence::at(Place::Counter(Subject::Gpu(gpu), of), text))
            .seen_if(replays(session, gpu))
            .fix_all(fixes()),
    )
}

fn slow(session: &Session, gpu: u8) -> Option<Finding> {
    let (of, max_of) = (Counter::PcieGeneration, Counter::PcieGenerationMax);
    let (two, max) = last_two(session, gpu, of, max_of)?;
    if two.iter().any(|p| p.value >= max || !busy_at(session, gpu, p.at_ns)) {
        return None;
    }
    let (now, name) = (two[1].value, gpu_name(session, gpu));
    let title =
        format!("the PCIe link of {name} runs at generation {now:.0} of {max:.0} under load");
    // Each generation doubles the speed of the one before.
    let impact = Impact::Slower(lost(session, (now - max).exp2()));
    Some(
        Finding::problem(ID, impact, 0.85, title)
            .because(format!(
                "The GPU works, so the link is not saving power. Each generation is twice as fast as the \
                 one before: all that goes over it takes {:.0} times as long. A riser, a setting of the \
                 BIOS or errors of the link hold it there.",
                (max - now).exp2()
            ))
            .seen(Evidence::at(
                Place::Counter(Subject::Gpu(gpu), of),
                format!("generation {now:.0} in the last two samples, with the GPU busy"),
            ))
            .seen_if(replays(session, gpu))
            .fix_all(fixes()),
    )
}

/// A low generation of a GPU that idles.
fn asleep(session: &Session, gpu: u8) -> Option<Finding> {
    let (of, max_of) = (Counter::PcieGeneration, Counter::PcieGenerationMax);
    let (two, max) = last_two(session, gpu, of, max_of)?;
    let now = two[1];
    if now.value >= max || busy_at(session, gpu, now.at_ns) {
        return None;
    }
    session.value(Subject::Gpu(gpu), Counter::GpuBusy)?;
    let name = gpu_name(session, gpu);
    let title = format!(
        "generation {:.0} of {max:.0} of the PCIe link of {name} is its sleep: the GPU idles",
        now.value
    );
    Some(
        Finding::benign(ID, 0.9, title)
            .because(
                "A link saves power while there is nothing to do and comes back within moments. Only a \
                 low generation under load is a fault.",
            )
            .seen(Evidence::at(
                Place::Counter(Subject::Gpu(gpu), of),
                format!("generation {:.0} while the GPU has no work", now.value),
            )),
    )
}

/// A first sample below the maximum tells nothing yet.
fn once(session: &Session, gpu: u8) -> Option<Verdict> {
    let low = |of: Counter, max: Counter| {
        let series = session.counters.get(Subject::Gpu(gpu), of)?;
        let max = session.value(Subject::Gpu(gpu), max)?;
        (series.last().value < max).then_some(())
    };
    let width = low(Counter::PcieWidth, Counter::PcieWidthMax);
    let busy = session.last_ns;
    let generation = low(Counter::PcieGeneration, Counter::PcieGenerationMax)
        .filter(|()| busy_at(session, gpu, busy));
    width.or(generation)?;
    Some(Verdict::need(
        format!("whether the PCIe link of {} stays below its maximum", gpu_name(session, gpu)),
        "one more sample",
    ))
}

fn busy_at(session: &Session, gpu: u8, at_ns: u64) -> bool {
    value_at(session, Subject::Gpu(gpu), Counter::GpuBusy, at_ns).is_some_and(|b| b >= BUSY_MIN)
}

/// The share of the time that a link costs which runs at `speed` of what it could: by the share of
/// copies where that was measured, else a guess.
fn lost(session: &Session, speed: f64) -> f64 {
    const GUESS: f64 = 0.1;
    let phases = [Phase::Decode, Phase::Prompt];
    let sums = phases.iter().filter_map(|p| session.sums.phases.get(p));
    let (copy_ns, total_ns) =
        sums.fold((0, 0), |sum, p| (sum.0 + p.parts.copy_ns, sum.1 + p.total_ns));
    match total_ns {
        0 => GUESS * (1.0 - speed),
        total => (1.0 - speed) * copy_ns as f64 / total as f64,
    }
}

fn replays(session: &Session, gpu: u8) -> Option<Evidence> {
    let series = session.counters.get(Subject::Gpu(gpu), Counter::PcieReplays)?;
    let more = series.last().value - series.first.value;
    let text = format!("{more:.0} packets had to be sent again since the begin");
    (more > 0.0)
        .then(|| Evidence::at(Place::Counter(Subject::Gpu(gpu), Counter::PcieReplays), text))
}

fn fixes() -> Vec<Fix> {
    vec![
        Fix::system(
            "see the link",
            "nvidia-smi -q -d PCI; sudo lspci -vv | grep -E 'VGA|3D|LnkCap|LnkSta'",
        )
        .why("it tells what card and slot can do, and what they do now", "LnkSta as LnkCap"),
        Fix::system("look for errors", "sudo dmesg | grep -iE 'pcie|AER|nvrm'")
            .why("a link with errors is turned down by card or chipset", "no errors of the link"),
        Fix::system("the hardware", "reseat the card, try it without a riser and in another slot")
            .why("bad contacts and slots with fewer lanes are the usual causes", "all lanes"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::finding::Kind;
    use crate::advise::diagnose::scenes::Scene;

    const GPU: Subject = Subject::Gpu(0);

    fn scene() -> Scene {
        let mut scene = Scene::new();
        scene.name(GPU, "Example H100");
        for (counter, value) in [
            (Counter::PcieWidthMax, 16.0),
            (Counter::PcieGenerationMax, 5.0),
            (Counter::PcieWidth, 16.0),
            (Counter::PcieGeneration, 5.0),
            (Counter::GpuBusy, 0.9),
        ] {
            scene.sample(GPU, counter, value);
        }
        scene
    }

    fn look(scene: &mut Scene, width: f64, generation: f64, busy: f64) -> Verdict {
        scene.tick().sample(GPU, Counter::GpuBusy, busy);
        scene.sample(GPU, Counter::PcieWidth, width);
        scene.sample(GPU, Counter::PcieGeneration, generation);
        check(&scene.facts())
    }

    #[test]
    fn a_width_that_falls_is_found_at_the_second_sample() {
        let mut scene = scene();
        assert_eq!(look(&mut scene, 16.0, 5.0, 0.9), Verdict::Clear);
        assert!(matches!(look(&mut scene, 4.0, 5.0, 0.9), Verdict::NeedMore(_)));
        let found = look(&mut scene, 4.0, 5.0, 0.9).finding().cloned().unwrap();
        assert_eq!(found.title, "the PCIe link of GPU 0 (Example H100) fell from 16 to 4 lanes");
        assert_eq!(found.kind, Kind::Problem);
        let Impact::Slower(share) = found.impact else { panic!("{found:?}") };
        assert!((share - 0.075).abs() < 1e-9, "{share}");
        // And it is over when it is over.
        assert_eq!(look(&mut scene, 16.0, 5.0, 0.9), Verdict::Clear);
    }

    #[test]
    fn a_generation_counts_under_load_only() {
        let mut scene = scene();
        look(&mut scene, 16.0, 1.0, 0.0);
        let idle = look(&mut scene, 16.0, 1.0, 0.0).finding().cloned().unwrap();
        assert_eq!(idle.kind, Kind::Benign);
        look(&mut scene, 16.0, 2.0, 0.9);
        let busy = look(&mut scene, 16.0, 2.0, 0.9).finding().cloned().unwrap();
        let told = "the PCIe link of GPU 0 (Example H100) runs at generation 2 of 5 under load";
        assert_eq!((busy.kind, busy.title.as_str()), (Kind::Problem, told));
    }

    #[test]
    fn without_gpus_there_is_no_question() {
        assert_eq!(check(&Scene::new().facts()), Verdict::Clear);
    }
}
