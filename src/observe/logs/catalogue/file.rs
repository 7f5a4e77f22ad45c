//! A file of patterns as it is written.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::fold::Kind;
use super::error::CatalogueError;

/// One file: `[[pattern]]` after `[[pattern]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) pattern: Vec<Entry>,
}

/// One pattern with its samples.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) notice: Option<String>,
    #[serde(default)]
    pub(super) literal: Literals,
    pub(super) regex: Option<String>,
    pub(super) slog: Option<Slog>,
    /// Key of the line to name of the field.
    #[serde(default)]
    pub(super) keys: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) sample: Vec<Sample>,
}

/// Strings that stand in every line that matches.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum Literals {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

impl Literals {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(one) => vec![one],
            Self::Several(several) => several,
        }
    }
}

/// How a structured line is recognised.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slog {
    /// The message, or its beginning when it ends in `*`.
    pub(super) msg: String,
    /// The file that logged it, without the line number.
    pub(super) source: Option<String>,
    /// Keys that must be there.
    #[serde(default)]
    pub(super) keys: Vec<String>,
}

/// A line that the pattern must match.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    pub(super) line: String,
    #[serde(default)]
    pub(super) fields: BTreeMap<String, String>,
}

pub(super) fn parse(name: &str, text: &str) -> Result<File, CatalogueError> {
    toml::from_str(text).map_err(|error| CatalogueError::Syntax {
        file: name.to_string(),
        message: error.to_string(),
    })
}
