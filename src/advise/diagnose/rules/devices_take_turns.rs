//! `devices-take-turns`: a split on the CPU that the other devices wait for at every token.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::facts::cut::{BusiestCut, TOKENS_MIN, layers, listed};
use crate::advise::diagnose::facts::lately::tokens_generated;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place, Severity};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::event::{DeviceFact, DeviceIndex, Phase, SplitFact};
use crate::base::setup::SetupFact;
use crate::base::units::Bytes;
use crate::observe::session::{On, Session};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the CPU computes part of every token while the other devices wait",
    doc: Doc {
        detects: "A run that was watched, in which one device's split takes a large part of each token \
            and the others wait for it. It is a problem when that device is the CPU; devices that merely \
            share the layers take turns as they must.",
        costs: "The splits of a token run one after the other, as each needs what the one before \
            computed. What the CPU computes adds to every token, and it reads weights many times slower \
            than a GPU does.",
        evidence: "The measured time of each split over at least 16 generated tokens, and what every \
            device waited for meanwhile. Before that the rule says how many tokens are missing. Splits \
            of the CPU without a layer, as that of the token embedding, are none of it, nor are those that \
            take less than 3 %; below a tenth it is only good to know.",
        fix: "What keeps the layers on the CPU decides: more memory or a smaller file, a smaller \
            context (`-c`), a KV cache in q8_0, or a higher `-ngl` where it was set by hand.",
        example: "split 2 on CPU (layers 20..23 and the output, 86 nodes) takes 61 % of each token while \
            Virtual0 and Virtual1 wait",
    },
    follows_from: &[],
    check,
};

const ID: &str = "devices-take-turns";

/// What the token embedding alone takes on the CPU is less than this.
const SHARE_MIN: f64 = 0.03;

/// A smaller share of the CPU is good to know, but hardly worth a change.
const SHARE_FELT: f64 = 0.1;

fn check(facts: &Facts) -> Verdict {
    let Some(session) = facts.live.filter(|s| s.sums.devices.len() > 1) else {
        return Verdict::Clear;
    };
    let tokens = tokens_generated(session);
    if tokens < TOKENS_MIN {
        return Verdict::need(
            format!(
                "which split takes the time of a token: {tokens} of {TOKENS_MIN} tokens are there"
            ),
            format!("let it generate {} more tokens (`-n`)", TOKENS_MIN - tokens),
        );
    }
    let Some(cut) = BusiestCut::of(session, Phase::Decode) else { return Verdict::Clear };
    let others = others(session, &cut);
    let Some(cpu) = session.sums.devices.iter().find(|d| d.name == "CPU") else {
        return Verdict::Clear;
    };
    let own = || cut.splits().filter(|(_, split, _)| split.device == cpu.index);
    // The embedding's split has no layer, and is always there.
    let has_layers = own().any(|(_, split, _)| !layers(split).is_empty());
    let share = if has_layers { cut.share(cut.device(cpu.index).0) } else { 0.0 };
    match others.len() {
        0 => Verdict::Clear,
        _ if share >= SHARE_MIN => serial(session, &cut, cpu, &others).into(),
        1 => Verdict::Clear,
        _ => shared(session, &cut, &others).into(),
    }
}

/// Devices that compute layers, but for the CPU.
fn others<'a>(session: &'a Session, cut: &BusiestCut) -> Vec<&'a DeviceFact> {
    let computes = |d: &&DeviceFact| d.name != "CPU" && cut.device(d.index).0 > 0;
    session.sums.devices.iter().filter(computes).collect()
}

