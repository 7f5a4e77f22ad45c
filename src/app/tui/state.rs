//! What is shown, and how events change it. Keys and clicks are `update`'s business, drawing is `view`'s.

use ratatui::layout::Rect;

use crate::advise::diagnose::{Diagnosis, Facts, diagnose};
use crate::base::event::Event;
use crate::observe::session::Session;

use super::feed::{FeedState, Taken};
use super::panel::{Context, Highlight, PanelState};
use super::panels::{FINDINGS, PANELS, findings};
use super::theme::Theme;

/// What is shown.
pub(super) struct State {
    /// What is watched, in words.
    pub title: String,
    /// Colours and characters.
    pub theme: Theme,
    /// What was observed.
    session: Session,
    /// What is shown instead while a live session is paused.
    frozen: Option<Box<Session>>,
    /// What follows from what is shown.
    diagnosis: Diagnosis,
    /// Whether events came that `diagnosis` does not know of.
    is_stale: bool,
    /// The rule of the selected finding, so that it stays selected when others come before it.
    rule: Option<&'static str>,
    /// What the selected finding rests on.
    pub evidence: Highlight,
    /// Where events come from.
    pub feed: FeedState,
    /// Events that were lost.
    pub lost: u64,
    /// Share of one processor that the dashboard itself takes; `None` before it was measured.
    pub cost: Option<f64>,
    /// The selected panel, an index into [`PANELS`].
    pub selected: usize,
    /// What is selected in each.
    pub panels: [PanelState; PANELS.len()],
    /// What each is searched for.
    pub searches: [String; PANELS.len()],
    /// Whether keys go into the search.
    pub is_typing: bool,
    /// What lies over everything else.
    pub overlay: Option<Overlay>,
    /// What was done last, in words, until the next key.
    pub notice: Option<String>,
    /// Where things were drawn.
    pub drawn: Drawn,
    /// Counts what changes the screen.
    changes: u64,
}

/// What lies over everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Overlay {
    /// Keys and marks; the first line that is shown.
    Help(usize),
    /// A text that was copied.
    Copied(String),
}

/// Where things were drawn, for clicks and for pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Drawn {
    /// The tabs.
    pub tabs: Vec<Rect>,
    /// The panels, by index: where they are and in which line which row stands.
    pub rows: Vec<DrawnPanel>,
    /// Rows that a page has.
    pub page: usize,
}

/// A panel by its index, where it is, and in which line which row of it stands.
pub(super) type DrawnPanel = (usize, Rect, Option<(u16, usize)>);

impl State {
    /// Nothing yet.
    pub(super) fn new(title: String, theme: Theme, feed: FeedState) -> Self {
        Self {
            title,
            theme,
            session: Session::new(),
            frozen: None,
            diagnosis: Diagnosis::default(),
            is_stale: false,
            rule: None,
            evidence: Highlight::default(),
            feed,
            lost: 0,
            cost: None,
            selected: 0,
            panels: Default::default(),
            searches: Default::default(),
            is_typing: false,
            overlay: None,
            notice: None,
            drawn: Drawn::default(),
            changes: 1,
        }
    }

    /// What is shown: the session as it is, or as it was when it was paused.
    pub(super) fn shown(&self) -> &Session {
        self.frozen.as_deref().unwrap_or(&self.session)
    }

    /// The session as it is, whatever is shown.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// What follows from what is shown.
    pub(super) fn diagnosis(&self) -> &Diagnosis {
        &self.diagnosis
    }

    /// Whether a live session is paused.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Pauses a live session, or shows it as it is.
    pub(super) fn toggle_frozen(&mut self) {
        self.frozen = match self.frozen.take() {
            Some(_) => None,
            None => Some(Box::new(self.session.clone())),
        };
        self.is_stale = true;
        self.conclude();
    }

    /// Takes events as a feed gave them.
    pub(super) fn take(&mut self, taken: Taken, events: &[Event]) {
        if taken == Taken::Anew {
            self.session = Session::new();
            self.frozen = None;
            self.is_stale = true;
            self.changed();
        }
        if events.is_empty() {
            return;
        }
        for event in events {
            self.session.take(event);
        }
        self.is_stale = true;
        if self.frozen.is_none() {
            self.changed();
        }
    }

    /// Takes what a feed says of itself.
    pub(super) fn fed(&mut self, feed: FeedState, lost: u64) {
        if (&feed, lost) != (&self.feed, self.lost) {
            (self.feed, self.lost) = (feed, lost);
            self.changed();
        }
    }

    /// Takes what the dashboard itself costs; the screen changes only when its figure does.
    pub(super) fn measured(&mut self, share: f64) {
        let shown = (share * 1000.0).round() / 1000.0;
        if self.cost != Some(shown) {
            self.cost = Some(shown);
            self.changed();
        }
    }

    /// Draws conclusions from what came since they were drawn last.
    pub(super) fn conclude(&mut self) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        let session = self.frozen.as_deref_mut().unwrap_or(&mut self.session);
        session.log.settle();
        self.diagnosis = diagnose(&Facts::of_session(session));
        self.keep_finding();
        self.changed();
    }

    /// Keeps the same finding selected when findings come and go; the first one until somebody chose.
    fn keep_finding(&mut self) {
        let list = &mut self.panels[FINDINGS];
        let search = &self.searches[FINDINGS];
        match self.rule.and_then(|rule| findings::position(&self.diagnosis, search, rule)) {
            Some(row) => list.selected = row,
            None if list.is_open => *list = PanelState::default(),
            None => {}
        }
        self.mark();
    }

    /// After another finding may have been selected.
    pub(super) fn chosen(&mut self) {
        let search = &self.searches[FINDINGS];
        let selected = self.panels[FINDINGS].selected;
        self.rule = (selected > 0 || self.panels[FINDINGS].is_open)
            .then(|| findings::rule(&self.diagnosis, search, selected))
            .flatten();
        self.mark();
    }

    fn mark(&mut self) {
        let search = &self.searches[FINDINGS];
        let selected = self.panels[FINDINGS].selected;
        self.evidence = findings::highlight(&self.diagnosis, search, selected);
    }

    /// What a panel draws from.
    pub(super) fn context(&self, panel: usize) -> Context<'_> {
        Context {
            session: self.shown(),
            diagnosis: &self.diagnosis,
            theme: &self.theme,
            evidence: &self.evidence,
            search: &self.searches[panel],
        }
    }

    /// Calls `body` with a panel, what it draws from and its own state.
    pub(super) fn with_panel<T>(
        &mut self,
        panel: usize,
        body: impl FnOnce(&dyn super::panel::Panel, &Context<'_>, &mut PanelState) -> T,
    ) -> T {
        let mut own = std::mem::take(&mut self.panels[panel]);
        let result = body(PANELS[panel], &self.context(panel), &mut own);
        self.panels[panel] = own;
        result
    }

    /// Says that the screen must be drawn again.
    pub(super) fn changed(&mut self) {
        self.changes += 1;
    }

    /// Differs from what it was when the screen must be drawn again.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }
}
