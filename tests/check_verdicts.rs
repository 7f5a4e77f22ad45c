//! The regression check on scripted targets: every verdict and every reason, exactly.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use gpuwhy::advise::measure::mock::{Machine, Mock, Noise, Scripted};
use gpuwhy::advise::measure::{
    Conditions, Metric, Recording, Run, Sample, Side, Stop, Target, Workload, compare,
};
use gpuwhy::advise::regress::{Comparison, Judge, MetricVerdict, Reason, Rules, Session, Verdict};

const DECODE: Metric = Metric::DecodeTokensPerS;
const PROMPT: Metric = Metric::PromptTokensPerS;

fn workload(settings: &str) -> Workload {
    let text = format!(
        "name = 'w'\ndescription = 'd'\n\
         [sampling]\nsamples_max = 40\neffect_min_percent = 2.0\n{settings}\n\
         [[test]]\nname = 'pp256'\nprompt_tokens = 256\n\
         [[test]]\nname = 'tg32'\ngenerate_tokens = 32\n"
    );
    Workload::parse("w.toml", &text).unwrap()
}

fn target(name: &str, machine: &Rc<Machine>) -> Mock {
    Mock::new(name, machine).metric(PROMPT, 600.0).metric(DECODE, 50.0)
}

fn gaussian(seed: u64, sd: f64) -> Rc<Machine> {
    Machine::new(seed, vec![Noise::Gaussian { sd }])
}

fn run(
    workload: &Workload,
    machine: &Machine,
    mut a: Mock,
    mut b: Mock,
) -> (Comparison, Recording) {
    let cancel = AtomicBool::new(false);
    let run = Run { clock: machine, cancel: &cancel, progress: &mut |_| {}, seed: 1 };
    let mut judge = Judge::interleaved(Rules::new(workload.sampling));
    let recording = compare(workload, Some(&mut a), &mut b, run, &mut |r| judge.still_open(r));
    (judge.finish(&recording), recording)
}

fn of(comparison: &Comparison, metric: Metric) -> &MetricVerdict {
    comparison.tests.iter().flat_map(|t| &t.metrics).find(|m| m.metric == metric).unwrap()
}

#[test]
fn equals_are_unchanged_after_few_rounds() {
    let machine = gaussian(1, 0.003);
    let (found, recording) =
        run(&workload(""), &machine, target("a", &machine), target("b", &machine));
    assert_eq!((found.verdict, &found.stop), (Verdict::Unchanged, &Stop::Clear));
    assert!(recording.tests[0].rounds.len() <= 15, "{}", recording.tests[0].rounds.len());
    let [low, high] = of(&found, DECODE).ratio_interval.unwrap();
    assert!(low < 1.0 && high > 1.0 && low > 0.98 && high < 1.02, "{low} {high}");
    assert!(of(&found, DECODE).reasons.is_empty());
}

#[test]
fn a_slower_side_regressed_and_a_faster_one_improved() {
    let machine = gaussian(2, 0.02);
    let slower = target("b", &machine).slower(DECODE, 1.25);
    let (found, recording) = run(&workload(""), &machine, target("a", &machine), slower);
    assert_eq!(found.verdict, Verdict::Regressed);
    let decode = of(&found, DECODE);
    assert_eq!(decode.verdict, Verdict::Regressed);
    assert!((decode.ratio.unwrap() - 0.8).abs() < 0.02, "{decode:?}");
    assert!(decode.p_corrected <= 0.01 && decode.ratio_interval.unwrap()[1] < 0.9);
    assert!(decode.baseline_samples < 30, "a large change needs no more");
    assert_eq!(recording.tests[1].rounds.len(), decode.baseline_samples, "no more than needed");
    assert_ne!(of(&found, PROMPT).verdict, Verdict::Regressed);

    // Bad news comes before good news.
    let machine = gaussian(3, 0.01);
    let mixed = || target("b", &machine).slower(PROMPT, 0.8);
    let (found, _) = run(&workload(""), &machine, target("a", &machine), mixed());
    assert_eq!((found.verdict, of(&found, PROMPT).verdict), (Verdict::Improved, Verdict::Improved));
    let (found, _) =
        run(&workload(""), &machine, target("a", &machine), mixed().slower(DECODE, 1.1));
    assert_eq!(found.verdict, Verdict::Regressed);
}

