//! What a rule is, and what it may answer.

use std::fmt::Write;

use super::facts::Facts;
use super::finding::Finding;

/// One rule: a fault, or a look-alike, that can be recognised from facts.
pub struct Rule {
    /// Its id, a label of the taxonomy with hyphens. Never reused for another meaning.
    pub id: &'static str,
    /// One line that names the fault, never the cure.
    pub title: &'static str,
    /// What people read.
    pub doc: Doc,
    /// Rules whose finding, when there is one, makes this one's a consequence.
    pub follows_from: &'static [&'static str],
    /// The rule itself.
    pub check: fn(&Facts) -> Verdict,
}

/// The documentation of a rule: `gpuwhy explain` prints it and docs/rules is made from it.
/// Markdown, in plain words.
pub struct Doc {
    /// What it detects.
    pub detects: &'static str,
    /// Why that costs time or fails.
    pub costs: &'static str,
    /// What it concludes from, and what distinguishes it from its look-alikes.
    pub evidence: &'static str,
    /// What to do, by engine and version.
    pub fix: &'static str,
    /// A few lines of a log that show it.
    pub example: &'static str,
}

impl Rule {
    /// The documentation as a page of Markdown.
    pub fn markdown(&self) -> String {
        let Doc { detects, costs, evidence, fix, example } = &self.doc;
        let mut out = format!("# {}\n\n{}\n", self.id, self.title);
        let parts = [
            ("What it detects", detects),
            ("Why it costs", costs),
            ("Evidence", evidence),
            ("Fix", fix),
        ];
        for (title, text) in parts {
            let _ = write!(out, "\n## {title}\n\n{}\n", text.trim());
        }
        let _ = write!(out, "\n## Example\n\n```text\n{}\n```\n", example.trim());
        out
    }
}

/// What a rule answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is so.
    Found(Box<Finding>),
    /// The facts say that it is not so, or that the question does not arise.
    Clear,
    /// The facts do not tell.
    NeedMore(NeedMore),
}

impl Verdict {
    /// The facts do not tell; what is missing, and the command or setting that would tell.
    pub fn need(missing: impl Into<String>, settle_by: impl Into<String>) -> Self {
        Self::NeedMore(NeedMore { missing: missing.into(), settle_by: settle_by.into() })
    }

    /// The finding, if it is one.
    pub fn finding(&self) -> Option<&Finding> {
        match self {
            Self::Found(finding) => Some(finding),
            Self::Clear | Self::NeedMore(_) => None,
        }
    }
}

impl From<Finding> for Verdict {
    fn from(finding: Finding) -> Self {
        Self::Found(Box::new(finding))
    }
}

impl From<Option<Finding>> for Verdict {
    fn from(finding: Option<Finding>) -> Self {
        finding.map_or(Self::Clear, Self::from)
    }
}

impl Rule {
    /// Its page in docs/rules.
    pub fn page(&self) -> String {
        let doc = &self.doc;
        let fenced = format!("```text\n{}\n```", doc.example.trim());
        let parts = [
            ("What it detects", doc.detects.trim()),
            ("Why it costs", doc.costs.trim()),
            ("Evidence", doc.evidence.trim()),
            ("Fix", doc.fix.trim()),
            ("Example", fenced.as_str()),
        ];
        let mut page = format!("# {}\n\n{}.\n", self.id, capital(self.title));
        for (heading, text) in parts {
            page.extend(["\n## ", heading, "\n\n", text, "\n"]);
        }
        if !self.follows_from.is_empty() {
            let causes: Vec<String> =
                self.follows_from.iter().map(|c| format!("[{c}]({c}.md)")).collect();
            let causes = causes.join(", ");
            page.extend(["\nA consequence, not a cause, next to ", causes.as_str(), ".\n"]);
        }
        page
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// What would settle a question that the facts leave open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedMore {
    /// What is not known.
    pub missing: String,
    /// The exact command or setting that would tell.
    pub settle_by: String,
}
