//! `gpuwhy explain`: what a rule detects, why that costs, from what it concludes, and what to do.

use clap::Args;

use crate::advise::diagnose::{RULES, Rule};
use crate::app::report::Table;

use super::failure::Failure;
use super::output;

/// Arguments of `gpuwhy explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The rule's id, as a finding names it; without one, all rules are listed
    rule: Option<String>,
}

/// Runs the command.
pub(super) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let Some(wanted) = &args.rule else {
        let mut table = Table::new(&["rule", "what it finds"]);
        for rule in RULES {
            table.row([rule.id.to_string(), rule.title.to_string()]);
        }
        let style = output::style(&std::io::stdout());
        return output::stdout(table.text("", style).as_bytes());
    };
    // The taxonomy writes labels with underscores; both spellings mean the same rule.
    let id = wanted.trim().to_ascii_lowercase().replace('_', "-");
    let rule = RULES.iter().find(|r| r.id == id).ok_or_else(|| unknown(&id))?;
    output::stdout(rule.markdown().as_bytes())
}

fn unknown(id: &str) -> Failure {
    let close = RULES.iter().map(|r| (strsim::jaro_winkler(id, r.id), *r));
    let close = close.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|c| c.0 > 0.75);
    let failure = Failure::new(format!("there is no rule '{id}'"));
    match close {
        Some((_, Rule { id, .. })) => failure.hint(format!("did you mean {id}?")),
        None => failure.hint("gpuwhy explain lists all rules"),
    }
}