fn serial(
    session: &Session,
    cut: &BusiestCut,
    cpu: &DeviceFact,
    others: &[&DeviceFact],
) -> Finding {
    let (all_ns, bytes) = cut.device(cpu.index);
    let own = || cut.splits().filter(|(_, split, _)| split.device == cpu.index);
    let (index, split, ns) = own().max_by_key(|s| s.2).unwrap_or((0, &cut.fact.splits[0], 0));
    let names: Vec<String> = others.iter().map(|d| d.name.clone()).collect();
    let wait = if others.len() == 1 { "waits" } else { "wait" };
    let what = described(index, split);
    let title = format!(
        "{what} takes {:.0} % of each token while {} {wait}",
        100.0 * cut.share(ns),
        listed(&names)
    );
    let more = own().count() - 1;
    let rest = match more {
        0 => String::new(),
        n => {
            format!(" With the CPU's {n} other split(s) it is {:.0} %.", 100.0 * cut.share(all_ns))
        }
    };
    let simulated = if others.iter().any(|d| d.is_virtual) {
        " Virtual devices compute on this CPU: the shares show how the work is cut, not what a GPU \
         would take."
    } else {
        ""
    };
    let reads = format!("The CPU reads {} of weights for each token.", Bytes(bytes));
    let split_place = Place::Split { phase: Phase::Decode, index };
    let mut finding = Finding::problem(ID, Impact::Slower(gain(cut, cpu, others)), 0.95, title);
    if cut.share(all_ns) < SHARE_FELT {
        finding.severity = Severity::Info;
    }
    let mut finding = finding
        .because(format!(
            "The splits of a token run one after the other, because each needs what the one before \
             computed; so the other devices can do nothing while the CPU computes. {reads}{rest}{simulated}{}",
            limit_words(session.setup.as_deref())
        ))
        .seen(Evidence::at(
            split_place,
            format!(
                "{what}: {:.2} ms of {:.2} ms for each token; it was cut here because: {}",
                ms_per_token(cut, ns),
                ms_per_token(cut, cut.sums.total_ns),
                split.cause
            ),
        ))
        .seen(Evidence::at(
            Place::Device(cpu.index),
            format!("{} computes in {:.0} % of the time", cpu.name, 100.0 * cut.share(all_ns)),
        ));
    for device in others {
        finding = finding.seen_if(waits(session, device, cpu.index));
    }
    finding.fix_all(fixes(session))
}

/// What of the time would be saved if the other devices computed the CPU's part as fast as their own.
/// Virtual devices are as fast as the CPU, so all of it counts then.
fn gain(cut: &BusiestCut, cpu: &DeviceFact, others: &[&DeviceFact]) -> f64 {
    let (ns, bytes) = cut.device(cpu.index);
    let sums = others.iter().map(|d| cut.device(d.index));
    let (their_ns, their_bytes) = sums.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let share = cut.share(ns);
    if others.iter().any(|d| d.is_virtual) || their_bytes == 0 {
        return share;
    }
    let there_ns = their_ns as f64 * bytes as f64 / their_bytes as f64;
    (share - there_ns / cut.sums.total_ns as f64).max(0.0)
}

fn ms_per_token(cut: &BusiestCut, ns: u64) -> f64 {
    ns as f64 / 1e6 / cut.sums.tokens.max(1) as f64
}

/// `split 2 on CPU (layers 20..23, 86 nodes)`.
fn described(index: u16, split: &SplitFact) -> String {
    let layers = layers(split);
    let comma = if layers.is_empty() { "" } else { ", " };
    format!("split {index} on CPU ({layers}{comma}{} nodes)", split.nodes.len())
}

fn waits(session: &Session, device: &DeviceFact, cpu: DeviceIndex) -> Option<Evidence> {
    let of = |(phase, index, _): &(Phase, DeviceIndex, _)| {
        (*phase, *index) == (Phase::Decode, device.index)
    };
    let (_, _, sums) = session.sums.stalls.computed().find(of)?;
    let cuts = session.sums.cuts.iter();
    let total_ns = cuts.map(|c| c.total_ns(Phase::Decode)).sum::<u64>().max(1);
    let on_cpu = sums.on.get(&On::Device(cpu)).copied().unwrap_or(0);
    let percent = |ns: u64| 100.0 * ns as f64 / total_ns as f64;
    let text = format!(
        "{} computes in {:.0} % of the time and waits for the CPU in {:.0} %",
        device.name,
        percent(sums.compute_ns),
        percent(on_cpu)
    );
    Some(Evidence::at(Place::Device(device.index), text))
}

