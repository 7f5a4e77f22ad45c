//! Whole screens as text, to be looked at when they change.

use crate::app::tui::tests::script::{fold, whole};

use super::*;

#[test]
fn screens() {
    let stage = Stage::new(fold(&whole().events));
    for panel in PANELS {
        for (width, height) in [(60, 16), (120, 36)] {
            let name = format!("{}_{width}x{height}", panel.title().to_lowercase());
            insta::assert_snapshot!(name, stage.shown(panel, (width, height)));
        }
    }
    let mut open = PanelState { is_open: true, selected: 3, ..PanelState::default() };
    insta::assert_snapshot!("nodes_120x36", stage.draw(&Splits, &mut open, (120, 36)));
}
