//! How keys and clicks change what is shown. What cannot be done with the state alone comes back as an
//! [`Effect`].

use crossterm::event::{
    Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent,
    MouseEventKind,
};
use ratatui::layout::Position;

use super::feed::{FeedState, Play};
use super::panels::{FINDINGS, PANELS};
use super::state::{Overlay, State};

/// What somebody else has to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// End the dashboard.
    Quit,
    /// Play a recording differently.
    Play(Play),
    /// Write down what was observed.
    Export,
    /// Put a text onto the clipboard.
    Copy(String),
    /// Stop the program as Ctrl-Z does.
    Suspend,
}

/// How far `<` and `>` go.
const SEEK_NS: i64 = 5_000_000_000;

/// Lines that a turn of the wheel moves.
const WHEEL_ROWS: usize = 3;

/// Keys that work in every panel, for the help.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("1-8 Tab Shift-Tab ← →", "another panel"),
    ("↑ ↓ k j PgUp PgDn Home End g G", "move"),
    ("Enter", "open what is selected"),
    ("Esc", "close, clear the search"),
    ("/", "search; Enter keeps it, Esc clears it"),
    ("n N", "select the next or previous finding: panels mark what it rests on"),
    ("space", "pause: what is shown stands still, nothing is missed"),
    ("y", "copy what is selected: of a finding its fix"),
    ("e", "export a report of the session so far"),
    ("?", "this help"),
    ("q Ctrl-C", "quit"),
];

/// Keys of a recording.
pub(super) const REPLAY_KEYS: &[(&str, &str)] = &[
    ("space", "stop, go on"),
    ("< >", "5 seconds back or forward"),
    ("r", "from the beginning"),
    ("R", "to the end"),
    ("[ ]", "half or twice as fast"),
];

/// Takes an input.
pub(super) fn update(state: &mut State, input: &Input) -> Option<Effect> {
    match input {
        Input::Key(key) if key.kind != KeyEventKind::Release => {
            state.changed();
            pressed(state, *key)
        }
        Input::Mouse(event) => mouse(state, *event),
        Input::Resize(..) => {
            state.changed();
            None
        }
        Input::Paste(text) if state.is_typing => {
            let text = text.to_lowercase();
            search(state, |search| search.push_str(text.trim()));
            None
        }
        _ => None,
    }
}

fn pressed(state: &mut State, key: KeyEvent) -> Option<Effect> {
    state.notice = None;
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        match key.code {
            KeyCode::Char('c') => return Some(Effect::Quit),
            KeyCode::Char('z') => return Some(Effect::Suspend),
            KeyCode::Char('u') if state.is_typing => search(state, String::clear),
            _ => {}
        }
        return None;
    }
    if state.overlay.is_some() {
        return over(state, key.code);
    }
    if state.is_typing {
        typed(state, key.code);
        return None;
    }
    let panel = state.selected;
    if state.with_panel(panel, |panel, cx, own| panel.key(cx, own, key.code)) {
        state.chosen();
        return None;
    }
    command(state, key.code)
}

/// Keys while something lies over the panels.
fn over(state: &mut State, key: KeyCode) -> Option<Effect> {
    let page = state.drawn.page.max(1);
    match (&mut state.overlay, key) {
        (_, KeyCode::Char('q')) => return Some(Effect::Quit),
        (Some(Overlay::Help(line)), KeyCode::Down | KeyCode::Char('j')) => *line += 1,
        (Some(Overlay::Help(line)), KeyCode::Up | KeyCode::Char('k')) => {
            *line = line.saturating_sub(1);
        }
        (Some(Overlay::Help(line)), KeyCode::PageDown) => *line += page,
        (Some(Overlay::Help(line)), KeyCode::PageUp) => *line = line.saturating_sub(page),
        _ => state.overlay = None,
    }
    None
}

/// Keys while a search is typed.
fn typed(state: &mut State, key: KeyCode) {
    match key {
        KeyCode::Enter => state.is_typing = false,
        KeyCode::Esc => {
            state.is_typing = false;
            search(state, String::clear);
        }
        KeyCode::Backspace => search(state, |text| {
            text.pop();
        }),
        KeyCode::Char(c) => search(state, |text| text.extend(c.to_lowercase())),
        KeyCode::Up | KeyCode::Down | KeyCode::PageUp | KeyCode::PageDown => moved(state, key),
        _ => {}
    }
}

fn search(state: &mut State, change: impl FnOnce(&mut String)) {
    let panel = state.selected;
    change(&mut state.searches[panel]);
    let own = &mut state.panels[panel];
    (own.selected, own.offset) = (0, 0);
    if panel == FINDINGS {
        state.panels[panel].is_open = false;
        state.chosen();
    }
}

