//! Any program as a target: llama-bench, another bench that prints its JSON, or a program that prints a
//! `gpuwhy.report/1`.
//!
//! The command is run once for each sample, with the test's numbers in place of `{p}`, `{n}`, `{d}` and
//! `{c}` (prompt, generation, depth, concurrency). A command that has none of them runs as it is, and
//! what it prints for the test's numbers is taken.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::report::{conditions_of, facts_of, metrics_of, parts_of, structure_of};
use super::sample::{Metric, Sample};
use super::target::{MeasureError, Structure, Target, TargetFacts};
use super::workload::Test;

/// Fields of a llama-bench record that do not vary from run to run.
const STRUCTURE: [&str; 14] = [
    "model_type",
    "model_size",
    "model_n_params",
    "n_gpu_layers",
    "n_cpu_moe",
    "split_mode",
    "main_gpu",
    "no_kv_offload",
    "flash_attn",
    "devices",
    "tensor_split",
    "type_k",
    "type_v",
    "backends",
];

/// Fields of a llama-bench record that are settings.
const SETTINGS: [&str; 9] = [
    "n_batch",
    "n_ubatch",
    "n_threads",
    "type_k",
    "type_v",
    "n_gpu_layers",
    "flash_attn",
    "split_mode",
    "use_mmap",
];

/// A command line.
pub struct CommandTarget {
    name: String,
    words: Vec<String>,
    /// What it printed last, by the test's name.
    last: BTreeMap<String, Value>,
}

impl CommandTarget {
    /// `command` is split into words as a shell does, with quotes; no shell runs it.
    pub fn new(name: impl Into<String>, command: &str) -> Result<Self, MeasureError> {
        let name = name.into();
        let words = split_words(command).map_err(|e| MeasureError::new(format!("{name}: {e}")))?;
        if words.is_empty() {
            return Err(MeasureError::new(format!("{name}: the command is empty")));
        }
        Ok(Self { name, words, last: BTreeMap::new() })
    }

    fn run(&mut self, test: &Test) -> Result<Value, MeasureError> {
        let words: Vec<String> = self.words.iter().map(|w| fill(w, test)).collect();
        let output = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).output();
        let output = output.map_err(|e| {
            MeasureError::new(format!("{}: cannot start {}: {e}", self.name, words[0]))
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("no message");
            let error = format!("{}: {}: {}: {last}", self.name, words[0], output.status);
            return Err(MeasureError::new(error));
        }
        let value = read(&output.stdout).ok_or_else(|| {
            MeasureError::new(format!("{}: {} printed no JSON", self.name, words[0]))
                .hint("a gpuwhy report is read, and the JSON of llama-bench: -o json or -o jsonl")
        })?;
        self.last.insert(test.name.clone(), value.clone());
        Ok(value)
    }

    /// What the command printed last for a test; runs it if it never did.
    fn known(&mut self, test: &Test) -> Result<Value, MeasureError> {
        match self.last.get(&test.name) {
            Some(value) => Ok(value.clone()),
            None => self.run(test),
        }
    }
}

/// Words as a POSIX shell would split them, without its variables and patterns.
pub fn split_words(command: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('"') | None, '\\') => {
                let next = chars.next().ok_or("it ends in a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_string());
    }
    words.extend(word);
    Ok(words)
}

fn fill(word: &str, test: &Test) -> String {
    let numbers = [
        ("{p}", test.prompt_tokens),
        ("{n}", test.generate_tokens),
        ("{d}", test.depth),
        ("{c}", test.concurrency),
    ];
    numbers.iter().fold(word.to_string(), |w, (hole, n)| w.replace(hole, &n.to_string()))
}

/// One JSON document, or JSON lines as an array.
fn read(bytes: &[u8]) -> Option<Value> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Some(value);
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let lines: Vec<Value> = text
        .lines()
        .filter(|l| l.trim_start().starts_with('{'))
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .ok()?;
    (!lines.is_empty()).then_some(Value::Array(lines))
}

fn is_report(value: &Value) -> bool {
    value["schema"] == "gpuwhy.report/1"
}

/// The records of llama-bench that belong to a test, each with what it measures.
fn records<'a>(value: &'a Value, test: &Test) -> Vec<(Metric, &'a Value)> {
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let number = |r: &Value, key: &str| r[key].as_u64().unwrap_or(0);
    let of = |p: u32, n: u32| {
        let (p, n, d) = (u64::from(p), u64::from(n), u64::from(test.depth));
        list.iter().find(move |r| {
            number(r, "n_prompt") == p && number(r, "n_gen") == n && number(r, "n_depth") == d
        })
    };
    let mut found = Vec::new();
    if test.prompt_tokens > 0 {
        let record = of(test.prompt_tokens, 0);
        found.extend(record.map(|r| (Metric::PromptTokensPerS, r)));
    }
    if test.generate_tokens > 0 {
        let record = of(0, test.generate_tokens);
        found.extend(record.map(|r| (Metric::DecodeTokensPerS, r)));
    }
    found
}

