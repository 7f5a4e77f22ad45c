//! A recording in the dashboard: wherever it is played, it shows what a live session would have shown
//! then.

use std::sync::atomic::AtomicBool;

use super::super::choice::ThemeChoice;
use super::super::dashboard::{Dashboard, Options};
use super::super::feed::Replay;
use super::script;
use super::*;
use crate::base::sink::Sink;
use crate::observe::record::{Recorder, Recording};
use crate::observe::session::Session;

/// What of a session is compared.
fn picture(session: &Session) -> String {
    let told = session.log.told();
    let Session { sums, recent, counters, requests, events, last_ns, .. } = session;
    format!("{events} {last_ns} {sums:?} {recent:?} {counters:?} {requests:?} {told:?}")
}

/// The session of all events up to a time.
fn folded(events: &[Event], until_ns: u64) -> Session {
    let late = |e: &Event| e.at_ns().is_some_and(|at| at > until_ns);
    let n = events.iter().position(late).unwrap_or(events.len());
    script::fold(&events[..n])
}

#[test]
fn a_recording_shows_what_was_live_wherever_it_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gpuwhy");
    let events = script::whole().events;
    let recorder = Recorder::create(&path, "a script").unwrap();
    for event in &events {
        recorder.record(event.clone());
    }
    assert_eq!(recorder.finish().lost, 0);
    let begin_ns = Recording::open(&path).unwrap().about().started_ns;
    let mut replay = Replay::open(&path).unwrap();
    assert_eq!(replay.title(), "a script");
    let stop = AtomicBool::new(false);
    let options = Options {
        title: String::new(),
        theme: ThemeChoice::None,
        stop: &stop,
        export: Box::new(|session| Ok(format!("{} events", session.events))),
    };
    let mut dashboard = Dashboard::new(&mut replay, options, &|_| None);
    let mut now_ns = 0;
    let mut go = |dashboard: &mut Dashboard<'_>, key: Option<char>, ns: u64| {
        if let Some(key) = key {
            let key = KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE);
            assert_eq!(dashboard.input(&Input::Key(key)), None);
        }
        now_ns += ns;
        dashboard.tick(&mut || now_ns);
    };
    let at = |dashboard: &Dashboard<'_>| match &dashboard.state.feed {
        FeedState::Replay(at) => at.clone(),
        other => panic!("{other:?}"),
    };
    let ms = 1_000_000;
    go(&mut dashboard, None, 0);
    // Forward at several speeds, back, to the end, from the beginning, standing still.
    for (key, passed, speed) in [
        (None, 1200 * ms, 1.0),
        (Some(']'), 50 * ms, 2.0),
        (Some('['), 31 * ms, 1.0),
        (Some('['), 80 * ms, 0.5),
        (Some('<'), 1100 * ms, 0.5),
        (Some(' '), 500 * ms, 0.5),
        (Some(' '), 1000 * ms, 0.5),
        (Some('R'), 0, 0.5),
        (Some('r'), 2400 * ms, 0.5),
    ] {
        go(&mut dashboard, key, passed);
        let at = at(&dashboard);
        assert_eq!(at.speed, speed);
        let expected = folded(&events, begin_ns + at.at_ns);
        assert_eq!(picture(dashboard.state.shown()), picture(&expected), "{key:?} at {at:?}");
    }
    go(&mut dashboard, Some('R'), 0);
    assert!(at(&dashboard).is_paused || at(&dashboard).at_ns == at(&dashboard).length_ns);
    assert_eq!(dashboard.state.shown().events as usize, events.len());
    assert_eq!(*dashboard.state.diagnosis(), script::diagnosis(&script::fold(&events)));
    go(&mut dashboard, Some('e'), 0);
    let told = Some(format!("{} events", events.len()));
    assert_eq!(dashboard.state.notice, told);
    // At the end, going on means from the beginning.
    go(&mut dashboard, Some(' '), 0);
    assert_eq!(at(&dashboard).at_ns, 0);
}
