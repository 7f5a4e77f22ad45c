//! Error rates of the regression check: how often equal sides are called different, and how often a
//! true slowdown is found. The whole of it is a table, made by
//!
//! ```text
//! cargo test --release --test check_rates -- --ignored --nocapture
//! ```
//!
//! and kept in docs/measurements/check.md; a smaller part of it, with the same seeds every time,
//! runs with all other tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the table is this test's output")]

use std::fs;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gpuwhy::advise::measure::mock::{Machine, Mock, Noise, Series};
use gpuwhy::advise::measure::{
    Conditions, Metric, Recording, Round, Run, Sample, Target, Workload, compare,
};
use gpuwhy::advise::regress::bootstrap;
use gpuwhy::advise::regress::mann_whitney::p_larger;
use gpuwhy::advise::regress::signed_rank::Walsh;
use gpuwhy::advise::regress::{Comparison, Judge, Rules, Session, Verdict};
use gpuwhy::base::stats;

/// A kind of machine.
#[derive(Clone)]
struct Weather {
    name: &'static str,
    noise: Vec<Noise>,
}

fn series(file: &str) -> Series {
    let path = format!("{}/fixtures/check_noise/{file}", env!("CARGO_MANIFEST_DIR"));
    Series::parse(file, &fs::read_to_string(path).unwrap()).unwrap()
}

fn replay(name: &'static str, series: Series) -> Weather {
    Weather { name, noise: vec![Noise::Replay { series: Arc::new(series), block: 20 }] }
}

/// The series of fixtures/check_noise as they are, and with what the machine told of its load taken
/// away, as a server elsewhere would be seen.
fn recorded() -> Vec<Weather> {
    let (free, busy) = (series("free.json"), series("busy.json"));
    let untold = |mut series: Series| {
        for sample in &mut series.samples {
            sample.conditions = Conditions::default();
        }
        series
    };
    vec![
        replay("recorded: free moments", free.clone()),
        replay("free moments, load not told", untold(free)),
        replay("recorded: compilers beside", busy.clone()),
        replay("compilers beside, load not told", untold(busy)),
    ]
}

fn simulated() -> Vec<Weather> {
    let gaussian = |sd| Noise::Gaussian { sd };
    let weather = |name, noise| Weather { name, noise };
    vec![
        weather("normal, 1 %", vec![gaussian(0.01)]),
        weather("normal, 3 %", vec![gaussian(0.03)]),
        weather("normal, 5 %", vec![gaussian(0.05)]),
        weather("normal, 7 %", vec![gaussian(0.07)]),
        weather("heavy tails, t(3) x 2 %", vec![Noise::HeavyTailed { scale: 0.02 }]),
        weather(
            "wandering 5 %, 30 s, and 2 %",
            vec![Noise::Wander { sd: 0.05, memory_s: 30.0 }, gaussian(0.02)],
        ),
        weather(
            "steady drift of 50 %/h, and 2 %",
            vec![Noise::Trend { per_hour: 0.5 }, gaussian(0.02)],
        ),
        weather(
            "two clock states 15 % apart, and 1.5 %",
            vec![Noise::States { ratio: 1.15, stay_s: 20.0 }, gaussian(0.015)],
        ),
        weather(
            "spikes to threefold in 5 %, and 2 %",
            vec![Noise::Spikes { share: 0.05, ratio: 3.0 }, gaussian(0.02)],
        ),
    ]
}

fn target(name: &str, machine: &Rc<Machine>, slower: f64) -> Mock {
    Mock::new(name, machine)
        .metric(Metric::PromptTokensPerS, 600.0)
        .metric(Metric::DecodeTokensPerS, 55.0)
        .slower(Metric::DecodeTokensPerS, slower)
}

fn quick() -> Workload {
    let mut workload = Workload::by_name("quick").unwrap().unwrap();
    workload.sampling.time_max_s = 1e9;
    if let Some(most) = std::env::var("CHECK_SAMPLES_MAX").ok().and_then(|v| v.parse().ok()) {
        workload.sampling.samples_max = most;
    }
    if let Some(least) = std::env::var("CHECK_EFFECT_MIN").ok().and_then(|v| v.parse().ok()) {
        workload.sampling.effect_min_percent = least;
    }
    workload
}

