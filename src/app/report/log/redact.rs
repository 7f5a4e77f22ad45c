//! Takes out of a text what names a person or a machine, before it is pasted in public.
//!
//! Users in paths, host names after a log's time, addresses, keys and prompts are replaced by words
//! that say what stood there; the same address gets the same number, so that a report stays
//! readable. It is made for the lines of engines' logs and is no promise for arbitrary text: what
//! has no mark (a name in a model's path below the home folder) stays.

use std::borrow::Cow;
use std::collections::BTreeMap;

use regex::{Captures, Regex};

use super::diff::LogDiff;
use crate::app::report::document::Finding;

use super::document::LogReport;

/// Addresses that name no machine.
const ADDRESSES_KEPT: [&str; 4] = ["127.0.0.1", "0.0.0.0", "::1", "255.255.255.255"];

/// Replaces what names a person or a machine; keeps count of addresses and ids between calls.
pub struct Redactor {
    fixed: Vec<(Regex, &'static str)>,
    counted: Vec<(Regex, &'static str)>,
    seen: BTreeMap<String, String>,
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}

impl Redactor {
    /// A redactor that has seen nothing yet.
    pub fn new() -> Self {
        // Each of these is a constant of this file; its tests fail when one does not compile.
        let compile =
            |(pattern, with): (&str, &'static str)| Some((Regex::new(pattern).ok()?, with));
        let fixed = [
            // Prompts, which debug logs hold.
            (
                r#"(?i)\b(prompt|content|system|messages|input_text)=("(?:[^"\\]|\\.)*"?|\[.*)"#,
                "${1}=<text>",
            ),
            (r#"(?i)("(?:prompt|content|system)"\s*:\s*)"(?:[^"\\]|\\.)*"?"#, "${1}\"<text>\""),
            // Keys and tokens.
            (
                r"(?i)\b(bearer\s+|(?:api[_-]?key|token|password|secret)[=: ]\s*)[^\s,;&\x22'\])}]{6,}",
                "${1}<key>",
            ),
            (r"\b(?:hf|sk|ghp|gho)[_-][A-Za-z0-9_-]{10,}", "<key>"),
            // Users in paths and in addresses.
            (r"(/home/|/Users/|/var/home/)[^/\s\x22':;,\])]+", "${1}<user>"),
            (
                r"(?i)([a-z]:(?:\\\\?|/)(?:users|documents and settings)(?:\\\\?|/))[^\\/\x22':;,\])]+",
                "${1}<user>",
            ),
            (r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b", "<mail>"),
            (r"(https?://)[^\s/@:]+:[^\s/@]+@", "${1}<user>@"),
            // Hosts: in front of a unit of the journal, and in web addresses.
            (r"^(\S+\s+\d+\s+\d\d:\d\d:\d\d\s+)\S+(\s+\S+\[\d+\]:)", "${1}<host>${2}"),
        ];
        let counted = [
            (r"\b(?:\d{1,3}\.){3}\d{1,3}\b", "address"),
            (
                r"\b(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F]{1,4}\b|\b[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4})*::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4})*)?",
                "address",
            ),
            (r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b", "address"),
            (r"\b(?:GPU|MIG)-[0-9a-fA-F]{8}-[0-9a-fA-F-]{20,}\b", "gpu"),
            (r"\b(?:[a-z0-9-]+\.)+(?:local|lan|internal|home|corp|intranet)\b", "host"),
        ];
        Self {
            fixed: fixed.into_iter().filter_map(compile).collect(),
            counted: counted.into_iter().filter_map(compile).collect(),
            seen: BTreeMap::new(),
        }
    }

    /// The text without what names a person or a machine.
    pub fn redact(&mut self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        for (pattern, with) in &self.fixed {
            text = Cow::Owned(pattern.replace_all(&text, *with).into_owned());
        }
        for (pattern, what) in &self.counted {
            let seen = &mut self.seen;
            let replaced = pattern.replace_all(&text, |found: &Captures| {
                let found = &found[0];
                // Version numbers of four parts are no addresses.
                let is_kept = ADDRESSES_KEPT.contains(&found) || is_no_address(found, what);
                if is_kept { found.to_string() } else { placeholder(seen, found, what) }
            });
            text = Cow::Owned(replaced.into_owned());
        }
        text.into_owned()
    }

    /// Every text of a comparison that comes from the logs.
    pub fn diff(&mut self, diff: &mut LogDiff) {
        for finding in diff.problems_new.iter_mut().chain(&mut diff.problems_gone) {
            finding.title = self.redact(&finding.title);
        }
        for change in &mut diff.changes {
            change.before = self.redact(&change.before);
            change.after = self.redact(&change.after);
        }
        for name in [&mut diff.before, &mut diff.after] {
            *name = self.redact(name);
        }
    }

    /// Every text of a report that comes from the log.
    pub fn report(&mut self, report: &mut LogReport) {
        self.findings(&mut report.findings);
        let facts = &mut report.facts;
        for value in facts.settings.values_mut().chain(facts.backends.values_mut()) {
            *value = self.redact(value);
        }
        for model in facts.loads.iter_mut().filter_map(|l| l.model.as_mut()) {
            *model = self.redact(model);
        }
    }

    /// Every text of findings that comes from a log or a machine.
    pub fn findings(&mut self, findings: &mut [Finding]) {
        for finding in findings {
            for text in [&mut finding.title, &mut finding.explanation] {
                *text = self.redact(text);
            }
            for evidence in &mut finding.evidence {
                evidence.text = self.redact(&evidence.text);
            }
            for fix in &mut finding.fixes {
                for text in [&mut fix.value, &mut fix.reason, &mut fix.expected] {
                    *text = self.redact(text);
                }
                for form in &mut fix.forms {
                    form.text = self.redact(&form.text);
                }
            }
        }
    }
}

fn is_no_address(text: &str, what: &str) -> bool {
    what == "address"
        && text.contains('.')
        && text.split('.').any(|part| part.parse::<u16>().map_or(true, |n| n > 255))
}

fn placeholder(seen: &mut BTreeMap<String, String>, found: &str, what: &str) -> String {
    let prefix = format!("<{what}-");
    let count = seen.values().filter(|v| v.starts_with(&prefix)).count();
    seen.entry(found.to_string()).or_insert_with(|| format!("{prefix}{}>", count + 1)).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        Redactor::new().redact(text)
    }

    #[test]
    fn every_pattern_compiles() {
        let redactor = Redactor::new();
        assert_eq!((redactor.fixed.len(), redactor.counted.len()), (9, 5));
    }

    #[test]
    fn people_and_machines_are_taken_out() {
        for (text, expected) in [
            ("model=/home/anna/models/x.gguf", "model=/home/<user>/models/x.gguf"),
            ("path=C:\\Users\\Anna Berg\\.ollama", "path=C:\\Users\\<user>\\.ollama"),
            ("OLLAMA_MODELS:/Users/bo/.ollama", "OLLAMA_MODELS:/Users/<user>/.ollama"),
            (
                "from 10.1.2.3 to 10.1.2.3 and 10.9.9.9",
                "from <address-1> to <address-1> and <address-2>",
            ),
            ("on fe80::1ff:fe23:4567:890a ok", "on <address-1> ok"),
            ("id=GPU-1a2b3c4d-0000-1111-2222-333344445555 lib", "id=<gpu-1> lib"),
            ("Authorization: Bearer abcdef123456", "Authorization: Bearer <key>"),
            (
                r#"msg="completion request" prompt="tell me \"x\" now" id=3"#,
                r#"msg="completion request" prompt=<text> id=3"#,
            ),
            ("Mar 10 08:01:02 annas-pc ollama[2001]: x", "Mar 10 08:01:02 <host> ollama[2001]: x"),
            ("http://node7.cluster.local:11434", "http://<host-1>:11434"),
            ("mail anna@example.org", "mail <mail>"),
        ] {
            assert_eq!(redacted(text), expected);
        }
    }

    #[test]
    fn what_names_nobody_stays() {
        for text in [
            "Listening on 127.0.0.1:11434 (version 0.6.0)",
            "OLLAMA_HOST:http://0.0.0.0:11434",
            "offloaded 44/81 layers to GPU",
            "driver 535.1234.06.1",
            "time=2025-02-15T16:25:02.007Z level=INFO source=server.go:130 msg=offload",
            "llama_context: n_ctx = 8192, prompt eval time = 1200.0 ms / 60 tokens",
            "msg=\"truncating input prompt\" limit=2048 prompt=5000 keep=5 new=2048",
            "CUDA0 model buffer size = 9211.25 MiB",
        ] {
            assert_eq!(redacted(text), text);
        }
    }
}