#[test]
fn a_time_that_grows_is_a_regression_as_a_speed_that_falls() {
    let machine = gaussian(4, 0.01);
    let with = |name| Mock::new(name, &machine).metric(Metric::InterTokenMs, 20.0);
    let slower = with("b").slower(Metric::InterTokenMs, 1.1);
    let (found, _) = run(&workload(""), &machine, with("a"), slower);
    let verdict = of(&found, Metric::InterTokenMs);
    assert_eq!(verdict.verdict, Verdict::Regressed);
    assert!((verdict.ratio.unwrap() - 1.1).abs() < 0.02);
    // The prompt's test measured nothing that is known: no verdict about it.
    assert_eq!(found.tests[0].verdict, Verdict::Inconclusive);
}

#[test]
fn too_much_noise_says_what_could_have_been_found() {
    let machine = gaussian(5, 0.08);
    let (found, recording) =
        run(&workload(""), &machine, target("a", &machine), target("b", &machine));
    assert_eq!(found.verdict, Verdict::Inconclusive);
    assert_eq!(recording.tests[0].rounds.len(), 40);
    let reasons = &of(&found, DECODE).reasons;
    let Reason::Noise { detectable_percent, effect_min_percent } = reasons[0] else {
        panic!("{reasons:?}")
    };
    // Pairs spread by 11 %, their mean of 40 by 1.8 %; that times the 3.2 and 1.6 of the two
    // errors.
    assert!((6.0..12.0).contains(&detectable_percent), "{detectable_percent}");
    assert!((effect_min_percent - 2.0).abs() < 1e-9);
    assert!(
        reasons[0].to_string().starts_with("too noisy to tell a change of 2.0 %"),
        "{}",
        reasons[0]
    );
}

#[test]
fn a_change_that_may_be_too_small_to_matter_is_left_open() {
    let machine = gaussian(26, 0.015);
    let slower = target("b", &machine).slower(DECODE, 1.015);
    let (found, _) = run(&workload(""), &machine, target("a", &machine), slower);
    let decode = of(&found, DECODE);
    assert_eq!(decode.verdict, Verdict::Inconclusive, "{decode:?}");
    assert!(matches!(decode.reasons[0], Reason::NearLimit { .. }), "{:?}", decode.reasons);
}

fn throttled() -> Scripted {
    let throttled = vec!["CUDA0: power cap".to_string()];
    Scripted::Under(Conditions { throttled, ..Conditions::default() })
}

#[test]
fn a_throttled_machine_is_inconclusive_with_the_evidence() {
    let machine = gaussian(7, 0.005);
    let hot = |name| (1..200).fold(target(name, &machine), |m, at| m.at(at, throttled()));
    let (found, recording) = run(&workload(""), &machine, hot("a"), hot("b").slower(DECODE, 2.0));
    assert_eq!(found.verdict, Verdict::Inconclusive);
    let test = &found.tests[1];
    assert_eq!((test.rounds, test.rounds_disturbed), (60, 60), "tried half as often again");
    assert_eq!(
        test.disturbances,
        ["throttled during 120 of 120 samples of tg32: CUDA0: power cap"]
    );
    let reasons = &of(&found, DECODE).reasons;
    assert!(matches!(reasons[0], Reason::Disturbed { rounds: 60, of: 60, .. }), "{reasons:?}");
    assert_eq!(recording.stop, Stop::Rounds);
}