fn command(state: &mut State, key: KeyCode) -> Option<Effect> {
    let is_replay = matches!(state.feed, FeedState::Replay(_));
    let play = |command| is_replay.then_some(Effect::Play(command));
    match key {
        KeyCode::Char('q') => return Some(Effect::Quit),
        KeyCode::Char('?') | KeyCode::F(1) => state.overlay = Some(Overlay::Help(0)),
        KeyCode::Char('e') => return Some(Effect::Export),
        KeyCode::Char('y') => return copy(state),
        KeyCode::Char('/') => state.is_typing = true,
        KeyCode::Char(' ') if is_replay => return play(Play::Toggle),
        KeyCode::Char(' ') => state.toggle_frozen(),
        KeyCode::Char('<' | ',') => return play(Play::Seek(-SEEK_NS)),
        KeyCode::Char('>' | '.') => return play(Play::Seek(SEEK_NS)),
        KeyCode::Char('[') => return play(Play::Slower),
        KeyCode::Char(']') => return play(Play::Faster),
        KeyCode::Char('r') => return play(Play::Home),
        KeyCode::Char('R') => return play(Play::End),
        KeyCode::Char('n') => other_finding(state, true),
        KeyCode::Char('N') => other_finding(state, false),
        KeyCode::Char(digit @ '1'..='9') => {
            let panel = digit as usize - '1' as usize;
            if panel < PANELS.len() {
                state.selected = panel;
            }
        }
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => {
            state.selected = (state.selected + 1) % PANELS.len();
        }
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => {
            state.selected = (state.selected + PANELS.len() - 1) % PANELS.len();
        }
        KeyCode::Enter => open(state),
        KeyCode::Esc | KeyCode::Backspace => close(state),
        _ => moved(state, key),
    }
    None
}

fn open(state: &mut State) {
    let panel = state.selected;
    state.with_panel(panel, |panel, cx, own| {
        if panel.opens() && !own.is_open && panel.rows(cx, own) > 0 {
            own.is_open = true;
            (own.inner, own.inner_offset) = (0, 0);
        }
    });
    state.chosen();
}

/// Closes what is opened; else clears the search.
fn close(state: &mut State) {
    let panel = state.selected;
    if state.panels[panel].is_open {
        state.panels[panel].is_open = false;
        state.chosen();
    } else if state.panels[FINDINGS].is_open {
        // Opened beside another panel.
        state.panels[FINDINGS].is_open = false;
        state.chosen();
    } else if !state.searches[panel].is_empty() {
        search(state, String::clear);
    }
}

fn copy(state: &mut State) -> Option<Effect> {
    let panel = state.selected;
    let of = |state: &mut State, panel| state.with_panel(panel, |p, cx, own| p.copied(cx, own));
    let text = of(state, panel).or_else(|| of(state, FINDINGS));
    if let Some(text) = text {
        state.overlay = Some(Overlay::Copied(text.clone()));
        return Some(Effect::Copy(text));
    }
    state.notice = Some("there is nothing to copy: no finding has a fix".to_string());
    None
}

fn other_finding(state: &mut State, is_next: bool) {
    state.with_panel(FINDINGS, |panel, cx, own| {
        own.is_open = false;
        let rows = panel.rows(cx, own);
        let row = if is_next { own.selected + 1 } else { own.selected.saturating_sub(1) };
        own.selected = row.min(rows.saturating_sub(1));
    });
    state.chosen();
}

/// Moves the selection of the selected panel.
fn moved(state: &mut State, key: KeyCode) {
    let page = state.drawn.page.max(1);
    let panel = state.selected;
    state.with_panel(panel, |panel, cx, own| {
        let rows = panel.rows(cx, own);
        let row = if own.is_open { &mut own.inner } else { &mut own.selected };
        let to = match key {
            KeyCode::Up | KeyCode::Char('k') => row.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => *row + 1,
            KeyCode::PageUp => row.saturating_sub(page),
            KeyCode::PageDown => *row + page,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            _ => return,
        };
        *row = to.min(rows.saturating_sub(1));
    });
    state.chosen();
}

fn mouse(state: &mut State, event: MouseEvent) -> Option<Effect> {
    let at = Position::new(event.column, event.row);
    let key = match event.kind {
        MouseEventKind::Down(MouseButton::Left) => {
            state.changed();
            state.notice = None;
            clicked(state, at);
            return None;
        }
        MouseEventKind::ScrollUp => KeyCode::Up,
        MouseEventKind::ScrollDown => KeyCode::Down,
        _ => return None,
    };
    state.changed();
    for _ in 0..WHEEL_ROWS {
        if state.overlay.is_some() {
            over(state, key);
        } else {
            wheel(state, at, key);
        }
    }
    None
}

/// The wheel turns what is under it.
fn wheel(state: &mut State, at: Position, key: KeyCode) {
    let under = state.drawn.rows.iter().find(|r| r.1.contains(at)).map(|r| r.0);
    let selected = state.selected;
    let panel = under.unwrap_or(selected);
    state.selected = panel;
    if !state.with_panel(panel, |panel, cx, own| panel.key(cx, own, key)) {
        moved(state, key);
    }
    state.selected = selected;
}

fn clicked(state: &mut State, at: Position) {
    if state.overlay.is_some() {
        state.overlay = None;
        return;
    }
    if let Some(tab) = state.drawn.tabs.iter().position(|t| t.contains(at)) {
        state.selected = tab;
        return;
    }
    let Some((panel, _, Some((y, row)))) =
        state.drawn.rows.iter().find(|r| r.1.contains(at)).copied()
    else {
        return;
    };
    state.with_panel(panel, |panel, cx, own| {
        let rows = panel.rows(cx, own);
        let clicked = row as i64 + i64::from(at.y) - i64::from(y);
        let Some(clicked) = usize::try_from(clicked).ok().filter(|c| *c < rows) else { return };
        if own.is_open {
            own.inner = clicked;
        } else if own.selected == clicked && panel.opens() {
            // A second click opens.
            own.is_open = true;
            (own.inner, own.inner_offset) = (0, 0);
        } else {
            own.selected = clicked;
        }
    });
    state.chosen();
}
