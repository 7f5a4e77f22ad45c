//! What a rule concludes, with its evidence and its fixes.

use crate::observe::logs::LineId;

/// What a rule concludes.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The rule's id.
    pub rule: &'static str,
    /// Whether it is a problem or only looks like one.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// From 0 to 1: how sure the facts make it.
    pub confidence: f64,
    /// What it explains; ranks the findings.
    pub impact: Impact,
    /// One line, with the figures of this case.
    pub title: String,
    /// What happens and why, with the figures of this case.
    pub explanation: String,
    /// What it is concluded from.
    pub evidence: Vec<Evidence>,
    /// What would change it, the best first.
    pub fixes: Vec<Fix>,
}

/// Whether a finding is a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is.
    Problem,
    /// It only looks like one.
    Benign,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// It works badly.
    Warning,
    /// It does not work.
    Error,
}

/// How much a finding explains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Impact {
    /// A load or a request fails.
    Failure,
    /// The GPU is not used at all, though there is one.
    NoGpu,
    /// Work goes slower: the share of the time that it explains, from 0 to 1, as far as the facts
    /// let it be estimated.
    Slower(f64),
    /// An answer is made from less than what was sent.
    WrongInput,
    /// Nothing yet, but it may.
    Risk,
    /// Nothing.
    None,
}

/// What a finding is concluded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The line of the log, where it is one.
    pub line: Option<LineId>,
    /// The figure or the fact in words; the line's own text where this is empty.
    pub text: String,
}

impl Evidence {
    /// A line that speaks for itself.
    pub fn line(line: LineId) -> Self {
        Self { line: Some(line), text: String::new() }
    }
}

/// Where a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixTarget {
    /// An environment variable of the server.
    Env,
    /// An option of a request (`options` of Ollama's interface).
    Option,
    /// A line of a Modelfile.
    Modelfile,
    /// A flag of the command line.
    Flag,
    /// Something on the machine; the value is the command, or what to do in words.
    System,
}

/// A concrete change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// Where.
    pub target: FixTarget,
    /// What to set: `OLLAMA_NUM_PARALLEL`, `num_ctx`, `-ngl`; for `System` a word for what it does.
    pub name: String,
    /// To what. Empty for an environment variable or option that is to be removed.
    pub value: String,
    /// Why that helps.
    pub reason: String,
    /// What should be seen afterwards.
    pub expected: String,
}
