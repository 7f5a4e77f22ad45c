//! What a check is doing, line by line on stderr.

use crate::advise::measure::Progress;
use crate::app::cli::output;

/// One line for each thing that happens.
pub(super) fn show(quiet: bool, progress: &Progress<'_>) {
    if quiet {
        return;
    }
    let line = match progress {
        Progress::WarmUp { test, side } => format!("{test}: warming up the {}", side.name()),
        Progress::Sampled { test, side, round, sample } => {
            let values: Vec<String> = sample
                .metrics
                .iter()
                .map(|(m, v)| format!("{} {v:.2} {}", m.name(), m.unit()))
                .collect();
            format!("{test}: round {round}, {}: {}", side.name(), values.join(", "))
        }
        Progress::Retry { side, error, wait_s } => {
            format!("the {} failed: {error}; asking again in {wait_s:.0} s", side.name())
        }
        Progress::Round { round, open } => format!("round {round} done, {open} tests open"),
    };
    output::stderr(&format!("{line}\n"));
}
