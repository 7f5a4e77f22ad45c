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

impl From<Finding> for Verdict {
    fn from(finding: Finding) -> Self {
        Self::Found(Box::new(finding))
    }
}

/// What would settle a question that the facts leave open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedMore {
    /// What is not known.
    pub missing: String,
    /// The exact command or setting that would tell.
    pub settle_by: String,
}
