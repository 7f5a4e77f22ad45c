//! The rules as a user meets them: logs go in, findings come out.
//!
//! `fixtures/rules/<id>/found-*.log` must yield the rule as the first finding (as any finding when
//! the name ends in `-secondary`), `clear-*.log` must not yield it as a problem, of `open-*.log` the
//! rule must say that it cannot tell, and what would settle it, and a log in
//! `fixtures/rules/healthy/` must yield no problem at all. docs/rules is generated from the rules.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use gpuwhy::advise::diagnose::{Diagnosis, Facts, RULES, diagnose};
use gpuwhy::observe::logs;

/// Rules that conclude from a watched session alone, which no log can show. Their own tests have sessions
/// that trigger them, look-alikes, and such that do not tell yet.
const WATCHED_ONLY: &[&str] = &[
    "copy-stalls",
    "cpu-quota-throttled",
    "cpu-used-by-others",
    "devices-take-turns",
    "pcie-link-degraded",
    "served-model-on-cpu",
    "weights-paged-in",
];

/// Fixtures that a rule must have of each kind.
const FIXTURES_MIN: usize = 2;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn diagnosis(path: &Path) -> Diagnosis {
    let session = logs::parse_bytes(&fs::read(path).unwrap());
    diagnose(&Facts::of_log(&session))
}

/// The fixtures by the folder that they lie in.
fn fixtures() -> BTreeMap<String, Vec<PathBuf>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(root().join("fixtures/rules")).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            let mut logs: Vec<PathBuf> = fs::read_dir(&folder)
                .unwrap()
                .map(|e| e.unwrap().path())
                .filter(|p| p.extension().is_some_and(|e| e == "log"))
                .collect();
            logs.sort();
            all.insert(name(&folder), logs);
        }
    }
    all
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// What is wrong with what the rules say about one fixture of a rule.
fn complaint(rule: &str, log: &str, said: &Diagnosis) -> Option<String> {
    let causes: Vec<&str> = said.findings.iter().map(|f| f.rule).collect();
    let follow: Vec<&str> = said.consequences.iter().map(|(f, _)| f.rule).collect();
    let benign: Vec<&str> = said.benign.iter().map(|f| f.rule).collect();
    let told = causes.contains(&rule) || follow.contains(&rule);
    let right = if log.ends_with("-secondary") {
        told
    } else if log.ends_with("-benign") {
        benign.contains(&rule) && causes.is_empty()
    } else if log.starts_with("open-") {
        said.open.iter().any(|(id, _)| *id == rule) && !told
    } else if log.starts_with("found-") {
        causes.first() == Some(&rule)
    } else {
        log.starts_with("clear-") && !told
    };
    let say =
        || format!("{rule}/{log}: causes {causes:?}, consequences {follow:?}, benign {benign:?}");
    (!right).then(say)
}

