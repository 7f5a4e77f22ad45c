//! `copy-stalls`: copies between devices that take a large part of the time.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::facts::cut::{BusiestCut, TOKENS_MIN, listed};
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact, Place};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::event::{InputFact, Phase, SplitFact};
use crate::base::units::Bytes;
use crate::observe::session::{InputSums, Session};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "copies between devices take a large part of the time",
    doc: Doc {
        detects: "A run that was watched, in which copying tensors from one device to another takes a \
            tenth of the time or more.",
        costs: "Nothing computes while the host waits for a copy. Small tensors pay the way there and \
            back of the link at every token; large ones (weights that a device borrows for a prompt, \
            experts) pay its bandwidth.",
        evidence: "The measured time of every copy, over at least 16 tokens of the phase, with the \
            tensor's name, its bytes, why it travels, and whether the host waited for it. Copies that \
            take less than a tenth of the time are normal wherever two devices share a model.",
        fix: "Fewer borders between devices: layers in one piece (`-ts`, `-ngl`), no single weights on \
            another device (`-ot`), the KV cache with its layer (no `-nkvo`). For weights that travel \
            for each prompt: larger ubatches (`-ub`), so that fewer of them do, or `--no-op-offload`.",
        example: "copies take 34 % of the time of a token: attn_out-12, ffn_inp-12 and l_out-13 travel",
    },
    follows_from: &[],
    check,
};

const ID: &str = "copy-stalls";

/// Copies of a smaller share are what sharing a model costs.
const SHARE_MIN: f64 = 0.1;

/// How many copies are shown.
const SHOWN: usize = 3;

fn check(facts: &Facts) -> Verdict {
    let Some(session) = facts.live.filter(|s| s.sums.devices.len() > 1) else {
        return Verdict::Clear;
    };
    let phases = [Phase::Decode, Phase::Prompt];
    let all = phases.iter().filter_map(|&phase| Copies::of(session, phase));
    let enough = all.filter(|c| c.cut.sums.tokens >= TOKENS_MIN);
    let worst = enough.max_by(|a, b| a.share().total_cmp(&b.share()));
    match worst {
        Some(copies) if copies.share() >= SHARE_MIN => found(session, &copies).into(),
        Some(_) => Verdict::Clear,
        None => Verdict::need(
            "which share of the time copies between devices take",
            format!("let it generate {TOKENS_MIN} tokens (`-n`)"),
        ),
    }
}

/// One tensor that travels.
struct Copy<'a> {
    split: u16,
    to: &'a SplitFact,
    input: &'a InputFact,
    sums: &'a InputSums,
}

/// The copies of a phase, the longest first.
struct Copies<'a> {
    phase: Phase,
    cut: BusiestCut<'a>,
    all: Vec<Copy<'a>>,
}

impl<'a> Copies<'a> {
    fn of(session: &'a Session, phase: Phase) -> Option<Self> {
        let cut = BusiestCut::of(session, phase)?;
        let mut all = Vec::new();
        for (i, (to, sums)) in cut.fact.splits.iter().zip(&cut.sums.splits).enumerate() {
            let inputs = to.inputs.iter().zip(&sums.inputs).filter(|(_, sums)| sums.copies > 0);
            all.extend(inputs.map(|(input, sums)| Copy { split: i as u16, to, input, sums }));
        }
        all.sort_by_key(|c| std::cmp::Reverse(c.sums.copy_ns));
        Some(Self { phase, cut, all })
    }

    fn share(&self) -> f64 {
        self.cut.share(self.all.iter().map(|c| c.sums.copy_ns).sum())
    }
}

