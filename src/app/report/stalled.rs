//! The sentences that tell in which part of the time a device stalled, and on what.

use super::document::{Phase, StallCause, StallKind, StallReport};
use super::headline::label;
use super::sections::percent;

/// Causes that are shorter than this share of the time stand in JSON only.
const SHARE_SHOWN: f64 = 0.001;

/// The device whose idle time is no stall: it drives the others.
const CPU: &str = "CPU";

/// Causes of one kind and one device; of the tensors the one that took longest is named.
struct Group<'a> {
    longest: &'a StallCause,
    count: usize,
    share: f64,
}

/// One sentence for each device and phase.
pub(super) fn stalled(stalls: &[StallReport]) -> impl Iterator<Item = String> {
    stalls.iter().filter(|s| s.device != CPU).map(sentence)
}

fn sentence(stall: &StallReport) -> String {
    let what = match stall.phase {
        Phase::Decode => "decoding",
        Phase::Prompt => "prompts",
    };
    let causes: Vec<String> =
        groups(&stall.on).iter().filter(|g| g.share >= SHARE_SHOWN).map(told).collect();
    let causes = if causes.is_empty() { String::new() } else { format!(": {}", causes.join(", ")) };
    format!(
        "{} stalled {} of the time of {what}{causes}",
        label(&stall.device, stall.is_virtual),
        percent(stall.stall_share, 1.0),
    )
}

/// The groups, the longest first; causes come sorted.
fn groups(causes: &[StallCause]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for cause in causes {
        let is_alike =
            |g: &&mut Group<'_>| (g.longest.on, &g.longest.device) == (cause.on, &cause.device);
        match groups.iter_mut().find(is_alike) {
            Some(group) => {
                group.count += 1;
                group.share += cause.share;
            }
            None => groups.push(Group { longest: cause, count: 1, share: cause.share }),
        }
    }
    groups.sort_by(|a, b| b.share.total_cmp(&a.share));
    groups
}

fn told(group: &Group<'_>) -> String {
    let device = group.longest.device.as_deref().unwrap_or("another device");
    let mut tensor = group.longest.tensor.clone().unwrap_or_default();
    if group.count > 1 {
        tensor = format!("{tensor} and {} more", group.count - 1);
    }
    let what = match group.longest.on {
        StallKind::Copy => format!("on the copy of {tensor} from {device}"),
        StallKind::Device => format!("on {device}"),
        StallKind::Wait => "on synchronisation".to_string(),
        StallKind::Read => format!("while the host reads {tensor} from {device}"),
        StallKind::Host => "on the host".to_string(),
    };
    format!("{what} {}", percent(group.share, 1.0))
}