#[test]
fn disturbed_rounds_are_set_aside_and_counted() {
    let machine = gaussian(8, 0.003);
    // Every fourth sample of the baseline's takes twice as long while it is throttled.
    let a = (1..200).step_by(4).fold(target("a", &machine), |m, at| m.at(at, throttled()));
    let (found, _) = run(&workload(""), &machine, a, target("b", &machine));
    assert_eq!(found.verdict, Verdict::Unchanged, "{found:?}");
    let set_aside: usize = found.tests.iter().map(|t| t.rounds_disturbed).sum();
    assert!(set_aside >= 4, "{set_aside}");
    for test in &found.tests {
        assert!(test.metrics[0].baseline_samples <= test.rounds - test.rounds_disturbed);
    }
}

#[test]
fn a_candidate_that_throttles_itself_does_not_pass() {
    let machine = gaussian(9, 0.003);
    let hot = (1..200).filter(|at| at % 8 != 0);
    let b = hot.fold(target("b", &machine), |m, at| m.at(at, throttled()));
    let (found, _) = run(&workload(""), &machine, target("a", &machine), b);
    assert_eq!(found.verdict, Verdict::Inconclusive);
    let reasons: Vec<&Reason> =
        found.tests.iter().flat_map(|t| &t.metrics).flat_map(|m| &m.reasons).collect();
    let one_side =
        |r: &&Reason| matches!(r, Reason::DisturbedOneSide { side: Side::Candidate, .. });
    assert!(reasons.iter().any(one_side), "{reasons:?}");
}

#[test]
fn what_ended_it_early_is_a_reason_and_all_samples_are_kept() {
    let machine = gaussian(20, 0.04);
    let b = target("b", &machine).at(17, Scripted::Broken);
    let (found, recording) = run(&workload(""), &machine, target("a", &machine), b);
    assert_eq!(found.verdict, Verdict::Inconclusive);
    assert_eq!(found.stop, Stop::Failed("candidate: b: scripted failure".into()));
    let samples: usize = recording.tests.iter().map(|t| t.rounds.len()).sum();
    assert_eq!(samples, 15);
    assert!(
        of(&found, DECODE).reasons.contains(&Reason::TooFewSamples { have: 7, need: 9 }),
        "{:?}",
        of(&found, DECODE)
    );

    // A target that fails does not pass, even if what it gave before looks the same.
    let machine = gaussian(20, 0.0);
    let b = target("b", &machine).at(17, Scripted::Broken);
    let (found, _) = run(&workload(""), &machine, target("a", &machine), b);
    assert_eq!(
        (found.verdict, of(&found, DECODE).verdict),
        (Verdict::Inconclusive, Verdict::Unchanged)
    );

    let machine = gaussian(20, 0.04);
    let limited = workload("time_max_s = 25.0");
    let (found, _) = run(&limited, &machine, target("a", &machine), target("b", &machine));
    let decode = of(&found, DECODE);
    assert_eq!(found.stop, Stop::Time);
    assert_eq!(decode.reasons.last(), Some(&Reason::Stopped { stop: Stop::Time }), "{decode:?}");
}

#[test]
fn outliers_count_and_are_counted() {
    let machine = gaussian(11, 0.002);
    // Calls 1 and 2 warm up; then prompt and decode alternate, so that even calls are decode.
    let slow = [6, 10, 16].into_iter();
    let b = slow.fold(target("b", &machine), |m, at| m.at(at, Scripted::Slow(3.0)));
    let (found, _) = run(&workload(""), &machine, target("a", &machine), b);
    assert_eq!(of(&found, DECODE).outliers, [0, 3]);
    assert_eq!(of(&found, PROMPT).outliers, [0, 0]);
}

#[test]
fn what_only_one_side_measures_is_told() {
    let machine = gaussian(12, 0.002);
    let b = target("b", &machine).metric(Metric::InterTokenMs, 20.0);
    let (found, _) = run(&workload(""), &machine, target("a", &machine), b);
    let verdict = of(&found, Metric::InterTokenMs);
    assert_eq!(verdict.verdict, Verdict::Inconclusive);
    assert!(verdict.reasons.contains(&Reason::OneSideOnly { side: Side::Candidate }));
    assert_eq!(of(&found, DECODE).verdict, Verdict::Unchanged);
}

