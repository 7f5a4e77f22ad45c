//! Workloads: profiles/workloads/*.toml, or a file of the user's.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What is run, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its name; a shipped one's is its file's.
    pub name: String,
    /// One sentence: what it is for.
    pub description: String,
    /// How many samples are taken.
    #[serde(default)]
    pub sampling: Sampling,
    /// The tests, run in turn.
    #[serde(rename = "test")]
    pub tests: Vec<Test>,
}

/// How many samples of each test are taken, on each side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Repetitions before the first that counts.
    pub warmup: u32,
    /// Samples before the first look at them.
    pub samples_min: u32,
    /// Samples after which there is no more.
    pub samples_max: u32,
    /// Smallest change that matters, in percent of the baseline.
    pub effect_min_percent: f64,
    /// No sample is begun after that many seconds; what is open then is inconclusive.
    pub time_max_s: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            warmup: 1,
            samples_min: 6,
            samples_max: 120,
            effect_min_percent: 3.0,
            time_max_s: 600.0,
        }
    }
}

/// One test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Its name, unique in the workload: `tg64@d2048`.
    pub name: String,
    /// Tokens of the prompt that is timed; 0 for none.
    #[serde(default)]
    pub prompt_tokens: u32,
    /// Tokens generated; 0 for none.
    #[serde(default)]
    pub generate_tokens: u32,
    /// Tokens in the context before the timed part.
    #[serde(default)]
    pub depth: u32,
    /// Requests at once.
    #[serde(default = "one")]
    pub concurrency: u32,
    /// Whether the model is loaded anew for each sample, so that loading is measured.
    #[serde(default)]
    pub reload: bool,
}

fn one() -> u32 {
    1
}

/// Why a workload cannot be used.
#[derive(Debug, Error)]
pub enum WorkloadError {
    /// It is no TOML, lacks a field or has one that nobody knows.
    #[error("workload {file}: {error}")]
    Parse {
        /// Where it was read from.
        file: String,
        /// What the parser says, with the line.
        error: Box<toml::de::Error>,
    },
    /// A value that has no meaning.
    #[error("workload {file}: {field}: {problem}")]
    Value {
        /// Where it was read from.
        file: String,
        /// Which field, like `test[2].concurrency`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The workloads that ship with the program: name and text.
const SHIPPED: [(&str, &str); 4] = [
    ("quick", include_str!("../../../profiles/workloads/quick.toml")),
    ("standard", include_str!("../../../profiles/workloads/standard.toml")),
    ("depth", include_str!("../../../profiles/workloads/depth.toml")),
    ("server", include_str!("../../../profiles/workloads/server.toml")),
];

/// Name and text of every workload that ships with the program.
pub fn shipped() -> &'static [(&'static str, &'static str)] {
    &SHIPPED
}

impl Workload {
    /// The shipped workload of that name.
    pub fn by_name(name: &str) -> Option<Result<Self, WorkloadError>> {
        let (name, text) = SHIPPED.iter().find(|(n, _)| *n == name)?;
        Some(Self::parse(&format!("profiles/workloads/{name}.toml"), text))
    }

    /// Reads a workload; `file` is for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, WorkloadError> {
        let workload: Self = toml::from_str(text).map_err(|error| WorkloadError::Parse {
            file: file.to_string(),
            error: error.into(),
        })?;
        workload.check(file)?;
        Ok(workload)
    }

    /// Whether every value has a meaning; `file` is for messages.
    pub fn check(&self, file: &str) -> Result<(), WorkloadError> {
        let wrong = |field: String, problem: &str| {
            Err(WorkloadError::Value {
                file: file.to_string(),
                field,
                problem: problem.to_string(),
            })
        };
        let s = &self.sampling;
        if s.samples_min < 5 {
            return wrong("sampling.samples_min".into(), "at least 5 samples can be compared");
        }
        if s.samples_max < s.samples_min {
            return wrong("sampling.samples_max".into(), "less than samples_min");
        }
        if !(s.effect_min_percent.is_finite() && (0.0..100.0).contains(&s.effect_min_percent)) {
            return wrong("sampling.effect_min_percent".into(), "a number from 0 to 100 is needed");
        }
        if !(s.time_max_s.is_finite() && s.time_max_s > 0.0) {
            return wrong("sampling.time_max_s".into(), "a number of seconds above 0 is needed");
        }
        if self.tests.is_empty() {
            return wrong("test".into(), "a workload needs at least one [[test]]");
        }
        for (i, test) in self.tests.iter().enumerate() {
            let field = |name: &str| format!("test[{i}].{name}");
            if test.name.is_empty() || self.tests[..i].iter().any(|t| t.name == test.name) {
                return wrong(field("name"), "a name of its own is needed");
            }
            if test.prompt_tokens == 0 && test.generate_tokens == 0 {
                return wrong(field("prompt_tokens"), "prompt_tokens or generate_tokens is needed");
            }
            if test.concurrency == 0 {
                return wrong(field("concurrency"), "at least one request is needed");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_workloads_are_sound_and_named_as_their_files() {
        for (name, _) in shipped() {
            assert_eq!(Workload::by_name(name).unwrap().unwrap().name, *name);
        }
    }

    #[test]
    fn errors_name_file_and_field() {
        let base = "name = 'x'\ndescription = 'y'\n";
        let error = |text: &str| Workload::parse("w.toml", text).unwrap_err().to_string();
        assert!(error(&format!("{base}[[test]]\nname = 'a'\nspeed = 1")).contains("speed"));
        for (text, field) in [
            ("test = []", "w.toml: test:"),
            ("[[test]]\nname = 'a'", "test[0].prompt_tokens"),
            ("[[test]]\nname = 'a'\nprompt_tokens = 1\nconcurrency = 0", "test[0].concurrency"),
            (
                "[[test]]\nname = 'a'\nprompt_tokens = 1\n[[test]]\nname = 'a'\nprompt_tokens = 2",
                "test[1].name",
            ),
            (
                "[sampling]\nsamples_min = 2\n[[test]]\nname = 'a'\nprompt_tokens = 1",
                "sampling.samples_min",
            ),
            (
                "[sampling]\neffect_min_percent = nan\n[[test]]\nname = 'a'\nprompt_tokens = 1",
                "sampling.effect_min_percent",
            ),
        ] {
            let error = error(&format!("{base}{text}"));
            assert!(error.contains(field), "{error}");
        }
    }
}
