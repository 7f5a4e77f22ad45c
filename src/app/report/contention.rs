//! What other load on the processors means for a run, in words.
//!
//! Threads meet at a barrier after every node, so one that is kept waiting keeps all others waiting:
//! other load costs more than its share.

use crate::observe::telemetry::host::ProcessorShares;

use super::document::ProcessorUse;

/// Shares of the processors' time above which other load is worth a warning.
const OTHERS_MAX: f64 = 0.1;
const STOLEN_MAX: f64 = 0.02;

impl From<ProcessorShares> for ProcessorUse {
    fn from(shares: ProcessorShares) -> Self {
        Self {
            others_share: shares.others,
            stolen_share: shares.stolen,
            voluntary_switches: shares.voluntary_switches,
            involuntary_switches: shares.involuntary_switches,
        }
    }
}

/// What a person should know about it, in words.
pub fn contention(used: &ProcessorUse) -> Vec<String> {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let mut warnings = Vec::new();
    if used.others_share > OTHERS_MAX {
        warnings.push(format!(
            "other processes used {} of the processors' time while the model ran, and threads were \
             interrupted {} times: every thread waits for the slowest one, so speeds are too low \
             and vary",
            percent(used.others_share),
            used.involuntary_switches
        ));
    }
    if used.stolen_share > STOLEN_MAX {
        warnings.push(format!(
            "the hypervisor gave {} of the processors' time to other machines while the model ran: \
             speeds are too low and vary",
            percent(used.stolen_share)
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_load_is_told_where_it_matters() {
        let used = ProcessorUse::from(ProcessorShares {
            others: 0.3,
            stolen: 0.05,
            voluntary_switches: 3,
            involuntary_switches: 40,
        });
        assert_eq!((used.voluntary_switches, used.involuntary_switches), (3, 40));
        let warnings = contention(&used);
        assert!(warnings[0].contains("30 %") && warnings[0].contains("40 times"), "{warnings:?}");
        assert!(warnings[1].contains("hypervisor gave 5 %"), "{warnings:?}");
        assert!(contention(&ProcessorUse::default()).is_empty());
    }
}