impl Target for CommandTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn facts(&mut self) -> Result<TargetFacts, MeasureError> {
        // What it is, is seen when it runs for the first time.
        let Some(value) = self.last.values().next() else {
            return Ok(TargetFacts { engine: self.words[0].clone(), ..TargetFacts::default() });
        };
        if is_report(value) {
            return Ok(facts_of(value));
        }
        let record = if value.is_array() { &value[0] } else { value };
        let text = |key: &str| match &record[key] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let settings = SETTINGS.iter().map(|k| ((*k).to_string(), text(k)));
        let machine = [("cpu", text("cpu_info")), ("gpu", text("gpu_info"))];
        Ok(TargetFacts {
            engine: self.words[0].clone(),
            engine_version: format!("{} ({})", text("build_number"), text("build_commit")),
            model: text("model_type"),
            settings: settings.filter(|(_, v)| !v.is_empty()).collect(),
            machine: machine.map(|(k, v)| (k.to_string(), v)).into(),
        })
    }

    fn structure(&mut self, test: &Test) -> Result<Structure, MeasureError> {
        let value = self.known(test)?;
        if is_report(&value) {
            return Ok(structure_of(&value));
        }
        let record = records(&value, test).first().map_or(Value::Null, |r| r.1.clone());
        let facts = STRUCTURE.iter().filter(|k| !record[**k].is_null());
        Ok(facts.map(|k| (format!("bench.{k}"), record[*k].clone())).collect())
    }

    fn sample(&mut self, test: &Test) -> Result<Sample, MeasureError> {
        let value = self.run(test)?;
        if is_report(&value) {
            let (metrics, parts) = (metrics_of(&value, test), parts_of(&value));
            return Ok(Sample { metrics, parts, conditions: conditions_of(&value) });
        }
        let metrics: BTreeMap<Metric, f64> = records(&value, test)
            .iter()
            .filter_map(|(metric, r)| Some((*metric, r["avg_ts"].as_f64()?)))
            .filter(|(_, v)| v.is_finite() && *v > 0.0)
            .collect();
        if metrics.is_empty() {
            let what = format!(
                "{}: the output has no record of {} prompt and {} generated tokens at depth {}",
                self.name, test.prompt_tokens, test.generate_tokens, test.depth
            );
            return Err(MeasureError::new(what).hint(
                "let the command take the test's numbers: -p {p} -n {n} -d {d} -r 1 -o json",
            ));
        }
        Ok(Sample { metrics, ..Sample::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(prompt_tokens: u32, generate_tokens: u32) -> Test {
        let name = format!("{prompt_tokens}/{generate_tokens}");
        Test { name, prompt_tokens, generate_tokens, depth: 0, concurrency: 1, reload: false }
    }

    #[test]
    fn words_are_those_of_a_shell() {
        let split = |text: &str| split_words(text).unwrap();
        assert_eq!(
            split(" a  -m 'b c' \"d\\\"e\" f\\ g '' "),
            ["a", "-m", "b c", "d\"e", "f g", ""]
        );
        assert!(split_words("a 'b").is_err() && split_words("a\\").is_err());
        assert!(CommandTarget::new("x", "  ").is_err());
    }

    #[test]
    fn llama_benchs_records_are_found_by_their_numbers() {
        let printed = r#"[
            {"n_prompt": 64, "n_gen": 0, "n_depth": 0, "avg_ts": 100.5, "n_gpu_layers": 99,
             "build_number": 7, "build_commit": "abc", "cpu_info": "AMD", "model_type": "llama"},
            {"n_prompt": 0, "n_gen": 8, "n_depth": 0, "avg_ts": 20.25, "n_gpu_layers": 99}]"#;
        let command = format!("echo '{}'", printed.replace('\n', " "));
        let mut target = CommandTarget::new("bench", &command).unwrap();
        let both = target.sample(&test(64, 8)).unwrap();
        assert_eq!(both.metrics[&Metric::PromptTokensPerS], 100.5);
        assert_eq!(both.metrics[&Metric::DecodeTokensPerS], 20.25);
        assert_eq!(target.structure(&test(64, 8)).unwrap()["bench.n_gpu_layers"], 99);
        let facts = target.facts().unwrap();
        assert_eq!((facts.engine_version.as_str(), facts.model.as_str()), ("7 (abc)", "llama"));
        let missing = target.sample(&test(65, 0)).unwrap_err();
        assert!(missing.what.contains("65 prompt"), "{missing}");
    }

    #[test]
    fn a_command_gets_the_numbers_of_the_test() {
        let mut target = CommandTarget::new("x", "true").unwrap();
        assert!(target.sample(&test(1, 0)).unwrap_err().what.contains("no JSON"));
        let command = r#"printf '{"n_prompt": %s, "n_gen": 0, "avg_ts": 1}' {p}"#;
        let mut target = CommandTarget::new("x", command).unwrap();
        assert_eq!(target.sample(&test(33, 0)).unwrap().metrics.len(), 1);
        let mut target = CommandTarget::new("x", "sh -c 'echo lost >&2; exit 3'").unwrap();
        assert!(target.sample(&test(1, 0)).unwrap_err().what.contains("lost"));
    }
}