fn found(session: &Session, copies: &Copies) -> Finding {
    let share = copies.share();
    let (of, phase) = match copies.phase {
        Phase::Decode => ("a token", "generated token"),
        Phase::Prompt => ("a prompt", "token of a prompt"),
    };
    let names: Vec<String> =
        copies.all.iter().take(SHOWN).map(|c| c.input.tensor.clone()).collect();
    let title = format!(
        "copies take {:.0} % of the time of {of}: {} travel",
        100.0 * share,
        listed(&names)
    );
    let tokens = copies.cut.sums.tokens.max(1) as f64;
    let bytes: u64 = copies.all.iter().map(|c| c.sums.bytes).sum();
    let (all, blocking) =
        copies.all.iter().fold((0, 0), |sum, c| (sum.0 + c.sums.copies, sum.1 + c.sums.blocking));
    let held = match blocking {
        0 => "The host waited for none of them; the device that needs them did.".to_string(),
        n if n == all => "The host waited for each of them.".to_string(),
        n => format!("The host waited for {:.0} % of them.", 100.0 * n as f64 / all as f64),
    };
    let mut finding = Finding::problem(ID, Impact::Slower(share), 0.9, title).because(format!(
        "{:.1} copies of {} in all go between devices for each {phase}. {held} While a copy is \
         waited for, the device that needs it computes nothing.",
        all as f64 / tokens,
        Bytes((bytes as f64 / tokens) as u64),
    ));
    for copy in copies.all.iter().take(SHOWN) {
        finding = finding.seen(evidence(session, copies, copy));
    }
    finding.fix_all(fixes(session, copies))
}

fn evidence(session: &Session, copies: &Copies, copy: &Copy) -> Evidence {
    let count = copy.sums.copies.max(1);
    let text = format!(
        "{} goes from {} to {}: {} in {:.0} µs each time, {:.0} % of the time; {}",
        copy.input.tensor,
        session.device_name(copy.input.from),
        session.device_name(copy.to.device),
        Bytes(copy.sums.bytes / count),
        copy.sums.copy_ns as f64 / 1e3 / count as f64,
        100.0 * copies.cut.share(copy.sums.copy_ns),
        copy.input.cause,
    );
    Evidence::at(Place::Split { phase: copies.phase, index: copy.split }, text)
}

fn fixes(session: &Session, copies: &Copies) -> Vec<Fix> {
    let expected = "the share of copies falls";
    let weights = copies.all.iter().take(SHOWN).any(|c| c.input.tensor.ends_with(".weight"));
    let mut fixes = Vec::new();
    if weights && copies.phase == Phase::Prompt {
        let ubatch = session.setup.as_ref().map_or(512, |s| s.context.n_ubatch);
        fixes.push(Fix::flag("-ub", (ubatch * 2).to_string()).why(
            "weights travel once for each ubatch, so larger ones share the way among more tokens",
            expected,
        ));
        fixes.push(
            Fix::flag("--no-op-offload", "")
                .why("the CPU computes the prompt's part with its own weights", expected),
        );
    }
    let exceptions = session.setup.as_ref().is_some_and(|s| !s.placement.exceptions.is_empty());
    if exceptions {
        fixes.push(Fix::leave_out("-ot, -cmoe and -ncmoe, as far as memory allows").why(
            "weights that are on another device than their layer make its data travel there and back",
            expected,
        ));
    }
    fixes.push(
        Fix::system(
            "fewer borders",
            "keep neighbouring layers on one device (`-ts`, `-ngl`, `-mg`)",
        )
        .why("data travels at every border between devices", expected),
    );
    fixes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::scenes::{Scene, Work, computes, split_of};

    fn scene(copy_us: u64, tokens: u64) -> Scene {
        let mut scene = Scene::new();
        scene.devices(&["CUDA0", "CPU"]).plan(vec![
            split_of(0, 0..10, &[]),
            split_of(1, 10..20, &[("attn_out-9", 0, 4096), ("inp_pos", 0, 16)]),
        ]);
        let second = Work { wait_us: 0, copy_us, compute_us: 400 };
        scene.ubatches(tokens, false, &[computes(400), second]);
        scene
    }

    #[test]
    fn long_copies_are_named() {
        let found = check(&scene(200, 20).facts()).finding().cloned().unwrap();
        let told = "copies take 20 % of the time of a token: attn_out-9 and inp_pos travel";
        assert_eq!((found.title.as_str(), found.impact), (told, Impact::Slower(0.2)));
        assert_eq!(found.evidence[0].place, Some(Place::Split { phase: Phase::Decode, index: 1 }));
        assert!(found.explanation.contains("The host waited for each"), "{}", found.explanation);
        assert!(found.evidence[0].text.contains("from CUDA0 to CPU"), "{:?}", found.evidence);
    }

    #[test]
    fn short_copies_are_what_sharing_costs() {
        assert_eq!(check(&scene(20, 20).facts()), Verdict::Clear);
    }

    #[test]
    fn a_few_tokens_do_not_tell() {
        assert!(matches!(check(&scene(200, 5).facts()), Verdict::NeedMore(_)));
    }
}
