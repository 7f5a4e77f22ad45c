//! One split opened: its nodes, why each is where it is, and what was copied for them.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::app::tui::panel::{Context, PanelState};
use crate::app::tui::theme::Role;
use crate::base::event::NodeFact;
use crate::base::units::Bytes;

use super::kit::{Pen, matches, percent, raw, share, styled};
use super::splits::{Shown, about};
use super::table::{Column, Row, left, rest, right, table, wide};

const COLUMNS: [Column; 9] = [
    right("#", 3, 4),
    wide("node", 18, 28, 0),
    wide("op", 13, 16, 0),
    left("tag", 6, 1),
    left("shape", 18, 3),
    right("weights", 10, 5),
    right("time", 9, 2),
    right("share", 7, 6),
    rest("placed here because", 26, 0),
];

/// The nodes that the search leaves.
fn found<'a>(cx: &Context<'_>, shown: &Shown<'a>, split: usize) -> Vec<(usize, &'a NodeFact)> {
    let nodes = shown.plan.splits[split].nodes.iter().enumerate();
    nodes.filter(|(_, n)| matches(cx, &[&n.name, &n.op, &n.tag, &n.cause])).collect()
}

/// How many there are.
pub(super) fn rows(cx: &Context<'_>, shown: &Shown<'_>, state: &PanelState) -> usize {
    shown.selected(cx, state).map_or(0, |split| found(cx, shown, split).len())
}

/// Draws the opened split.
pub(super) fn draw(
    cx: &Context<'_>,
    shown: &Shown<'_>,
    state: &mut PanelState,
    area: Rect,
    buf: &mut Buffer,
) {
    let Some(split) = shown.selected(cx, state) else {
        Pen::new(cx, area, buf).words(Role::Dim, "No split has what is looked for.");
        return;
    };
    let nodes = found(cx, shown, split);
    let Some(sums) = shown.sums.splits.get(split) else { return };
    let is_timed = !sums.nodes_ns.is_empty();
    // The table gets at least two thirds.
    let head = Rect { height: area.height.min((area.height / 3).max(2)), ..area };
    let mut pen = Pen::new(cx, head, buf);
    about(cx, shown, split, &mut pen);
    if !is_timed {
        let text = "nodes were not timed one by one (--per-node does, and slows them down)";
        pen.line(styled(cx, Role::Dim, text));
    }
    let taken = head.height - pen.rest().height;
    let below = Rect { y: area.y + taken, height: area.height - taken, ..area };
    let row = |at: usize| {
        let (index, node) = nodes[at];
        let ns = sums.nodes_ns.get(index).copied();
        let weights = match node.weight_bytes {
            0 => styled(cx, Role::Dim, "-"),
            bytes => raw(Bytes(bytes).to_string()),
        };
        let dim = || styled(cx, Role::Dim, "-");
        Row::new(vec![
            styled(cx, Role::Dim, index.to_string()),
            raw(node.name.clone()),
            raw(node.op.clone()),
            raw(node.tag.clone()),
            styled(cx, Role::Dim, shape(node.ne)),
            weights,
            ns.map_or_else(dim, |ns| styled(cx, Role::Compute, shown.time(ns))),
            ns.map_or_else(dim, |ns| raw(percent(share(ns, sums.compute_ns)))),
            raw(node.cause.clone()),
        ])
    };
    if nodes.is_empty() {
        Pen::new(cx, below, buf).words(Role::Dim, "No node has what is looked for.");
        return;
    }
    table(cx, state, &COLUMNS, (nodes.len(), row), below, buf);
}

/// Extents, as far as they say something: `896 x 1`, `64 x 14 x 256`.
fn shape(ne: [usize; 4]) -> String {
    let last = ne.iter().rposition(|n| *n != 1).unwrap_or(0).max(1);
    let extents: Vec<String> = ne[..=last].iter().map(ToString::to_string).collect();
    extents.join(" x ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_leave_out_what_says_nothing() {
        assert_eq!(shape([896, 1, 1, 1]), "896 x 1");
        assert_eq!(shape([64, 14, 1, 2]), "64 x 14 x 1 x 2");
    }
}