#[test]
fn every_fixture_is_judged_right() {
    let mut wrong = Vec::new();
    for (folder, logs) in fixtures() {
        if folder == "healthy" {
            continue;
        }
        assert!(RULES.iter().any(|r| r.id == folder), "fixtures/rules/{folder}: no such rule");
        for log in logs {
            wrong.extend(complaint(&folder, &name(&log), &diagnosis(&log)));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn healthy_logs_have_no_problem() {
    let mut wrong = Vec::new();
    for log in fixtures().remove("healthy").unwrap_or_default() {
        let said = diagnosis(&log);
        let all = said.findings.iter().chain(said.consequences.iter().map(|(f, _)| f));
        wrong.extend(all.map(|f| format!("{}: {}: {}", name(&log), f.rule, f.title)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_fixtures_that_trigger_it_and_near_misses() {
    let fixtures = fixtures();
    let mut poor = Vec::new();
    for rule in RULES.iter().filter(|r| !WATCHED_ONLY.contains(&r.id)) {
        let logs = fixtures.get(rule.id).map(Vec::as_slice).unwrap_or_default();
        let count = |kind: &str| logs.iter().filter(|l| name(l).starts_with(kind)).count();
        if count("found-") < FIXTURES_MIN || count("clear-") < FIXTURES_MIN {
            poor.push(format!("{}: {} found, {} clear", rule.id, count("found-"), count("clear-")));
        }
    }
    assert!(poor.is_empty(), "rules without enough fixtures:\n{}", poor.join("\n"));
}

/// The exception is for rules that need it: a log must not be able to trigger them.
#[test]
fn rules_that_need_watching_find_nothing_in_logs() {
    let known: Vec<&str> = RULES.iter().map(|r| r.id).collect();
    assert!(WATCHED_ONLY.iter().all(|id| known.contains(id)));
    for log in fixtures().into_values().flatten() {
        let said = diagnosis(&log);
        let clear = WATCHED_ONLY.iter().all(|id| said.clear.contains(id));
        assert!(clear, "{}", name(&log));
    }
}

#[test]
fn findings_are_fit_to_be_shown() {
    for logs in fixtures().into_values() {
        for log in logs {
            let said = diagnosis(&log);
            let follow = said.consequences.iter().map(|(f, _)| f);
            for finding in said.findings.iter().chain(follow).chain(&said.benign) {
                let place = format!("{}: {}", name(&log), finding.rule);
                assert!(!finding.title.is_empty() && !finding.explanation.is_empty(), "{place}");
                assert!(!finding.evidence.is_empty(), "{place}: no evidence");
                assert!((0.0..=1.0).contains(&finding.confidence), "{place}: confidence");
                assert!(!finding.title.ends_with('.'), "{place}: a title has no full stop");
                for fix in &finding.fixes {
                    assert!(!fix.name.is_empty() && !fix.reason.is_empty(), "{place}: {fix:?}");
                }
            }
        }
    }
}

#[test]
fn rules_are_named_once_and_documented() {
    let mut ids = BTreeSet::new();
    for rule in RULES {
        let id = rule.id;
        assert!(ids.insert(id), "{id}: twice");
        assert!(
            id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
            "{id}"
        );
        assert!(!rule.title.is_empty() && !rule.title.ends_with('.'), "{id}: title");
        let doc = &rule.doc;
        for part in [doc.detects, doc.costs, doc.evidence, doc.fix, doc.example] {
            assert!(part.trim().len() >= 20, "{id}: its documentation has an empty part");
        }
    }
    for rule in RULES {
        for cause in rule.follows_from {
            assert!(ids.contains(cause), "{}: follows from '{cause}', which is no rule", rule.id);
        }
    }
}

/// docs/rules as it should be: a page per rule, and the list of them.
fn pages() -> BTreeMap<String, String> {
    let mut list = String::from(
        "# Rules\n\nWhat `gpuwhy` can tell from a log or a run. `gpuwhy explain RULE` prints the same \
         pages. They are generated from the rules; `GPUWHY_UPDATE_DOCS=1 cargo test --test rules` \
         writes them anew.\n\n| rule | what |\n|---|---|\n",
    );
    let mut pages = BTreeMap::new();
    for rule in RULES {
        writeln!(list, "| [{0}]({0}.md) | {1} |", rule.id, rule.title).unwrap();
        pages.insert(format!("{}.md", rule.id), rule.page());
    }
    pages.insert("README.md".to_string(), list);
    pages
}

#[test]
fn docs_of_the_rules_are_those_of_the_rules() {
    let folder = root().join("docs/rules");
    let update = std::env::var_os("GPUWHY_UPDATE_DOCS").is_some();
    fs::create_dir_all(&folder).unwrap();
    let pages = pages();
    for (file, text) in &pages {
        if update {
            fs::write(folder.join(file), text).unwrap();
        }
        let published = fs::read_to_string(folder.join(file)).unwrap_or_default();
        assert!(
            published == *text,
            "docs/rules/{file} is stale; GPUWHY_UPDATE_DOCS=1 cargo test --test rules writes it anew"
        );
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(pages.contains_key(&file), "docs/rules/{file}: no such rule");
    }
}

/// Words in quotes that stand in a call or list of notices in the rules' sources.
fn notices_asked_for() -> BTreeSet<String> {
    let mut folders = vec![root().join("src/advise/diagnose")];
    let mut asked = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for start in ["notice(\"", "any_notice(&[\"", "NOTICES: &[&str] = &["] {
                for (at, _) in code.match_indices(start) {
                    let rest = &code[at + start.find('(').map_or(start.len(), |i| i + 1)..];
                    let end = if start.starts_with("notice") { ")" } else { "]" };
                    let list = rest.split(end).next().unwrap();
                    asked.extend(list.split('"').skip(1).step_by(2).map(str::to_string));
                }
            }
        }
    }
    asked
}

#[test]
fn every_notice_that_a_rule_asks_for_is_in_the_catalogue() {
    let mut known = BTreeSet::new();
    for entry in fs::read_dir(root().join("profiles/engines")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let names = text.lines().filter_map(|l| l.strip_prefix("notice = \""));
        known.extend(names.map(|n| n.trim_end_matches('"').to_string()));
    }
    let asked = notices_asked_for();
    assert!(asked.len() > 30, "only {} notices found in the rules", asked.len());
    let missing: Vec<&String> = asked.difference(&known).collect();
    assert!(missing.is_empty(), "no pattern gives these notices: {missing:?}");
}
