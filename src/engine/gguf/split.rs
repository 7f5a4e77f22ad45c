//! Models split over several files, as llama.cpp's `gguf-split` writes them.
//!
//! Each part is a complete GGUF file whose metadata says which part it is (`split.no`, from 0), of
//! how many (`split.count`), and how many tensors all parts hold (`split.tensors.count`). The
//! first part carries the model's metadata. Parts find each other by file name only.

use std::path::{Path, PathBuf};

use super::error::{ErrorKind, GgufError};
use super::header::Header;
use super::metadata::Metadata;
use super::reader::Field;

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// The most parts that the five digits in a name and the 16-bit key allow for.
const MAX_PARTS: u64 = 65_535;

/// Keys that every part has to agree on where it has them.
const SHARED: [&str; 3] = [COUNT, TENSORS, "general.architecture"];

/// The file name of part `no`, counted from 0, of `count`: `model-00001-of-00003.gguf` for 0.
pub fn part_name(prefix: &str, no: u64, count: u64) -> String {
    format!("{prefix}{}", suffix(no, count))
}

fn suffix(no: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", no + 1)
}

/// What a part says about itself.
pub(super) struct Claim {
    /// Which part, from 0; below `count`.
    pub(super) no: u64,
    /// How many parts; at least 2.
    pub(super) count: u64,
}

impl Claim {
    /// What this metadata claims; `None` for a model in one file.
    pub(super) fn read(metadata: &Metadata) -> Result<Option<Self>, GgufError> {
        let count = match metadata.opt_u64(COUNT)? {
            None | Some(0 | 1) => return Ok(None),
            Some(count) if count > MAX_PARTS => {
                return Err(metadata.invalid(COUNT, "at most 65535 parts"));
            }
            Some(count) => count,
        };
        let no = metadata.u64(NO)?;
        if no >= count {
            return Err(metadata.invalid(NO, "a number below split.count"));
        }
        Ok(Some(Self { no, count }))
    }
}

/// The paths of all parts, in order, from the path of one of them. All of them exist.
pub(super) fn part_paths(
    path: &Path,
    metadata: &Metadata,
    claim: &Claim,
) -> Result<Vec<PathBuf>, GgufError> {
    let own = suffix(claim.no, claim.count);
    let prefix = path.file_name().and_then(|name| name.to_str()).and_then(|n| n.strip_suffix(&own));
    let Some(prefix) = prefix else {
        let kind = ErrorKind::SplitName { count: claim.count, suffix: own };
        return Err(metadata.error(NO, kind));
    };
    let paths: Vec<PathBuf> = (0..claim.count)
        .map(|no| path.with_file_name(part_name(prefix, no, claim.count)))
        .collect();
    let missing: Vec<String> =
        paths.iter().filter(|part| !part.exists()).map(|part| part.display().to_string()).collect();
    if missing.is_empty() {
        return Ok(paths);
    }
    Err(metadata.error(COUNT, ErrorKind::MissingParts { count: claim.count, missing }))
}

/// The error for a part that was not read from a folder, where the others could be looked for.
pub(super) fn parts_out_of_reach(metadata: &Metadata, claim: &Claim) -> GgufError {
    let others = (0..claim.count).filter(|&no| no != claim.no);
    let missing = others.map(|no| part_name("...", no, claim.count)).collect();
    metadata.error(COUNT, ErrorKind::MissingParts { count: claim.count, missing })
}

/// Checks that these headers are the parts of one model, each in its place.
pub(super) fn check_parts(headers: &[Header]) -> Result<(), GgufError> {
    let Some(first) = headers.first() else { return Ok(()) };
    for (no, header) in headers.iter().enumerate() {
        let metadata = &header.metadata;
        let found = metadata.u64(NO)?;
        if found != no as u64 {
            return Err(disagrees(metadata, NO, &no, &found));
        }
        for key in SHARED {
            let (expected, found) = (first.metadata.get(key), metadata.get(key));
            if key == COUNT && found.is_none() {
                metadata.u64(COUNT)?;
            }
            let (Some(expected), Some(found)) = (expected, found) else { continue };
            // Integers may differ in width without disagreeing.
            let same = match (expected.as_integer(), found.as_integer()) {
                (Some(a), Some(b)) => a == b,
                _ => expected == found,
            };
            if !same {
                return Err(disagrees(metadata, key, &show(expected), &show(found)));
            }
        }
    }
    let total: u64 = headers.iter().map(|header| header.tensors.len() as u64).sum();
    match first.metadata.opt_u64(TENSORS)? {
        Some(expected) if expected != total => {
            let found = format!("{total} in all parts together");
            Err(disagrees(&first.metadata, TENSORS, &expected, &found))
        }
        _ => Ok(()),
    }
}

fn show(value: &super::Value) -> String {
    match value {
        super::Value::String(text) => super::error::quote(text),
        other => other.describe(),
    }
}

fn disagrees(
    metadata: &Metadata,
    key: &str,
    expected: &dyn std::fmt::Display,
    found: &dyn std::fmt::Display,
) -> GgufError {
    let (expected, found) = (expected.to_string(), found.to_string());
    let kind = ErrorKind::SplitDisagrees { expected, found };
    GgufError::field(metadata.file(), Field::Key(key), kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_from_one_in_five_digits() {
        assert_eq!(part_name("m", 0, 3), "m-00001-of-00003.gguf");
        assert_eq!(part_name("m", 122, 123), "m-00123-of-00123.gguf");
    }

    #[test]
    fn a_model_in_one_file_claims_nothing() {
        let mut metadata = Metadata::new();
        assert!(Claim::read(&metadata).unwrap().is_none());
        metadata.set(COUNT, 1u16);
        assert!(Claim::read(&metadata).unwrap().is_none());
        metadata.set(COUNT, 2u16);
        assert!(matches!(Claim::read(&metadata), Err(e) if e.to_string().contains("split.no")));
        metadata.set(NO, 2u16);
        assert!(Claim::read(&metadata).is_err());
        metadata.set(NO, 1u16);
        assert_eq!(Claim::read(&metadata).unwrap().unwrap().no, 1);
    }
}
