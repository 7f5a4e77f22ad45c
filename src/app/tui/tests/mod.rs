//! Tests of the dashboard as a whole, and the session that all its tests draw.

mod keys;
mod replays;
mod screens;
pub(super) mod script;

use crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::feed::{FeedState, Taken};
use super::state::State;
use super::theme::{Palette, Theme};
use super::update::{Effect, update};
use super::view::view;
use crate::base::event::Event;

/// A state that has seen events.
fn state_of(events: &[Event], theme: Theme) -> State {
    let mut state = State::new("a test".to_string(), theme, FeedState::Live);
    state.take(Taken::Next, events);
    state.conclude();
    state
}

/// A state that has seen the whole script.
fn whole() -> State {
    state_of(&script::whole().events, Theme::new(Palette::Dark, true))
}

/// Presses a key.
fn press(state: &mut State, code: KeyCode) -> Option<Effect> {
    update(state, &Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

/// Types characters.
fn types(state: &mut State, text: &str) {
    for c in text.chars() {
        assert_eq!(press(state, KeyCode::Char(c)), None, "{c}");
    }
}

/// The screen as lines of text, without the blanks at their ends.
fn screen(state: &mut State, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view(state, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let cells = (0..width).filter_map(|x| buffer.cell((x, y)));
        cells.map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_string()
    };
    (0..height).map(line).collect()
}

/// The same as one text.
fn text(state: &mut State, width: u16, height: u16) -> String {
    screen(state, width, height).join("\n")
}
