//! `cpu-quota-throttled`: the control group's quota of processor time holds the threads.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::facts::lately::{Growth, growth};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::counter::{Counter, Subject};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "a quota of CPU time stops the threads again and again",
    doc: Doc {
        detects: "A watched process in a control group (a container, a systemd unit) with a quota of \
            CPU time that is used up in one period after the other.",
        costs: "When the quota of a period of 100 ms is used up, all threads stand still until the next \
            one. More threads than the quota has processors use it up sooner, and then all of them stand \
            still together: speeds collapse instead of falling in proportion.",
        evidence: "`nr_throttled` and the throttled time of `cpu.stat` that rise in the last seconds. A \
            single rise, as at the start of a process, is none; neither is a quota that is never used up.",
        fix: "As many threads as the quota has processors (`-t`, `num_thread`), or a larger quota \
            (`docker run --cpus`, `resources.limits.cpu`, `CPUQuota=`).",
        example: "the CPU quota of 2 processors was used up in 83 % of the periods of the last seconds",
    },
    follows_from: &[],
    check,
};

const ID: &str = "cpu-quota-throttled";

/// Fewer periods than this cost nothing that can be felt.
const SHARE_MIN: f64 = 0.05;

/// Periods in a second, as the kernel's default has it.
const PERIODS_PER_S: f64 = 10.0;

fn check(facts: &Facts) -> Verdict {
    let Some(session) = facts.live else { return Verdict::Clear };
    let Some(cpus) = session.value(Subject::Host, Counter::CgroupCpus) else {
        return Verdict::Clear;
    };
    let Some(held) = growth(session, Subject::Host, Counter::CgroupThrottled) else {
        return Verdict::need("whether the CPU quota holds the threads", "one more sample");
    };
    let periods = (held.per_s() / PERIODS_PER_S).min(1.0);
    if held.steps < 2 || periods < SHARE_MIN {
        return Verdict::Clear;
    }
    let stood = growth(session, Subject::Host, Counter::CgroupThrottledTime);
    found(cpus, held, periods, stood, session.value(Subject::Host, Counter::CgroupCpus)).into()
}

fn found(
    cpus: f64,
    held: Growth,
    periods: f64,
    stood: Option<Growth>,
    quota: Option<f64>,
) -> Finding {
    // The time is summed over processors that were held, of which there are about as many as threads
    // ran; no more than the periods that were cut short can be lost.
    let stood_share = stood.map_or(0.5, |s| s.per_s() / 1e9 / quota.unwrap_or(1.0).max(1.0));
    let share = stood_share.clamp(0.05, 0.9).min(periods);
    let title = format!(
        "the CPU quota of {cpus} processors was used up in {:.0} % of the periods of the last seconds",
        100.0 * periods
    );
    let threads = cpus.floor().max(1.0);
    Finding::problem(ID, Impact::Slower(share), 0.95, title)
        .because(
            "The control group may use so much processor time in each period of 100 ms. When that is \
             used up, every thread stands still until the next period begins; threads that wait for \
             each other lose all of that time.",
        )
        .seen(Evidence::at(
            Place::Counter(Subject::Host, Counter::CgroupThrottled),
            format!("{:.0} periods cut short in {:.1} s", held.amount, held.seconds),
        ))
        .seen_if(stood.map(|s| {
            Evidence::at(
                Place::Counter(Subject::Host, Counter::CgroupThrottledTime),
                format!("processors were held for {:.1} s in that time", s.amount / 1e9),
            )
        }))
        .fix(Fix::flag("-t", format!("{threads:.0}")).why(
            "no more threads than the quota has processors use it up evenly (`num_thread` for Ollama)",
            "periods are no longer cut short",
        ))
        .fix(
            Fix::system("a larger quota", "docker run --cpus N; resources.limits.cpu; CPUQuota=")
                .why("the quota is a limit that somebody set", "periods are no longer cut short"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::Scene;

    const HOST: Subject = Subject::Host;

    fn scene(rise: f64, times: u32) -> Scene {
        let mut scene = Scene::new();
        scene.sample(HOST, Counter::CgroupCpus, 2.0);
        for i in 0..8_u32 {
            let seen = f64::from(i.min(times)) * rise;
            scene.tick().sample(HOST, Counter::CgroupThrottled, 100.0 + seen);
            scene.sample(HOST, Counter::CgroupThrottledTime, seen * 5e7);
        }
        scene
    }

    #[test]
    fn a_quota_that_is_used_up_again_and_again_is_found() {
        let found = check(&scene(2.0, 8).facts()).finding().cloned().unwrap();
        assert!(found.title.contains("used up in 80 % of the periods"), "{}", found.title);
        let Impact::Slower(share) = found.impact else { panic!("{found:?}") };
        assert!((share - 0.2).abs() < 1e-9, "{share}");
        assert_eq!((found.fixes[0].name.as_str(), found.fixes[0].value.as_str()), ("-t", "2"));
    }

    #[test]
    fn one_rise_and_an_idle_quota_are_no_fault() {
        assert_eq!(check(&scene(2.0, 1).facts()), Verdict::Clear);
        assert_eq!(check(&scene(0.0, 8).facts()), Verdict::Clear);
        assert_eq!(check(&Scene::new().facts()), Verdict::Clear);
    }

    #[test]
    fn one_sample_does_not_tell() {
        let mut scene = Scene::new();
        scene.sample(HOST, Counter::CgroupCpus, 2.0);
        scene.sample(HOST, Counter::CgroupThrottled, 5.0);
        assert!(matches!(check(&scene.facts()), Verdict::NeedMore(_)));
    }
}