fn limit_words(setup: Option<&SetupFact>) -> String {
    let Some(setup) = setup else { return String::new() };
    let placed = &setup.placement;
    let (on, all) = (placed.layers_offloaded, placed.layers_total);
    match &placed.limit {
        Some(limit) => format!(" {on} of {all} layers are off the CPU; {limit}."),
        None if on < all => format!(" {on} of {all} layers are off the CPU, as the settings ask."),
        None => String::new(),
    }
}

/// Devices that share the layers, with next to nothing left to the CPU.
fn shared(session: &Session, cut: &BusiestCut, others: &[&DeviceFact]) -> Finding {
    let names: Vec<String> = others.iter().map(|d| d.name.clone()).collect();
    let title = format!("{} share the layers and take turns", listed(&names));
    let mut finding = Finding::benign(ID, 0.9, title).because(
        "Each token passes the devices one after the other, so each is busy for its part of the time \
         only. Next to nothing is left to the CPU. Several sequences at a time (`-np`) use them better.",
    );
    for device in others {
        let share = 100.0 * cut.share(cut.device(device.index).0);
        let text =
            format!("{} computes in {share:.0} % of the time", session.device_name(device.index));
        finding = finding.seen(Evidence::at(Place::Device(device.index), text));
    }
    finding
}

/// Context tokens up to which a smaller context saves little.
const CTX_SMALL: u64 = 4096;

fn fixes(session: &Session) -> Vec<Fix> {
    let Some(setup) = session.setup.as_deref() else { return vec![by_hand()] };
    let placed = &setup.placement;
    if placed.limit.is_none() {
        let moved: Vec<&str> =
            placed.exceptions.iter().filter(|e| e.device == "CPU").map(|e| &*e.weight).collect();
        if placed.layers_offloaded < placed.layers_total {
            return vec![by_hand()];
        }
        return moved
            .first()
            .map(|weight| {
                Fix::leave_out("the -ot, -cmoe or -ncmoe that keeps weights on the CPU").why(
                    format!("{weight} and others are on the CPU because of it"),
                    "fewer splits on the CPU",
                )
            })
            .into_iter()
            .collect();
    }
    let on_cpu = || placed.layers.iter().filter(|l| l.device == "CPU");
    let weights: u64 = on_cpu().map(|l| l.weight_bytes).sum();
    let kv: u64 = on_cpu().filter_map(|l| Some(l.kv.as_ref()?.bytes)).sum();
    let expected = "fewer layers on the CPU, and its split shorter or gone";
    let mut fixes = vec![
        Fix::system(
            "more memory for it",
            format!(
                "free or add {} on the devices, or use a file that is smaller by as much",
                Bytes(weights + kv)
            ),
        )
        .why(
            format!(
                "the layers on the CPU have {} of weights and {} of KV cache",
                Bytes(weights),
                Bytes(kv)
            ),
            expected,
        ),
    ];
    let context = &setup.context;
    if context.n_ctx > CTX_SMALL {
        fixes.push(
            Fix::flag("-c", CTX_SMALL.to_string())
                .why(format!("the KV cache is for {} tokens of context", context.n_ctx), expected),
        );
    }
    if context.type_k == "f16" && context.type_v == "f16" {
        let reason = "the KV cache takes about half as much";
        fixes.push(Fix::flag("-ctk", "q8_0").why(reason, expected));
        fixes.push(Fix::flag("-ctv", "q8_0").why(reason, expected));
    }
    fixes
}

