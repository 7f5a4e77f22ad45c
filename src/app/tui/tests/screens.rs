//! What stands on screens of several sizes, with and without colours.

use super::super::feed::{FeedState, Position};
use super::super::panels::PANELS;
use super::super::theme::{Palette, Theme};
use super::script::{self, Script};
use super::*;

const SIZES: [(u16, u16); 4] = [(60, 20), (80, 24), (120, 40), (200, 60)];

/// The tab with this title.
fn tab(title: &str) -> usize {
    PANELS.iter().position(|p| p.title() == title).unwrap()
}

#[test]
fn every_size_shows_the_devices_the_tabs_and_the_keys() {
    for (width, height) in SIZES {
        for panel in 0..PANELS.len() {
            let mut state = whole();
            state.selected = panel;
            let shown = screen(&mut state, width, height);
            let at = format!("{width}x{height}, {}: {}", PANELS[panel].title(), shown.join("\n"));
            assert!(shown[0].starts_with("gpuwhy"), "{at}");
            assert!(shown[0].contains("live") && shown[0].contains("decode 67"), "{at}");
            for (line, name) in shown[1..].iter().zip(["Virtual0", "Virtual1", "CPU"]) {
                assert!(line.starts_with(name) && line.contains("for "), "{at}");
            }
            assert!(shown[5].contains(&format!("{} {}", panel + 1, PANELS[panel].title())), "{at}");
            assert!(shown[height as usize - 1].contains("q quit  ? help"), "{at}");
        }
    }
}

#[test]
fn no_colour_and_no_unicode_lose_nothing() {
    for (width, height) in SIZES {
        for panel in 0..PANELS.len() {
            let mut shown =
                [Palette::Dark, Palette::Light, Palette::Sixteen, Palette::None].map(|p| {
                    let mut state = state_of(&script::whole().events, Theme::new(p, true));
                    state.selected = panel;
                    text(&mut state, width, height)
                });
            shown.sort();
            assert_eq!(shown.first(), shown.last());
        }
        let mut state = state_of(&script::whole().events, Theme::new(Palette::None, false));
        state.selected = tab("Log");
        let shown = text(&mut state, width, height);
        assert!(shown.is_ascii(), "{shown}");
    }
}

#[test]
fn screens_are_as_they_were() {
    let mut state = whole();
    state.selected = tab("Findings");
    insta::assert_snapshot!("findings_60x20", text(&mut state, 60, 20));
    state.selected = tab("Log");
    insta::assert_snapshot!("log_120x40", text(&mut state, 120, 40));
    press(&mut state, KeyCode::Char('?'));
    insta::assert_snapshot!("help_80x24", text(&mut state, 80, 24));
    let mut state = state_of(&script::whole().events, Theme::new(Palette::None, false));
    state.selected = tab("Findings");
    press(&mut state, KeyCode::Enter);
    insta::assert_snapshot!("opened_ascii_80x24", text(&mut state, 80, 24));
}

#[test]
fn a_screen_that_is_too_small_says_what_it_needs() {
    let shown = text(&mut whole(), 59, 20);
    assert!(shown.contains("needs 60 columns and 20 rows"), "{shown}");
    assert!(shown.contains("59 and 20"), "{shown}");
    for (width, height) in [(1, 1), (10, 2), (60, 19)] {
        text(&mut whole(), width, height);
    }
}

#[test]
fn before_any_event_it_says_what_it_waits_for() {
    let mut state = state_of(&[], Theme::new(Palette::Dark, true));
    for panel in 0..PANELS.len() {
        state.selected = panel;
        let shown = text(&mut state, 60, 20);
        assert!(shown.contains("waiting for a test"), "{shown}");
    }
}

#[test]
fn devices_that_never_ran_say_so() {
    let mut state = state_of(&Script::loaded().events, Theme::new(Palette::Dark, true));
    let shown = screen(&mut state, 80, 24);
    assert!(shown[1].contains("nothing ran yet") && shown[1].contains("160M"), "{shown:?}");
}

#[test]
fn a_wide_screen_shows_findings_beside_the_panel() {
    let mut state = whole();
    state.selected = tab("Log");
    assert!(!text(&mut state, 119, 40).contains("Findings (n"));
    assert!(text(&mut state, 120, 40).contains("Findings (n"));
    state.selected = tab("Findings");
    assert!(!text(&mut state, 120, 40).contains("Findings (n"));
}

#[test]
fn where_a_feed_stands_is_told_in_words() {
    let mut state = whole();
    press(&mut state, KeyCode::Char(' '));
    assert!(screen(&mut state, 80, 24)[0].contains("PAUSED"));
    press(&mut state, KeyCode::Char(' '));
    state.fed(FeedState::Ended, 12);
    let shown = screen(&mut state, 80, 24);
    assert!(shown[0].contains("ended") && shown[23].contains("12 events lost"), "{shown:?}");
    let trouble = Some("the recording breaks off here".to_string());
    let (at_ns, length_ns) = (61_000_000_000, 120_000_000_000);
    let at = Position { at_ns, length_ns, speed: 4.0, is_paused: true, trouble };
    state.fed(FeedState::Replay(at), 0);
    let shown = screen(&mut state, 120, 24);
    assert!(shown[0].contains("replay 1:01/2:00 PAUSED x4"), "{shown:?}");
    assert!(shown[23].contains("breaks off"), "{shown:?}");
}

#[test]
fn a_picture_that_stays_the_same_is_not_drawn_again() {
    let mut state = whole();
    let before = state.changes();
    state.take(Taken::Next, &[]);
    state.fed(FeedState::Live, 0);
    state.conclude();
    assert_eq!(state.changes(), before);
    state.measured(0.004);
    let measured = state.changes();
    state.measured(0.0042);
    assert_eq!(state.changes(), measured);
    state.take(Taken::Next, &script::whole().events[..1]);
    assert_ne!(state.changes(), measured);
}
