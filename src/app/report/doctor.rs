//! The report of a look at the machine: `gpuwhy.report/1` with what was seen, part by part.
//!
//! The same findings as everywhere, printed by the same code as a log's. Nothing here looks at anything
//! or concludes. Invariant: what text and Markdown say stands in the document.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::advise::diagnose::Diagnosis;
use crate::observe::logs::LogSession;

use super::document::{
    Finding, OpenQuestion, REPORT_SCHEMA, Severity, Source, SourceKind, Verdict,
};
use super::findings::{findings, findings_markdown, findings_text, open};
use super::log::Redactor;
use super::table::{Style, Table};

/// What a machine has, and what follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorReport {
    /// Always `gpuwhy.report/1`.
    pub schema: String,
    /// Where the observation came from.
    pub source: Source,
    /// Whether something is wrong.
    pub verdict: Verdict,
    /// Causes first; then what follows from them; then what looks wrong but is not.
    pub findings: Vec<Finding>,
    /// Questions that are left open.
    pub open: Vec<OpenQuestion>,
    /// Rules that were asked and found nothing.
    pub clear: Vec<String>,
    /// What was seen.
    pub facts: DoctorFacts,
}

/// What was seen of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorFacts {
    /// Everything, in the order in which it is shown.
    pub machine: Vec<DoctorFact>,
}

/// One thing that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorFact {
    /// To which part it belongs: `devices`, `driver`, `container`, `Ollama`.
    pub part: String,
    /// What it is.
    pub name: String,
    /// How it is.
    pub value: String,
    /// What can be done about it; absent where nothing is to be done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// The report of a machine.
pub fn doctor_report(
    log: &LogSession,
    diagnosis: &Diagnosis,
    engine: (&str, &str),
    machine: Vec<DoctorFact>,
) -> DoctorReport {
    let mut findings = findings(log, diagnosis);
    for finding in &mut findings {
        finding.evidence.retain(|e| !e.text.is_empty());
        // What neither a log nor a sample told was seen on the machine.
        for evidence in
            finding.evidence.iter_mut().filter(|e| e.line.is_none() && e.source == "log")
        {
            evidence.source = "machine".to_string();
        }
    }
    let is_bad = findings.iter().any(is_bad);
    DoctorReport {
        schema: REPORT_SCHEMA.to_string(),
        source: Source {
            kind: SourceKind::Doctor,
            engine: engine.0.to_string(),
            engine_version: engine.1.to_string(),
            dialect: None,
        },
        verdict: if is_bad { Verdict::Problem } else { Verdict::Benign },
        findings,
        open: open(diagnosis),
        clear: diagnosis.clear.iter().map(|id| (*id).to_string()).collect(),
        facts: DoctorFacts { machine },
    }
}

fn is_bad(finding: &Finding) -> bool {
    finding.severity != Severity::Info
}

impl DoctorReport {
    /// Takes out what names a person or a machine.
    pub fn redact(&mut self) {
        let mut redactor = Redactor::new();
        redactor.findings(&mut self.findings);
        for fact in &mut self.facts.machine {
            for text in [&mut fact.name, &mut fact.value, &mut fact.hint] {
                *text = redactor.redact(text);
            }
        }
    }

    fn verdict_line(&self) -> String {
        match (self.verdict == Verdict::Problem, self.findings.first()) {
            (true, Some(first)) => format!("problem: {}", first.title),
            _ => "nothing is wrong that can be seen without running a model".to_string(),
        }
    }

    /// The parts in their order, each with its table.
    fn parts(&self) -> Vec<(&str, Table, Vec<&DoctorFact>)> {
        let mut parts: Vec<(&str, Table, Vec<&DoctorFact>)> = Vec::new();
        for fact in &self.facts.machine {
            let at = parts.iter().position(|p| p.0 == fact.part).unwrap_or_else(|| {
                parts.push((&fact.part, Table::new(&["what", "how it is"]), Vec::new()));
                parts.len() - 1
            });
            parts[at].1.row([fact.name.clone(), fact.value.clone()]);
            if !fact.hint.is_empty() {
                parts[at].2.push(fact);
            }
        }
        parts
    }
}

/// The report for a terminal.
pub fn doctor_text(report: &DoctorReport, style: Style) -> String {
    let mut out = format!("{} {}\n", style.bold("verdict  "), report.verdict_line());
    out.push_str(&findings_text(&report.findings, &report.open, "what was seen", style));
    for (part, table, hints) in report.parts() {
        let _ = writeln!(out, "\n{}", style.bold(part));
        out.push_str(&table.text("  ", style));
        for fact in hints {
            let _ = writeln!(out, "  {}: {}", fact.name, fact.hint);
        }
    }
    out
}

/// The report to paste into an issue.
pub fn doctor_markdown(report: &DoctorReport) -> String {
    let mut out = format!("## gpuwhy on a machine\n\n- **verdict**: {}\n", report.verdict_line());
    out.push_str(&findings_markdown(&report.findings, &report.open, "What was seen"));
    for (part, table, hints) in report.parts() {
        let _ = writeln!(out, "\n### {part}\n");
        out.push_str(&table.markdown());
        if !hints.is_empty() {
            out.push('\n');
        }
        for fact in hints {
            let _ = writeln!(out, "- {}: {}", fact.name, fact.hint);
        }
    }
    out
}