/// One interleaved comparison on a machine of its own.
fn interleaved(weather: &Weather, seed: u64, slower: f64) -> Comparison {
    let workload = quick();
    let kind: u64 = weather.name.bytes().fold(0, |h, b| h * 31 % 1_000_003 + u64::from(b));
    let machine = Machine::new(seed + (kind << 32), weather.noise.clone());
    let (mut a, mut b) = (target("a", &machine, 1.0), target("b", &machine, slower));
    let cancel = AtomicBool::new(false);
    let run = Run { clock: &*machine, cancel: &cancel, progress: &mut |_| {}, seed: !seed };
    let mut judge = Judge::interleaved(Rules::new(workload.sampling));
    let recording = compare(&workload, Some(&mut a), &mut b, run, &mut |r| judge.still_open(r));
    judge.finish(&recording)
}

/// A candidate against `count` stored sessions; the speed of sessions differs by `spread`.
fn stored(count: u64, spread: f64, seed: u64, slower: f64) -> Comparison {
    let workload = quick();
    let session = |nth: u64, slower: f64| {
        // The machine's own noise, and one draw that holds for the whole session.
        let noise = vec![
            Noise::Wander { sd: spread, memory_s: 1e12 },
            Noise::Wander { sd: 0.02, memory_s: 30.0 },
            Noise::Gaussian { sd: 0.02 },
        ];
        let machine = Machine::new(seed * 1000 + nth, noise);
        (target("b", &machine, slower), machine)
    };
    let history = (1..=count)
        .map(|nth| -> Session {
            let (mut target, _) = session(nth, 1.0);
            let mut samples = |test| (0..20).map(|_| target.sample(test).unwrap()).collect();
            workload.tests.iter().map(|t| (t.name.clone(), samples(t))).collect()
        })
        .collect();
    let (mut candidate, machine) = session(0, slower);
    let cancel = AtomicBool::new(false);
    let run = Run { clock: &*machine, cancel: &cancel, progress: &mut |_| {}, seed: !seed };
    let mut judge = Judge::against(Rules::new(workload.sampling), history);
    let recording = compare(&workload, None, &mut candidate, run, &mut |r| judge.still_open(r));
    judge.finish(&recording)
}

/// Percentages of how comparisons ended.
#[derive(Default)]
struct Tally {
    comparisons: u64,
    regressed: u64,
    improved: u64,
    unchanged: u64,
    inconclusive: u64,
    decode_regressed: u64,
    rounds: usize,
    effect_min_percent: f64,
}

impl Tally {
    fn add(&mut self, comparison: &Comparison) {
        self.comparisons += 1;
        // Of a comparison that is inconclusive, a metric may have improved: that counts as well.
        let any = |v| comparison.tests.iter().flat_map(|t| &t.metrics).any(|m| m.verdict == v);
        self.regressed += u64::from(any(Verdict::Regressed));
        self.improved += u64::from(any(Verdict::Improved));
        self.unchanged += u64::from(comparison.verdict == Verdict::Unchanged);
        self.inconclusive += u64::from(comparison.verdict == Verdict::Inconclusive);
        let decode = &comparison.tests.iter().find(|t| t.test.starts_with("tg")).unwrap();
        self.decode_regressed += u64::from(decode.verdict == Verdict::Regressed);
        self.rounds += decode.rounds;
        self.effect_min_percent += decode.metrics[0].effect_min_percent;
    }

    fn percent(&self, count: u64) -> f64 {
        100.0 * count as f64 / self.comparisons as f64
    }
}

fn tally(comparisons: u64, compare: impl Fn(u64) -> Comparison) -> Tally {
    let mut tally = Tally::default();
    (0..comparisons).for_each(|seed| tally.add(&compare(seed)));
    tally
}

fn head() {
    println!("\n{} comparisons each, {:?}\n", comparisons(), quick().sampling);
}

fn comparisons() -> u64 {
    std::env::var("CHECK_COMPARISONS").map_or(500, |v| v.parse().unwrap())
}

