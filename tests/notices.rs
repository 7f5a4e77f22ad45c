//! What rules ask for by name is named by a pattern: a misspelled notice would never be found, and no
//! other test would tell.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use gpuwhy::observe::logs::Catalogue;
use regex::Regex;

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Names that stand in calls of `notice` and `any_notice`, and in the lists that are given to them.
fn asked(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]").next().unwrap();
    let single = Regex::new(r#"\bnotice\("([a-z0-9-]+)"\)"#).unwrap();
    let calls = Regex::new(r"any_notice\(&\[([^\]]*)\]\)").unwrap();
    let lists = Regex::new(r"any_notice\(&?(\w+)\)").unwrap();
    let quoted = Regex::new(r#""([a-z0-9-]+)""#).unwrap();
    let mut names: Vec<String> = single.captures_iter(text).map(|c| c[1].to_string()).collect();
    let mut pieces: Vec<String> = calls.captures_iter(text).map(|c| c[1].to_string()).collect();
    for call in lists.captures_iter(text) {
        let name = regex::escape(&call[1]);
        let list = Regex::new(&format!(r"(?:let|const) {name}\b[^=]*= &?\[([^\]]*)\]")).unwrap();
        pieces.extend(list.captures_iter(text).map(|c| c[1].to_string()));
    }
    for piece in pieces {
        names.extend(quoted.captures_iter(&piece).map(|c| c[1].to_string()));
    }
    names
}

#[test]
fn every_notice_that_is_asked_for_is_named_by_a_pattern() {
    let patterns = Catalogue::builtin().patterns().iter();
    let known: BTreeSet<&str> = patterns.filter_map(|p| p.notice.as_deref()).collect();
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    sources(&root.join("src/advise/diagnose"), &mut files);
    let mut count = 0;
    let mut wrong = Vec::new();
    for file in files {
        for name in asked(&fs::read_to_string(&file).unwrap()) {
            count += 1;
            if !known.contains(name.as_str()) {
                wrong.push(format!("{}: {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "no pattern has these notices:\n{}", wrong.join("\n"));
    // The way in which names are read from the text must go on finding them.
    assert!(count > 60, "only {count} names were found");
}

#[test]
fn names_are_read_from_calls_and_from_lists() {
    let text = r#"
        let states = ["a-b", "c"];
        facts.any_notice(&states);
        facts.any_notice(&["d-e", "f"]);
        facts.notice("g")
    "#;
    assert_eq!(asked(text), ["g", "d-e", "f", "a-b", "c"]);
}
