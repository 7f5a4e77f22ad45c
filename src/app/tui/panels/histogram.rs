//! Times in buckets that grow as 1, 2, 5, 10, so that milliseconds and minutes fit on one screen.

use ratatui::text::Line;

use crate::app::tui::panel::Context;
use crate::app::tui::theme::Role;
use crate::base::units::Nanos;

use super::kit::{raw, styled};

/// One bucket: its upper end, which belongs to it, and how many times are in it.
pub(super) type Bucket = (u64, usize);

/// The buckets from the shortest to the longest time, without a gap.
pub(super) fn buckets(times_ns: impl Iterator<Item = u64>) -> Vec<Bucket> {
    let mut counted = std::collections::BTreeMap::new();
    for ns in times_ns {
        *counted.entry(ends(ns)).or_insert(0_usize) += 1;
    }
    let (Some(&first), Some(&last)) = (counted.keys().next(), counted.keys().next_back()) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    let mut end = first;
    loop {
        all.push((end, counted.get(&end).copied().unwrap_or(0)));
        if end >= last {
            return all;
        }
        end = ends(end.saturating_add(1));
    }
}

/// The end of a time's bucket.
fn ends(ns: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            let end = power.saturating_mul(factor);
            if ns <= end {
                return end;
            }
        }
        power = power.saturating_mul(10);
    }
}

/// A line for each bucket; where there are more than `lines`, those with the longest times at the end
/// of the list are joined to the last line, because they are the fewest.
pub(super) fn lines(
    cx: &Context<'_>,
    buckets: &[Bucket],
    width: usize,
    lines: usize,
) -> Vec<Line<'static>> {
    let mut shown: Vec<(String, usize)> = buckets
        .iter()
        .map(|(end, count)| (format!("≤ {:>9}", Nanos(*end as f64).to_string()), *count))
        .collect();
    if shown.len() > lines && lines > 0 {
        let rest: usize = shown[lines - 1..].iter().map(|b| b.1).sum();
        let longest = buckets.last().map_or(0, |b| b.0);
        shown.truncate(lines - 1);
        shown.push((format!("≤ {:>9}", Nanos(longest as f64).to_string()), rest));
    }
    let most = shown.iter().map(|b| b.1).max().unwrap_or(0).max(1);
    let cells = width.saturating_sub(20).max(1);
    shown
        .into_iter()
        .take(lines)
        .map(|(label, count)| {
            Line::from(vec![
                styled(cx, Role::Dim, label),
                raw(" "),
                styled(cx, Role::Compute, cx.theme.bar(count as f64 / most as f64, cells)),
                raw(format!(" {count}")),
            ])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_have_no_gap_and_hold_every_time() {
        let times = [0, 1, 2, 3, 49, 50, 51, 1000];
        let buckets = buckets(times.into_iter());
        let expected = [
            (1, 2), // 0 and 1
            (2, 1),
            (5, 1),
            (10, 0),
            (20, 0),
            (50, 2),
            (100, 1),
            (200, 0),
            (500, 0),
            (1000, 1),
        ];
        assert_eq!(buckets, expected);
        assert_eq!(super::buckets([u64::MAX].into_iter()), [(u64::MAX, 1)]);
        assert!(super::buckets(std::iter::empty()).is_empty());
    }
}
