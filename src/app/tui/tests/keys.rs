//! Every key and click, by what it changes.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};

use super::super::feed::{Play, Position};
use super::super::panels::{FINDINGS, PANELS};
use super::super::state::Overlay;
use super::*;

fn log() -> usize {
    PANELS.iter().position(|p| p.title() == "Log").unwrap()
}

fn at(state: &mut State, kind: MouseEventKind, column: u16, row: u16) {
    let event = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
    assert_eq!(update(state, &Input::Mouse(event)), None);
}

fn replay() -> State {
    let mut state = whole();
    let (at_ns, length_ns, trouble) = (0, 9_000_000_000, None);
    let at = Position { at_ns, length_ns, speed: 1.0, is_paused: false, trouble };
    state.fed(FeedState::Replay(at), 0);
    state
}

#[test]
fn tabs_go_round_and_have_numbers() {
    let mut state = whole();
    let last = PANELS.len() - 1;
    for (key, panel) in [
        (KeyCode::BackTab, last),
        (KeyCode::Tab, 0),
        (KeyCode::Char('2'), 1),
        (KeyCode::Char('1'), 0),
        (KeyCode::Char('9'), 0),
    ] {
        assert_eq!(press(&mut state, key), None);
        assert_eq!(state.selected, panel, "{key:?}");
    }
    // Findings has no use for these of its own.
    state.selected = FINDINGS;
    press(&mut state, KeyCode::Char('l'));
    assert_eq!(state.selected, (FINDINGS + 1) % PANELS.len());
    state.selected = FINDINGS;
    press(&mut state, KeyCode::Left);
    assert_eq!(state.selected, (FINDINGS + PANELS.len() - 1) % PANELS.len());
}

#[test]
fn the_selection_moves_by_rows_and_pages_and_stays_inside() {
    let mut state = whole();
    state.selected = log();
    press(&mut state, KeyCode::Home);
    text(&mut state, 80, 24);
    let rows = state.with_panel(log(), |panel, cx, own| panel.rows(cx, own));
    assert!(rows > 2, "{rows}");
    for (key, row) in [
        (KeyCode::Down, 1),
        (KeyCode::Char('j'), 2),
        (KeyCode::Char('k'), 1),
        (KeyCode::Up, 0),
        (KeyCode::Up, 0),
        (KeyCode::End, rows - 1),
        (KeyCode::Down, rows - 1),
        (KeyCode::Home, 0),
        (KeyCode::Char('G'), rows - 1),
        (KeyCode::Char('g'), 0),
        (KeyCode::PageDown, state.drawn.page.min(rows - 1)),
        (KeyCode::PageUp, 0),
    ] {
        assert_eq!(press(&mut state, key), None);
        assert_eq!(state.panels[log()].selected, row, "{key:?}");
    }
}

#[test]
fn a_finding_opens_closes_and_is_copied() {
    let mut state = whole();
    let with_fix = state.diagnosis().findings.iter().position(|f| !f.fixes.is_empty());
    let with_fix = with_fix.expect("the script leads to a finding with a fix");
    state.selected = FINDINGS;
    (0..with_fix).for_each(|_| drop(press(&mut state, KeyCode::Down)));
    press(&mut state, KeyCode::Enter);
    assert!(state.panels[FINDINGS].is_open);
    let shown = text(&mut state, 200, 60);
    let finding = &state.diagnosis().findings[with_fix];
    assert!(shown.contains("Fixes") && shown.contains(&finding.fixes[0].name), "{shown}");
    let Some(Effect::Copy(copied)) = press(&mut state, KeyCode::Char('y')) else { panic!() };
    let over = screen(&mut state, 60, 20);
    // From the first column on, so that it can be selected by hand.
    let first = copied.lines().next().unwrap();
    assert!(over.iter().any(|line| first.starts_with(line) && !line.is_empty()), "{over:?}");
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.overlay, None);
    press(&mut state, KeyCode::Esc);
    assert!(!state.panels[FINDINGS].is_open);
}

