//! Our own runtime as a target: `gpuwhy sample` of this build, or of another one, in a process of its
//! own for each sample.
//!
//! A process for each sample costs its start, and buys that samples do not share one process's luck
//! with addresses and pages, and that any two builds can be run in turn.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::report::{conditions_of, facts_of, metrics_of, parts_of, structure_of};
use super::sample::Sample;
use super::target::{MeasureError, Structure, Target, TargetFacts};
use super::workload::Test;

/// Lines of what a program said last that an error repeats.
const LAST_LINES: usize = 3;

/// A build of this program with a model and flags.
pub struct OwnTarget {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    plans: BTreeMap<String, Value>,
}

impl OwnTarget {
    /// `args` are the model and the flags that `gpuwhy sample` shall get beside the test's own.
    pub fn new(name: impl Into<String>, program: PathBuf, args: Vec<String>) -> Self {
        Self { name: name.into(), program, args, plans: BTreeMap::new() }
    }

    fn run(&self, test: &Test, more: &[&str]) -> Result<Value, MeasureError> {
        let mut command = Command::new(&self.program);
        command.arg("sample").args(&self.args).args(test_flags(test)).args(more);
        report(&self.name, &mut command)
    }

    /// The report of the plan, made once for each test.
    fn plan(&mut self, test: &Test) -> Result<&Value, MeasureError> {
        let key = test_flags(test).join(" ");
        if !self.plans.contains_key(&key) {
            let plan = self.run(test, &["--plan"])?;
            self.plans.insert(key.clone(), plan);
        }
        Ok(&self.plans[&key])
    }
}

/// A test as `gpuwhy sample` takes it.
fn test_flags(test: &Test) -> Vec<String> {
    let numbers = [
        ("-p", test.prompt_tokens),
        ("-n", test.generate_tokens),
        ("-d", test.depth),
        ("-np", test.concurrency),
    ];
    numbers.iter().flat_map(|(flag, n)| [(*flag).to_string(), n.to_string()]).collect()
}

/// Runs a program that prints a report of this program's kind, and reads it.
fn report(name: &str, command: &mut Command) -> Result<Value, MeasureError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| {
        MeasureError::new(format!("{name}: cannot start {program}: {e}"))
            .hint("the path of a gpuwhy program is needed")
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("; ");
        return Err(MeasureError::new(format!("{name}: {program}: {}: {last}", output.status)));
    }
    let broken = |what: String| {
        MeasureError::new(format!("{name}: {program} printed no report: {what}"))
            .hint("a gpuwhy program that has the command 'sample' is needed")
    };
    let report: Value =
        serde_json::from_slice(&output.stdout).map_err(|e| broken(e.to_string()))?;
    match report["schema"].as_str() {
        Some("gpuwhy.report/1") => Ok(report),
        other => Err(broken(format!("its schema is {}", other.unwrap_or("missing")))),
    }
}

impl Target for OwnTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn facts(&mut self) -> Result<TargetFacts, MeasureError> {
        let smallest = Test {
            name: String::new(),
            prompt_tokens: 1,
            generate_tokens: 0,
            depth: 0,
            concurrency: 1,
            reload: false,
        };
        let mut facts = facts_of(self.plan(&smallest)?);
        // The model stands first, if it is named at all.
        let flags: Vec<&str> =
            self.args.iter().map(String::as_str).skip_while(|a| !a.starts_with('-')).collect();
        facts.settings.insert("flags".to_string(), flags.join(" "));
        Ok(facts)
    }

    fn structure(&mut self, test: &Test) -> Result<Structure, MeasureError> {
        Ok(structure_of(self.plan(test)?))
    }

    fn sample(&mut self, test: &Test) -> Result<Sample, MeasureError> {
        let report = self.run(test, &[])?;
        let metrics = metrics_of(&report, test);
        if metrics.is_empty() {
            return Err(MeasureError::new(format!("{}: the report has no times", self.name)));
        }
        Ok(Sample { metrics, parts: parts_of(&report), conditions: conditions_of(&report) })
    }

    fn detail(&mut self, test: &Test) -> Result<Sample, MeasureError> {
        let report = self.run(test, &["--per-node"])?;
        let conditions = conditions_of(&report);
        Ok(Sample { parts: parts_of(&report), conditions, ..Sample::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_program_says_last_is_in_the_error() {
        let error = report("base", &mut shell("echo one >&2; echo no such model >&2; exit 2"));
        let error = error.unwrap_err();
        assert!(error.what.contains("base: sh: exit status: 2: one; no such model"), "{error}");
        let error = report("base", &mut Command::new("/no/such/program")).unwrap_err();
        assert!(error.what.contains("cannot start /no/such/program"), "{error}");
        for text in ["", "hello", "{}", r#"{"schema": "other/1"}"#] {
            let error = report("base", &mut shell(&format!("echo '{text}'"))).unwrap_err();
            assert!(error.what.contains("printed no report"), "{error}");
            assert!(error.hint.is_some());
        }
    }
}
