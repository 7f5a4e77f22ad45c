//! Panels drawn from scripted sessions: what must be legible, in figures that follow from the script.

mod any_size;
mod foreign;
mod legible;
mod pictures;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::advise::diagnose::{Diagnosis, Place};
use crate::app::tui::panel::{Context, Highlight, Panel, PanelState};
use crate::app::tui::theme::{Palette, Theme};
use crate::observe::session::Session;

use super::batch::Batch;
use super::devices::Devices;
use super::layers::Layers;
use super::splits::Splits;
use super::timeline::Timeline;
use super::transfers::Transfers;

pub(super) const PANELS: [&dyn Panel; 6] =
    [&Layers, &Splits, &Timeline, &Batch, &Transfers, &Devices];

/// What a panel is drawn with.
pub(super) struct Stage {
    pub session: Session,
    pub evidence: Highlight,
    pub search: String,
    pub theme: Theme,
}

impl Stage {
    pub(super) fn new(session: Session) -> Self {
        let (evidence, search) = (Highlight::default(), String::new());
        Self { session, evidence, search, theme: Theme::new(Palette::None, true) }
    }

    pub(super) fn with<R>(&self, use_it: impl FnOnce(&Context<'_>) -> R) -> R {
        use_it(&Context {
            session: &self.session,
            diagnosis: &Diagnosis::default(),
            theme: &self.theme,
            evidence: &self.evidence,
            search: &self.search,
        })
    }

    /// A panel as text, without what is blank at the ends of lines.
    pub(super) fn draw(
        &self,
        panel: &dyn Panel,
        state: &mut PanelState,
        (width, height): (u16, u16),
    ) -> String {
        let area = Rect::new(0, 0, width, height);
        let mut buf = Buffer::empty(area);
        self.with(|cx| panel.draw(cx, state, area, &mut buf));
        let line = |y| {
            let cells = (0..width).map(|x| buf[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_string()
        };
        (0..height).map(line).collect::<Vec<_>>().join("\n")
    }

    /// The same from a state that nobody has touched.
    pub(super) fn shown(&self, panel: &dyn Panel, size: (u16, u16)) -> String {
        self.draw(panel, &mut PanelState::default(), size)
    }

    pub(super) fn on(mut self, place: Place) -> Self {
        self.evidence.places.push(place);
        self
    }
}

/// That a text has all of these; the text is told where it does not.
#[track_caller]
pub(super) fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
}
