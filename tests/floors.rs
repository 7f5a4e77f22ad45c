//! Enforces the map of the house from the source text: which module may import which, where
//! `unsafe` may stand, and that every file says what it is. See docs/ARCHITECTURE.md.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// The floors, lowest first; a floor imports only floors listed before it, and itself.
const FLOORS: [(&str, &[&str]); 5] = [
    ("base", &["clock", "counter", "event", "setup", "sink", "stats", "units"]),
    ("engine", &["tensor", "gguf", "tokenizer", "graph", "model", "backend", "sched", "runtime"]),
    ("observe", &["logs", "telemetry", "inspect", "attach", "record", "session"]),
    ("advise", &["plan", "diagnose", "measure", "tune", "regress"]),
    ("app", &["report", "tui", "server", "cli"]),
];

/// Floors that do not know each other although one is listed before the other.
const STRANGERS: [(&str, &str); 1] = [("observe", "engine")];

/// Within `base` every module may use every other: they are one vocabulary.
const UNORDERED: [&str; 1] = ["base"];

/// The longest file, in lines. Lower it when the longest one shrinks; never raise it.
const LINES_MAX: usize = 600;

struct Source {
    path: PathBuf,
    floor: String,
    module: Option<String>,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let parts: Vec<String> = path
                    .strip_prefix(&root)
                    .unwrap()
                    .with_extension("")
                    .iter()
                    .map(|p| p.to_str().unwrap().to_string())
                    .collect();
                if parts.len() == 1 {
                    continue; // lib.rs and main.rs stand outside the floors
                }
                let module = parts.get(1).filter(|m| *m != "mod").cloned();
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { floor: parts[0].clone(), module, text, path });
            }
        }
    }
    assert!(found.len() > 50, "the walk found only {} files", found.len());
    found
}

fn floor_index(name: &str) -> Option<usize> {
    FLOORS.iter().position(|f| f.0 == name)
}

/// The code before the file's own tests, which may reach for anything, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().take_while(|(_, l)| !l.starts_with("#[cfg(test)]"));
    lines.map(|(i, l)| (i + 1, l.split("//").next().unwrap_or(""))).filter(|(_, l)| !l.is_empty())
}

/// Every `crate::floor::module` that a line names.
fn imports(line: &str) -> Vec<(String, Option<String>)> {
    let word = |s: &str| -> String {
        s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    line.match_indices("crate::")
        .filter(|(at, _)| !line[..*at].ends_with('$'))
        .map(|(at, _)| {
            let rest = &line[at + "crate::".len()..];
            let floor = word(rest);
            let module = rest[floor.len()..].strip_prefix("::").map(word).filter(|m| !m.is_empty());
            (floor, module)
        })
        .collect()
}

fn is_test_file(path: &Path) -> bool {
    path.file_stem().is_some_and(|s| s == "tests") || path.iter().any(|p| p == "tests")
}

fn complaint(source: &Source, floor: &str, module: Option<&str>) -> Option<String> {
    let (Some(mine), Some(theirs)) = (floor_index(&source.floor), floor_index(floor)) else {
        return None; // an item of the crate root, like the library's own name
    };
    if theirs > mine {
        return Some(format!("{} is above {}", floor, source.floor));
    }
    if STRANGERS.contains(&(source.floor.as_str(), floor)) {
        return Some(format!("{} does not know {floor}", source.floor));
    }
    if theirs < mine || UNORDERED.contains(&floor) {
        return None;
    }
    let order = FLOORS[mine].1;
    let place = |m: &str| order.iter().position(|o| *o == m);
    let (from, to) = (source.module.as_deref().and_then(place), module.and_then(place));
    match (from, to) {
        (Some(from), Some(to)) if to > from => {
            Some(format!("{floor}::{} is above {floor}::{}", order[to], order[from]))
        }
        _ => None,
    }
}

#[test]
fn modules_import_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !is_test_file(&s.path)) {
        for (number, line) in code(&source.text) {
            for (floor, module) in imports(line) {
                if let Some(why) = complaint(source, &floor, module.as_deref()) {
                    wrong.push(format!("{}:{number}: {why}", source.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_its_place_on_the_map() {
    for source in sources() {
        let Some(floor) = floor_index(&source.floor) else {
            panic!("{}: no floor '{}' on the list", source.path.display(), source.floor);
        };
        if let Some(module) = &source.module {
            assert!(
                FLOORS[floor].1.contains(&module.as_str()),
                "{}: add '{module}' to the list of {}",
                source.path.display(),
                source.floor
            );
        }
    }
}

#[test]
fn unsafe_stands_only_in_the_backend_and_at_the_one_map() {
    let mut maps = 0;
    for source in sources() {
        let module = source.module.as_deref();
        if (source.floor.as_str(), module) == ("engine", Some("backend")) {
            continue;
        }
        let uses = code(&source.text)
            .filter(|(_, l)| {
                l.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe")
            })
            .count();
        if (source.floor.as_str(), module) == ("engine", Some("gguf")) {
            maps += uses;
        } else {
            assert_eq!(uses, 0, "{}: unsafe outside engine::backend", source.path.display());
        }
    }
    assert_eq!(maps, 1, "gguf has exactly one unsafe call: the map");
}

#[test]
fn every_file_opens_with_what_it_is_and_stays_readable() {
    for source in sources() {
        let path = source.path.display();
        assert!(source.text.starts_with("//!"), "{path}: begin with `//!` and what the file is");
        let lines = source.text.lines().count();
        assert!(lines <= LINES_MAX, "{path}: {lines} lines; more than one subject?");
    }
}

#[test]
fn the_checks_can_fail() {
    let source = |floor: &str, module: &str| Source {
        path: PathBuf::new(),
        floor: floor.to_string(),
        module: Some(module.to_string()),
        text: String::new(),
    };
    assert!(complaint(&source("engine", "gguf"), "app", Some("cli")).is_some());
    assert!(complaint(&source("engine", "gguf"), "engine", Some("runtime")).is_some());
    assert!(complaint(&source("engine", "runtime"), "engine", Some("gguf")).is_none());
    assert!(complaint(&source("observe", "logs"), "engine", Some("gguf")).is_some());
    assert!(complaint(&source("app", "cli"), "engine", Some("gguf")).is_none());
    assert_eq!(
        imports("use crate::engine::gguf::Gguf; // crate"),
        [("engine".to_string(), Some("gguf".to_string()))]
    );
}