/// Sessions whose speed differs by these factors.
fn sessions(factors: &[f64]) -> Vec<Session> {
    let workload = workload("");
    let session = |(i, factor): (usize, &f64)| -> Session {
        let machine = gaussian(100 + i as u64, 0.01);
        let mut target = target("a", &machine).slower(DECODE, *factor).slower(PROMPT, *factor);
        let samples = |test| (0..12).map(|_| target.sample(test).unwrap()).collect::<Vec<Sample>>();
        let mut samples = samples;
        workload.tests.iter().map(|t| (t.name.clone(), samples(t))).collect()
    };
    factors.iter().enumerate().map(session).collect()
}

fn against(history: Vec<Session>, slower: f64) -> Comparison {
    against_with("", history, slower)
}

fn against_with(settings: &str, history: Vec<Session>, slower: f64) -> Comparison {
    let workload = workload(settings);
    let machine = gaussian(13, 0.01);
    let mut b = target("b", &machine).slower(DECODE, slower);
    let cancel = AtomicBool::new(false);
    let run = Run { clock: &*machine, cancel: &cancel, progress: &mut |_| {}, seed: 1 };
    let mut judge = Judge::against(Rules::new(workload.sampling), history);
    let recording = compare(&workload, None, &mut b, run, &mut |r| judge.still_open(r));
    judge.finish(&recording)
}

#[test]
fn one_stored_session_finds_large_changes_only() {
    let found = against(sessions(&[1.0]), 1.0);
    assert_eq!((found.verdict, found.sessions), (Verdict::Unchanged, Some(1)), "{found:?}");
    // 2 % and what a session may differ by in 19 of 20 cases: t(4) x 2 % x sqrt(2).
    assert!((of(&found, DECODE).effect_min_percent - 8.3).abs() < 0.2, "{found:?}");
    let found = against(sessions(&[1.0]), 1.1);
    assert_eq!(of(&found, DECODE).verdict, Verdict::Inconclusive);
    let reasons = &of(&found, DECODE).reasons;
    assert!(matches!(reasons[0], Reason::BetweenSessions { sessions: 1, .. }), "{reasons:?}");
    assert_eq!(of(&against(sessions(&[1.0]), 1.4), DECODE).verdict, Verdict::Regressed);
}

#[test]
fn a_few_samples_convict_nobody_however_slow_they_are() {
    let found = against_with("time_max_s = 8.0", sessions(&[1.0; 8]), 2.0);
    let decode = of(&found, DECODE);
    assert!((1..4).contains(&decode.candidate_samples), "{decode:?}");
    assert_eq!(decode.verdict, Verdict::Inconclusive, "{decode:?}");
}

#[test]
fn the_spread_of_stored_sessions_decides_what_is_found() {
    let calm = [1.0, 1.002, 0.998, 1.001, 0.999, 1.0, 1.003, 0.997];
    let found = against(sessions(&calm), 1.15);
    assert_eq!(of(&found, DECODE).verdict, Verdict::Regressed, "{found:?}");
    let wild = [1.0, 1.08, 0.93, 1.05, 0.95, 1.0, 1.07, 0.94];
    let found = against(sessions(&wild), 1.15);
    assert_eq!(of(&found, DECODE).verdict, Verdict::Inconclusive, "{found:?}");
    let reasons = &of(&found, DECODE).reasons;
    let Reason::BetweenSessions { sessions: 8, spread_percent } = reasons[0] else {
        panic!("{reasons:?}")
    };
    assert!((3.5..6.0).contains(&spread_percent), "{spread_percent}");
}

#[test]
fn a_baseline_without_that_test_is_inconclusive() {
    let found = against(vec![Session::new()], 1.0);
    assert_eq!(found.verdict, Verdict::Inconclusive);
    assert!(of(&found, DECODE).reasons.contains(&Reason::OneSideOnly { side: Side::Candidate }));
}