#[test]
#[ignore = "minutes: makes a table of docs/measurements/check.md"]
fn table_interleaved() {
    head();
    println!(
        "| noise | false regressions | false improvements | unchanged | inconclusive | rounds \
         | 5 % found | rounds | 3 % found |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let n = comparisons();
    for weather in recorded().iter().chain(&simulated()) {
        let same = tally(n, |seed| interleaved(weather, seed, 1.0));
        let five = tally(n, |seed| interleaved(weather, 1_000_000 + seed, 1.0 / 0.95));
        let three = tally(n, |seed| interleaved(weather, 2_000_000 + seed, 1.0 / 0.97));
        println!(
            "| {} | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {:.0} | {:.1} % | {:.0} | {:.1} % |",
            weather.name,
            same.percent(same.regressed),
            same.percent(same.improved),
            same.percent(same.unchanged),
            same.percent(same.inconclusive),
            same.rounds as f64 / n as f64,
            five.percent(five.decode_regressed),
            five.rounds as f64 / n as f64,
            three.percent(three.decode_regressed),
        );
    }
}

#[test]
#[ignore = "minutes: makes a table of docs/measurements/check.md"]
fn table_stored() {
    head();
    println!(
        "| sessions stored | sessions differ by | false regressions | false improvements \
         | unchanged | within | 5 % found | 10 % found | 20 % found |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let n = comparisons();
    for (count, spread) in
        [1, 2, 5, 10].into_iter().flat_map(|c| [0.01, 0.02, 0.04].map(|s| (c, s)))
    {
        let same = tally(n, |seed| stored(count, spread, seed, 1.0));
        let found = |slower: f64, from: u64| {
            let tally = tally(n, |seed| stored(count, spread, from + seed, slower));
            tally.percent(tally.decode_regressed)
        };
        println!(
            "| {count} | {:.0} % | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {:.1} % \
             | {:.1} % |",
            100.0 * spread,
            same.percent(same.regressed),
            same.percent(same.improved),
            same.percent(same.unchanged),
            same.effect_min_percent / n as f64,
            found(1.0 / 0.95, 1_000_000),
            found(1.0 / 0.9, 2_000_000),
            found(1.0 / 0.8, 3_000_000),
        );
    }
}

/// Series of both sides of an interleaved run of equals with `rounds` rounds.
fn series_of_equals(weather: &Weather, seed: u64, rounds: u32) -> Recording {
    let mut workload = quick();
    workload.sampling.samples_max = rounds;
    let machine = Machine::new(seed, weather.noise.clone());
    let (mut a, mut b) = (target("a", &machine, 1.0), target("b", &machine, 1.0));
    let cancel = AtomicBool::new(false);
    let run = Run { clock: &*machine, cancel: &cancel, progress: &mut |_| {}, seed: !seed };
    let mut open = |r: &Recording| vec![r.tests[0].rounds.len() < rounds as usize; 2];
    compare(&workload, Some(&mut a), &mut b, run, &mut open)
}

fn values(samples: &[&Sample], metric: Metric) -> Vec<f64> {
    samples.iter().filter_map(|s| s.metrics.get(&metric).copied()).collect()
}

/// How often intervals of 95 % hold the true ratio, 1: the one that the verdict uses, of pairs, and
/// the bootstrap of the ratio of medians.
#[test]
#[ignore = "minutes: makes a table of docs/measurements/check.md"]
fn table_intervals() {
    println!("\n| noise | rounds | of pairs: holds | width | bootstrap: holds | width |");
    println!("|---|---:|---:|---:|---:|---:|");
    let n = comparisons();
    for weather in recorded().iter().chain(&simulated()) {
        for rounds in [10, 20, 40] {
            let (mut holds, mut widths) = ([0u64; 2], [0.0; 2]);
            for seed in 0..n {
                let record = &series_of_equals(weather, seed, rounds).tests[1];
                let side = |f: fn(&Round) -> &Option<Sample>| -> Vec<f64> {
                    let samples: Vec<&Sample> =
                        record.rounds.iter().filter_map(|r| f(r).as_ref()).collect();
                    values(&samples, Metric::DecodeTokensPerS)
                };
                let (a, b) = (side(|r| &r.baseline), side(|r| &r.candidate));
                let d: Vec<f64> = a.iter().zip(&b).map(|(a, b)| (b / a).ln()).collect();
                let draws = bootstrap::log_ratios(&a, &b, 1000, seed);
                let ends = [0.025, 0.975].map(|p| stats::quantile(&draws, p));
                for (i, [low, high]) in
                    [Walsh::new(&d).interval(0.025), ends].into_iter().enumerate()
                {
                    holds[i] += u64::from(low <= 0.0 && high >= 0.0);
                    widths[i] += high - low;
                }
            }
            let percent = |i: usize| 100.0 * holds[i] as f64 / n as f64;
            let width = |i: usize| 100.0 * widths[i] / n as f64;
            println!(
                "| {} | {rounds} | {:.1} % | {:.1} % | {:.1} % | {:.1} % |",
                weather.name,
                percent(0),
                width(0),
                percent(1),
                width(1)
            );
        }
    }
}

/// False alarms of the test that benchstat uses, at its level, on the same machines: so many samples of
/// one side, then so many of the other, as most scripts run it, or in turn, as its manual advises. Two
/// metrics, slower or faster.
#[test]
#[ignore = "minutes: makes a table of docs/measurements/check.md"]
fn table_mann_whitney() {
    println!("\n| noise | 10 then 10 | 20 then 20 | 10 and 10 in turn | 20 and 20 in turn |");
    println!("|---|---:|---:|---:|---:|");
    let n = comparisons();
    for weather in recorded().iter().chain(&simulated()) {
        let alarms = |count: usize, in_turn: bool| {
            let alarm = |seed: &u64| {
                let recording = series_of_equals(weather, *seed, count as u32);
                recording
                    .tests
                    .iter()
                    .zip([Metric::PromptTokensPerS, Metric::DecodeTokensPerS])
                    .any(|(test, metric)| {
                        // Back to the order in which the samples were taken.
                        let in_order = test.rounds.iter().flat_map(|r| {
                            if r.candidate_first {
                                [&r.candidate, &r.baseline]
                            } else {
                                [&r.baseline, &r.candidate]
                            }
                        });
                        let all = values(&in_order.flatten().collect::<Vec<_>>(), metric);
                        let (a, b): (Vec<f64>, Vec<f64>) = if in_turn {
                            all.chunks(2).map(|c| (c[0], c[1])).unzip()
                        } else {
                            (all[..count].to_vec(), all[count..].to_vec())
                        };
                        2.0 * p_larger(&a, &b).min(p_larger(&b, &a)) < 0.05
                    })
            };
            100.0 * (0..n).filter(alarm).count() as f64 / n as f64
        };
        println!(
            "| {} | {:.1} % | {:.1} % | {:.1} % | {:.1} % |",
            weather.name,
            alarms(10, false),
            alarms(20, false),
            alarms(10, true),
            alarms(20, true)
        );
    }
}

/// The same draws every time: this fails only if the method, or what draws, was changed.
#[test]
fn equals_do_not_regress_and_five_percent_is_found() {
    for weather in recorded().iter().chain(&simulated()) {
        let same = tally(12, |seed| interleaved(weather, seed, 1.0));
        assert_eq!((same.regressed, same.improved), (0, 0), "{}", weather.name);
        let five = tally(12, |seed| interleaved(weather, 1_000_000 + seed, 1.0 / 0.95));
        if weather.name.starts_with("recorded: compilers") {
            assert!(five.inconclusive >= 11, "a machine that is always busy tells little");
        } else if !weather.name.contains("not told") {
            assert!(five.decode_regressed >= 11, "{}: {}", weather.name, five.decode_regressed);
        }
    }
    let same = tally(12, |seed| stored(5, 0.02, seed, 1.0));
    assert_eq!((same.regressed, same.improved), (0, 0));
    let fifth = tally(12, |seed| stored(5, 0.02, 1_000_000 + seed, 1.0 / 0.8));
    assert!(fifth.decode_regressed >= 11, "{}", fifth.decode_regressed);
}
