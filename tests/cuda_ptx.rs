//! The committed PTX is what the kernels' sources say, as far as hashes can tell: the same check as
//! `kernels/build.py --check`, without Python.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/backend/cuda/kernels")
}

fn hash(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Sha256::digest(&bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Names of the files in `folder` that end in `suffix`.
fn files(folder: &Path, suffix: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.ends_with(suffix)).collect()
}

/// A unit's file and all that it includes, with their hashes.
fn sources(unit: &str) -> BTreeMap<String, String> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![format!("{unit}.cu")]);
    while let Some(name) = todo.pop() {
        let path = kernels().join(&name);
        if found.insert(name, hash(&path)).is_none() {
            let text = fs::read_to_string(&path).unwrap();
            let includes = text.lines().filter_map(|l| {
                let rest = l.trim_start().strip_prefix('#')?.trim_start();
                rest.strip_prefix("include")?.trim_start().strip_prefix('"')?.split('"').next()
            });
            todo.extend(includes.map(str::to_string));
        }
    }
    found
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_string()
}

#[test]
fn ptx_is_not_stale() {
    let folder = kernels().join("ptx");
    let stems = |folder: &Path, suffix: &str| -> BTreeSet<String> {
        files(folder, suffix).iter().map(|f| f.trim_end_matches(suffix).to_string()).collect()
    };
    let units = stems(&kernels(), ".cu");
    assert!(!units.is_empty());
    assert_eq!(stems(&folder, ".json"), units, "run build.py");

    let toolchain = hash(&kernels().join("toolchain.json"));
    let mut listed = BTreeSet::new();
    for unit in &units {
        let entry = fs::read(folder.join(format!("{unit}.json"))).unwrap();
        let entry: Value = serde_json::from_slice(&entry).unwrap();
        assert_eq!(entry["toolchain_sha256"], toolchain, "{unit}: run build.py");
        let then = entry["sources"].as_object().unwrap();
        let then: BTreeMap<_, _> = then.iter().map(|(k, v)| (k.clone(), text(v))).collect();
        assert_eq!(sources(unit), then, "{unit}.cu has changed since its PTX was made");
        for ptx in entry["ptx"].as_object().unwrap().values() {
            let file = text(&ptx["file"]);
            assert_eq!(hash(&folder.join(&file)), text(&ptx["sha256"]), "{file}");
            listed.insert(file);
        }
    }
    assert_eq!(files(&folder, ".ptx"), listed, "PTX that belongs to no unit");
}
