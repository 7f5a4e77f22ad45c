//! What all panels have in common: what they draw from, and what of them is selected.

use std::collections::BTreeSet;

use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::advise::diagnose::{Diagnosis, Place};
use crate::observe::logs::LineId;
use crate::observe::session::Session;

use super::theme::Theme;

/// What panels draw from. Nothing of it changes while a screen is drawn.
pub(super) struct Context<'a> {
    /// What was observed.
    pub session: &'a Session,
    /// What follows from it.
    pub diagnosis: &'a Diagnosis,
    /// Colours and marks.
    pub theme: &'a Theme,
    /// What the selected finding rests on; panels mark these.
    pub evidence: &'a Highlight,
    /// What `/` looks for, in lower case; empty for nothing. Rows without it are left out.
    pub search: &'a str,
}

/// What a finding rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Highlight {
    /// Devices, splits, copies, layers, counters.
    pub places: Vec<Place>,
    /// Lines of the log.
    pub lines: BTreeSet<LineId>,
}

/// What is selected in a panel; each panel has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PanelState {
    /// The selected row, among those that the search leaves.
    pub selected: usize,
    /// The first row that is shown; [`Panel::draw`] moves it so that the selected one is.
    pub offset: usize,
    /// Whether the selected row is opened: drilled down into.
    pub is_open: bool,
    /// The selected row of what is opened.
    pub inner: usize,
    /// The first row of it that is shown.
    pub inner_offset: usize,
    /// A panel's own choice between views (prompt or decode, newest or pinned), changed by its keys.
    pub mode: u8,
}

/// One panel.
pub(super) trait Panel {
    /// Its name on the tab: one word.
    fn title(&self) -> &'static str;

    /// Rows that can be selected; of what is opened when the state says so.
    fn rows(&self, cx: &Context<'_>, state: &PanelState) -> usize;

    /// Draws it into the area, which has no border around it.
    fn draw(&self, cx: &Context<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer);

    /// Keys of its own, beyond moving, opening and closing; true when it took the key.
    fn key(&self, _cx: &Context<'_>, _state: &mut PanelState, _key: KeyCode) -> bool {
        false
    }

    /// Its own keys and what they do, for the help and the footer.
    fn keys(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Whether Enter opens rows.
    fn opens(&self) -> bool {
        false
    }

    /// What `y` copies.
    fn copied(&self, _cx: &Context<'_>, _state: &PanelState) -> Option<String> {
        None
    }
}

impl PanelState {
    /// Keeps the selection within `rows`, and the selected row within `height` lines from the offset;
    /// returns the rows to show.
    pub(super) fn window(&mut self, rows: usize, height: usize) -> std::ops::Range<usize> {
        let (selected, offset) = if self.is_open {
            (&mut self.inner, &mut self.inner_offset)
        } else {
            (&mut self.selected, &mut self.offset)
        };
        *selected = (*selected).min(rows.saturating_sub(1));
        *offset = (*offset).min(*selected).min(rows.saturating_sub(height));
        if height > 0 && *selected >= *offset + height {
            *offset = *selected + 1 - height;
        }
        *offset..rows.min(*offset + height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selected_row_is_always_shown() {
        let mut state = PanelState { selected: 30, ..PanelState::default() };
        assert_eq!(state.window(100, 10), 21..31);
        state.selected = 25;
        assert_eq!(state.window(100, 10), 21..31);
        state.selected = 3;
        assert_eq!(state.window(100, 10), 3..13);
        assert_eq!(state.window(2, 10), 0..2);
        assert_eq!(state.selected, 1);
        assert_eq!(state.window(0, 10), 0..0);
        assert_eq!(state.window(5, 0), 0..0);
    }
}