#[test]
fn the_selected_finding_marks_its_evidence_and_stays_selected() {
    let mut state = whole();
    let finding =
        state.diagnosis().findings.iter().position(|f| f.evidence.iter().any(|e| e.line.is_some()));
    let row = finding.expect("a finding that rests on a line");
    (0..=row).for_each(|_| drop(press(&mut state, KeyCode::Char('n'))));
    press(&mut state, KeyCode::Char('N'));
    assert_eq!(state.panels[FINDINGS].selected, row);
    let line = *state.evidence.lines.first().unwrap();
    state.selected = log();
    let id = format!("▶{:>3} ", line.0);
    press(&mut state, KeyCode::Home);
    let shown = text(&mut state, 200, 60);
    assert!(shown.contains(&id), "{id}: {shown}");
    let rule = state.diagnosis().findings[row].rule;
    state.take(Taken::Next, &script::whole().events);
    state.conclude();
    let now = state.panels[FINDINGS].selected;
    let rules = state.diagnosis().findings.iter().map(|f| f.rule);
    assert!(
        row == 0 || rules.clone().nth(now) == Some(rule),
        "{rule}: {:?}",
        rules.collect::<Vec<_>>()
    );
}

#[test]
fn searching_leaves_rows_out_while_it_is_typed() {
    let mut state = whole();
    state.selected = log();
    let rows = |state: &mut State| state.with_panel(log(), |panel, cx, own| panel.rows(cx, own));
    let all = rows(&mut state);
    types(&mut state, "/BUFFER size");
    assert_eq!(state.searches[log()], "buffer size");
    assert_eq!(rows(&mut state), 3);
    assert!(text(&mut state, 80, 24).contains("/buffer size_"));
    press(&mut state, KeyCode::Backspace);
    press(&mut state, KeyCode::Enter);
    assert_eq!((state.is_typing, state.searches[log()].as_str()), (false, "buffer siz"));
    // Keys are keys again.
    press(&mut state, KeyCode::Char('?'));
    assert_eq!(state.overlay, Some(Overlay::Help(0)));
    press(&mut state, KeyCode::Esc);
    press(&mut state, KeyCode::Esc);
    assert_eq!((rows(&mut state), state.searches[log()].as_str()), (all, ""));
    types(&mut state, "/x");
    press(&mut state, KeyCode::Esc);
    assert_eq!((state.is_typing, state.searches[log()].as_str()), (false, ""));
}

#[test]
fn the_log_follows_its_end_until_somebody_scrolls() {
    let mut state = whole();
    state.selected = log();
    let mut more = script::Script::default();
    (0..50).for_each(|i| more.line(&format!("more {i}")));
    state.take(Taken::Next, &more.events);
    assert!(text(&mut state, 80, 24).contains("more 49"));
    press(&mut state, KeyCode::Up);
    let shown = text(&mut state, 80, 24);
    state.take(Taken::Next, &more.events);
    assert_eq!(text(&mut state, 80, 24), shown);
    press(&mut state, KeyCode::End);
    assert!(text(&mut state, 80, 24).contains(" 120 more 49"), "{}", text(&mut state, 80, 24));
    press(&mut state, KeyCode::Enter);
    assert!(text(&mut state, 80, 24).contains("─────"));
}

#[test]
fn pausing_freezes_what_is_shown_and_misses_nothing() {
    let mut state = whole();
    assert_eq!(press(&mut state, KeyCode::Char(' ')), None);
    assert!(state.is_frozen());
    let events = state.shown().events;
    state.take(Taken::Next, &script::whole().events);
    state.conclude();
    assert_eq!(state.shown().events, events);
    press(&mut state, KeyCode::Char(' '));
    assert_eq!(state.shown().events, events * 2);
}

