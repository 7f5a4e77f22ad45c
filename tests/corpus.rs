//! Scores the rules against a folder of cases with a known cause, where one is present:
//! `GPUWHY_CORPUS`, else `../shared/corpus` beside the repository. Without one the test passes.
//!
//! A case is a Markdown file: TOML between `+++` with `true_cause` (a rule's id with underscores) and
//! `confidence`, then the log in one fenced block. The score is printed (`--nocapture` shows it).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test prints its score")]

use std::fs;
use std::path::{Path, PathBuf};

use gpuwhy::advise::diagnose::{Diagnosis, Facts, Kind, diagnose};
use gpuwhy::observe::logs;

/// Of the cases of high or medium confidence: the true cause comes first in at least this share.
const FIRST_MIN: f64 = 0.90;
/// And is among the first three in at least this share.
const TOP_THREE_MIN: f64 = 0.97;

struct Case {
    name: String,
    cause: String,
    confidence: String,
    secondary: Vec<String>,
    log: String,
}

fn folder() -> Option<PathBuf> {
    let given = std::env::var_os("GPUWHY_CORPUS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    given.or_else(|| beside.is_dir().then_some(beside))
}

fn case(path: &Path) -> Case {
    let text = fs::read_to_string(path).unwrap();
    let mut parts = text.splitn(3, "+++");
    let (head, body) = (parts.nth(1).unwrap(), parts.next().unwrap());
    let head: toml::Table = head.parse().unwrap();
    let of = |key: &str| head[key].as_str().unwrap().to_string();
    let hyphens = |label: &str| label.replace('_', "-");
    let secondary = head.get("secondary_causes").and_then(|s| s.as_array().cloned());
    let secondary = secondary.unwrap_or_default();
    let log = body.split_once("```").unwrap().1;
    let log = log.split_once('\n').unwrap().1;
    let log = log.rsplit_once("```").unwrap().0;
    Case {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        cause: hyphens(&of("true_cause")),
        confidence: of("confidence"),
        secondary: secondary.iter().filter_map(|s| s.as_str()).map(hyphens).collect(),
        log: log.to_string(),
    }
}

/// The answer in the order in which a person reads it. When nothing is wrong, what only looks like a
/// problem is the answer; next to a problem it comes last.
fn answer(said: &Diagnosis) -> Vec<&'static str> {
    let findings = said.findings.iter();
    findings.chain(&said.benign).map(|f| f.rule).collect()
}

#[test]
fn the_true_cause_comes_first() {
    let Some(folder) = folder() else {
        println!("skipped: no corpus beside the repository, and GPUWHY_CORPUS is not set");
        return;
    };
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder.join("cases")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "md"));
    paths.sort();
    let (mut counted, mut first, mut top, mut all_first) = (0, 0, 0, 0);
    for path in &paths {
        let case = case(path);
        let session = logs::parse_bytes(case.log.as_bytes());
        let said = diagnose(&Facts::of_log(&session));
        let order = answer(&said);
        let rank = order.iter().position(|r| *r == case.cause);
        let firm = case.confidence != "low";
        counted += usize::from(firm);
        first += usize::from(firm && rank == Some(0));
        top += usize::from(firm && rank.is_some_and(|r| r < 3));
        all_first += usize::from(rank == Some(0));
        if rank != Some(0) {
            let rank = rank.map_or("absent".to_string(), |r| format!("number {}", r + 1));
            println!(
                "{} ({}): {} is {rank} of {order:?}; also true: {:?}; consequences: {:?}",
                case.name,
                case.confidence,
                case.cause,
                case.secondary,
                said.consequences.iter().map(|(f, c)| (f.rule, *c)).collect::<Vec<_>>(),
            );
        }
        assert!(said.findings.iter().all(|f| f.kind == Kind::Problem));
    }
    let share = |n: usize| n as f64 / counted as f64;
    println!(
        "cases of high or medium confidence: {counted}; true cause first: {first} ({:.1} %), among the \
         first three: {top} ({:.1} %); of all {} cases first: {all_first}",
        100.0 * share(first),
        100.0 * share(top),
        paths.len(),
    );
    assert!(counted > 0, "{}: no cases", folder.display());
    assert!(share(first) >= FIRST_MIN, "the true cause comes first in too few cases");
    assert!(
        share(top) >= TOP_THREE_MIN,
        "the true cause is among the first three in too few cases"
    );
}
