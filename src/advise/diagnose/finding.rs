//! What a rule concludes, with its evidence and its fixes.

use crate::base::counter::{Counter, Subject};
use crate::base::event::{DeviceIndex, Phase};
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
    /// What of the session it is about, where it was watched.
    pub place: Option<Place>,
}

/// What of a watched session a piece of evidence is about, so that it can be shown there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A device that takes part.
    Device(DeviceIndex),
    /// A split of the cut that took most of the phase's time.
    Split {
        /// Of which phase.
        phase: Phase,
        /// Its place in the order of execution.
        index: u16,
    },
    /// A layer, as the setup names it: `12`, `output`.
    Layer(String),
    /// A counter of a subject.
    Counter(Subject, Counter),
    /// The watched server.
    Server,
}

impl Evidence {
    /// A line that speaks for itself.
    pub fn line(line: LineId) -> Self {
        Self { line: Some(line), text: String::new(), place: None }
    }

    /// What a line means.
    pub fn said(line: LineId, text: impl Into<String>) -> Self {
        Self { line: Some(line), text: text.into(), place: None }
    }

    /// A figure that no single line tells.
    pub fn figure(text: impl Into<String>) -> Self {
        Self { line: None, text: text.into(), place: None }
    }

    /// What was seen at a place of a watched session.
    pub fn at(place: Place, text: impl Into<String>) -> Self {
        Self { line: None, text: text.into(), place: Some(place) }
    }
}

impl Finding {
    /// A problem. Its severity follows from what it explains: a failure is an error.
    pub fn problem(
        rule: &'static str,
        impact: Impact,
        confidence: f64,
        title: impl Into<String>,
    ) -> Self {
        let severity = match impact {
            Impact::Failure => Severity::Error,
            Impact::NoGpu | Impact::Slower(_) | Impact::WrongInput => Severity::Warning,
            Impact::Risk | Impact::None => Severity::Info,
        };
        Self {
            rule,
            kind: Kind::Problem,
            severity,
            confidence,
            impact,
            title: title.into(),
            explanation: String::new(),
            evidence: Vec::new(),
            fixes: Vec::new(),
        }
    }

    /// Something that only looks like a problem.
    pub fn benign(rule: &'static str, confidence: f64, title: impl Into<String>) -> Self {
        let problem = Self::problem(rule, Impact::None, confidence, title);
        Self { kind: Kind::Benign, severity: Severity::Info, ..problem }
    }

    /// What happens and why.
    #[must_use]
    pub fn because(mut self, explanation: impl Into<String>) -> Self {
        self.explanation = explanation.into();
        self
    }

    /// One more piece of evidence; the same line is not shown twice.
    #[must_use]
    pub fn seen(mut self, evidence: Evidence) -> Self {
        if evidence.line.is_none() || self.evidence.iter().all(|e| e.line != evidence.line) {
            self.evidence.push(evidence);
        }
        self
    }

    /// Evidence that there may not be.
    #[must_use]
    pub fn seen_if(self, evidence: Option<Evidence>) -> Self {
        match evidence {
            Some(evidence) => self.seen(evidence),
            None => self,
        }
    }

    /// One more change that would help, after those already given.
    #[must_use]
    pub fn fix(mut self, fix: Fix) -> Self {
        self.fixes.push(fix);
        self
    }

    /// Changes that would help.
    #[must_use]
    pub fn fix_all(mut self, fixes: impl IntoIterator<Item = Fix>) -> Self {
        self.fixes.extend(fixes);
        self
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

impl Fix {
    /// A change somewhere; the reason and what should be seen follow by [`Fix::why`].
    pub fn new(target: FixTarget, name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            target,
            name: name.into(),
            value: value.into(),
            reason: String::new(),
            expected: String::new(),
        }
    }

    /// A variable of the server's environment.
    pub fn env(name: &str, value: impl Into<String>) -> Self {
        Self::new(FixTarget::Env, name, value)
    }

    /// An option of a request.
    pub fn option(name: &str, value: impl Into<String>) -> Self {
        Self::new(FixTarget::Option, name, value)
    }

    /// A `PARAMETER` line of a Modelfile.
    pub fn modelfile(name: &str, value: impl Into<String>) -> Self {
        Self::new(FixTarget::Modelfile, name, value)
    }

    /// A flag of the command line; a switch has no value.
    pub fn flag(name: &str, value: impl Into<String>) -> Self {
        Self::new(FixTarget::Flag, name, value)
    }

    /// A flag that is to go from the command line.
    pub fn leave_out(flag: &str) -> Self {
        Self::new(FixTarget::System, "leave out", flag)
    }

    /// A command on the machine, or what to do there in words.
    pub fn system(name: &str, command: impl Into<String>) -> Self {
        Self::new(FixTarget::System, name, command)
    }

    /// Why it helps, and what should be seen afterwards.
    #[must_use]
    pub fn why(mut self, reason: impl Into<String>, expected: impl Into<String>) -> Self {
        self.reason = reason.into();
        self.expected = expected.into();
        self
    }
}