#[test]
fn a_recording_is_played_by_keys() {
    let mut state = replay();
    let seek = |s: i64| Play::Seek(s * 1_000_000_000);
    for (key, play) in [
        (' ', Play::Toggle),
        ('<', seek(-5)),
        ('>', seek(5)),
        ('[', Play::Slower),
        (']', Play::Faster),
        ('r', Play::Home),
        ('R', Play::End),
    ] {
        assert_eq!(press(&mut state, KeyCode::Char(key)), Some(Effect::Play(play)), "{key}");
        // A live session cannot be played.
        assert_eq!(press(&mut whole(), KeyCode::Char(key)), None);
    }
    assert!(!state.is_frozen());
}

#[test]
fn it_ends_stops_and_exports_by_keys() {
    let mut state = whole();
    let control = |c| Input::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
    assert_eq!(press(&mut state, KeyCode::Char('q')), Some(Effect::Quit));
    assert_eq!(update(&mut state, &control('c')), Some(Effect::Quit));
    assert_eq!(update(&mut state, &control('z')), Some(Effect::Suspend));
    assert_eq!(press(&mut state, KeyCode::Char('e')), Some(Effect::Export));
    types(&mut state, "?");
    assert_eq!(press(&mut state, KeyCode::Char('q')), Some(Effect::Quit));
}

#[test]
fn the_help_scrolls_and_any_other_key_closes_it() {
    let mut state = whole();
    types(&mut state, "?");
    let first = text(&mut state, 60, 20);
    assert!(first.contains("more"), "{first}");
    (0..5).for_each(|_| drop(press(&mut state, KeyCode::Down)));
    assert_eq!(state.overlay, Some(Overlay::Help(5)));
    assert_ne!(text(&mut state, 60, 20), first);
    (0..9).for_each(|_| drop(press(&mut state, KeyCode::PageDown)));
    let last = text(&mut state, 60, 20);
    assert!(last.contains("rests on it"), "{last}");
    press(&mut state, KeyCode::PageUp);
    assert_ne!(text(&mut state, 60, 20), last);
    press(&mut state, KeyCode::Char('x'));
    assert_eq!(state.overlay, None);
}

#[test]
fn clicks_select_tabs_and_rows_and_the_wheel_moves() {
    let mut state = whole();
    state.selected = FINDINGS;
    text(&mut state, 80, 24);
    let click = MouseEventKind::Down(MouseButton::Left);
    let tab = state.drawn.tabs[log()];
    at(&mut state, click, tab.x + 1, tab.y);
    assert_eq!(state.selected, log());
    press(&mut state, KeyCode::Home);
    text(&mut state, 80, 24);
    let (_, area, anchor) = state.drawn.rows[0];
    assert_eq!(anchor, Some((area.y, 0)));
    let chosen = |state: &State| (state.panels[log()].selected, state.panels[log()].is_open);
    at(&mut state, click, area.x + 3, area.y + 2);
    assert_eq!(chosen(&state), (2, false));
    text(&mut state, 80, 24);
    // A second click opens.
    at(&mut state, click, area.x + 3, area.y + 2);
    assert_eq!(chosen(&state), (2, true));
    press(&mut state, KeyCode::Esc);
    at(&mut state, MouseEventKind::ScrollUp, area.x, area.y);
    assert_eq!(chosen(&state), (0, false));
    at(&mut state, MouseEventKind::ScrollDown, area.x, area.y);
    assert_eq!(chosen(&state), (3, false));
    // Where there is no row, nothing happens.
    text(&mut state, 80, 40);
    let area = state.drawn.rows[0].1;
    at(&mut state, click, area.x, area.bottom() - 1);
    assert_eq!(chosen(&state), (3, false));
}

#[test]
fn the_wheel_turns_what_is_under_it() {
    let mut state = whole();
    state.selected = log();
    press(&mut state, KeyCode::Home);
    text(&mut state, 120, 40);
    let side = state.drawn.rows.iter().find(|r| r.0 == FINDINGS).unwrap().1;
    at(&mut state, MouseEventKind::ScrollDown, side.x, side.y);
    let rows = state.with_panel(FINDINGS, |panel, cx, own| panel.rows(cx, own));
    assert_eq!(state.panels[FINDINGS].selected, 3.min(rows - 1));
    assert_eq!((state.panels[log()].selected, state.selected), (0, log()));
}
