//! The first line, what is watched and how fast; and the line of the first finding.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::app::tui::activity::speeds;
use crate::app::tui::feed::FeedState;
use crate::app::tui::panels::findings::severity;
use crate::app::tui::state::State;
use crate::app::tui::text::{clock, cut};
use crate::app::tui::theme::Role;
use crate::base::event::ServerState;

/// Draws the first line.
pub(super) fn draw(state: &State, area: Rect, buf: &mut Buffer) {
    let theme = &state.theme;
    let [prompt, decode] = speeds(state.shown()).map(|speed| {
        speed.map_or_else(
            || "-".to_string(),
            |s| if s < 99.95 { format!("{s:.1}") } else { format!("{s:.0}") },
        )
    });
    let (word, role) = standing(state);
    let speeds = format!("prompt {prompt}  decode {decode} t/s");
    // A recording's position tells the time already.
    let right = match &state.feed {
        FeedState::Replay(_) => format!(" {speeds}"),
        _ => format!(" {}  {speeds}", clock(state.shown().duration_ns())),
    };
    let room = (area.width as usize).saturating_sub(right.chars().count() + 1);
    // The standing is never cut: a name gives way.
    let name_room = room.saturating_sub(word.chars().count() + 3 + "gpuwhy ".len());
    let strong = theme.style(Role::Strong);
    let (x, _) = buf.set_stringn(area.x, area.y, "gpuwhy ", room, strong);
    let name = cut(&name(state), name_room, theme.unicode);
    let (x, _) = buf.set_stringn(x, area.y, name, name_room, theme.style(Role::Text));
    let left = room.saturating_sub((x - area.x) as usize);
    let mark = match (state.theme.unicode, state.is_frozen() || is_still(state)) {
        (true, true) => "‖",
        (true, false) => "▶",
        (false, true) => "=",
        (false, false) => ">",
    };
    buf.set_stringn(x + 1, area.y, format!("{mark} {word}"), left, theme.style(role));
    let x = area.right() - right.chars().count().min(area.width as usize) as u16;
    buf.set_string(x, area.y, right, theme.style(Role::Text));
}

fn is_still(state: &State) -> bool {
    match &state.feed {
        FeedState::Live => false,
        FeedState::Ended => true,
        FeedState::Replay(at) => at.is_paused,
    }
}

/// The model, the server, or what the recording is of.
fn name(state: &State) -> String {
    let session = state.shown();
    if let Some(setup) = &session.setup {
        let model = &setup.model;
        return format!("{} {}", model.name, model.file_type);
    }
    if let Some(server) = &session.server {
        let models: Vec<&str> = server.models.iter().map(|m| m.name.as_str()).collect();
        let state = match server.state {
            ServerState::Up => "",
            ServerState::Loading => " (loading)",
            ServerState::Down => " (does not answer)",
        };
        return format!("{} {}{state} {}", server.engine, server.url, models.join(", "));
    }
    state.title.clone()
}

/// Where the feed stands, in words.
fn standing(state: &State) -> (String, Role) {
    match &state.feed {
        _ if state.is_frozen() => {
            let behind = state.session().last_ns.saturating_sub(state.shown().last_ns);
            (format!("PAUSED, {} behind", clock(behind)), Role::Warning)
        }
        FeedState::Live => ("live".to_string(), Role::Good),
        FeedState::Ended => ("ended".to_string(), Role::Strong),
        FeedState::Replay(at) => {
            let place = format!("{}/{}", clock(at.at_ns), clock(at.length_ns));
            let speed = if at.speed == 1.0 { String::new() } else { format!(" x{}", at.speed) };
            match at.is_paused {
                true if at.at_ns >= at.length_ns => {
                    (format!("replay {place} at its end"), Role::Strong)
                }
                true => (format!("replay {place} PAUSED{speed}"), Role::Warning),
                false => (format!("replay {place}{speed}"), Role::Good),
            }
        }
    }
}

/// Draws the line of the first finding.
pub(super) fn finding(state: &State, area: Rect, buf: &mut Buffer) {
    let (theme, diagnosis) = (&state.theme, state.diagnosis());
    let width = area.width as usize;
    let Some(first) = diagnosis.findings.first() else {
        let open = diagnosis.open.len();
        let text = match open {
            _ if state.shown().events == 0 => String::new(),
            0 => "no problem found so far".to_string(),
            _ => format!("no problem found so far; {open} questions need more data"),
        };
        buf.set_stringn(area.x, area.y, text, width, theme.style(Role::Dim));
        return;
    };
    let (mark, word, role) = severity(first, theme);
    let more = diagnosis.findings.len() + diagnosis.consequences.len() - 1;
    let more = if more > 0 { format!("  +{more} more") } else { String::new() };
    let head = format!("{mark} {word}: ");
    let room = width.saturating_sub(head.chars().count() + more.len());
    let (x, _) = buf.set_stringn(area.x, area.y, head, width, theme.style(role));
    let title = cut(&first.title, room, theme.unicode);
    let (x, _) = buf.set_stringn(x, area.y, title, room, theme.style(Role::Strong));
    let left = (area.right() - x) as usize;
    buf.set_stringn(x, area.y, more, left, theme.style(Role::Dim));
}