fn by_hand() -> Fix {
    Fix::flag("-ngl", "auto").why(
        "the layers on the CPU are there by the settings; this offloads as many as fit",
        "fewer layers on the CPU",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::finding::Kind;
    use crate::advise::diagnose::scenes::{Scene, computes, split_of};

    fn scene(devices: &[&str]) -> Scene {
        let mut scene = Scene::new();
        scene.devices(devices).plan(vec![
            split_of(0, 0..10, &[]),
            split_of(1, 10..20, &[]),
            split_of(2, 20..24, &[]),
        ]);
        scene
    }

    #[test]
    fn a_long_split_on_the_cpu_is_named() {
        let mut scene = scene(&["Virtual0", "Virtual1", "CPU"]);
        scene.ubatches(20, false, &[computes(200), computes(190), computes(610)]);
        let Verdict::Found(found) = check(&scene.facts()) else { panic!("not found") };
        assert_eq!(
            found.title,
            "split 2 on CPU (layers 20..23, 4 nodes) takes 61 % of each token while Virtual0 and \
             Virtual1 wait"
        );
        assert_eq!(found.impact, Impact::Slower(0.61));
        assert_eq!(found.evidence[0].place, Some(Place::Split { phase: Phase::Decode, index: 2 }));
        let waits: Vec<&str> = found.evidence[2..].iter().map(|e| &*e.text).collect();
        assert!(
            waits.len() == 2 && waits.iter().all(|w| w.ends_with("the CPU in 61 %")),
            "{waits:?}"
        );
        assert!(!found.fixes.is_empty());
    }

    #[test]
    fn real_devices_would_need_time_for_the_layers_too() {
        let mut scene = scene(&["CUDA0", "CUDA1", "CPU"]);
        scene.ubatches(20, false, &[computes(100), computes(100), computes(800)]);
        let found = check(&scene.facts()).finding().cloned().unwrap();
        let Impact::Slower(share) = found.impact else { panic!("{found:?}") };
        assert!((share - 0.76).abs() < 1e-9, "{share}");
    }

    #[test]
    fn devices_that_share_layers_are_no_problem() {
        let mut scene = scene(&["CUDA0", "CUDA1", "CPU"]);
        scene.plan(vec![split_of(2, 0..0, &[]), split_of(0, 0..10, &[]), split_of(1, 10..24, &[])]);
        scene.ubatches(20, false, &[computes(40), computes(500), computes(460)]);
        let found = check(&scene.facts()).finding().cloned().unwrap();
        assert_eq!(found.kind, Kind::Benign);
        assert_eq!(found.title, "CUDA0 and CUDA1 share the layers and take turns");
    }

    #[test]
    fn a_short_split_of_layers_is_good_to_know() {
        let mut scene = scene(&["Virtual0", "Virtual1", "CPU"]);
        scene.ubatches(20, false, &[computes(500), computes(440), computes(60)]);
        let found = check(&scene.facts()).finding().cloned().unwrap();
        assert_eq!((found.kind, found.severity), (Kind::Problem, Severity::Info));
        scene.ubatches(400, false, &[computes(500), computes(490), computes(10)]);
        let found = check(&scene.facts()).finding().cloned().unwrap();
        assert_eq!(found.kind, Kind::Benign);
    }

    #[test]
    fn the_cpu_alone_waits_for_nobody() {
        let mut scene = Scene::new();
        scene.devices(&["CUDA0", "CPU"]).plan(vec![split_of(1, 0..10, &[])]);
        scene.ubatches(20, false, &[computes(500)]);
        assert_eq!(check(&scene.facts()), Verdict::Clear);
    }

    #[test]
    fn a_few_tokens_do_not_tell() {
        let mut scene = scene(&["Virtual0", "Virtual1", "CPU"]);
        scene.ubatches(6, false, &[computes(200), computes(190), computes(610)]);
        let Verdict::NeedMore(need) = check(&scene.facts()) else { panic!("told") };
        assert!(need.missing.contains("6 of 16") && need.settle_by.contains("10 more"), "{need:?}");
    }
}
