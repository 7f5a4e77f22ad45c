//! The last line: what was done, what is searched for, or the keys; and what watching costs.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::app::tui::feed::FeedState;
use crate::app::tui::panels::PANELS;
use crate::app::tui::state::State;
use crate::app::tui::text::cut;
use crate::app::tui::theme::Role;

/// Draws the line.
pub(super) fn draw(state: &State, area: Rect, buf: &mut Buffer) {
    let theme = &state.theme;
    let mut cost = state.cost.map(|c| format!("own cost {:.1} %", c * 100.0)).unwrap_or_default();
    if state.lost > 0 {
        cost = format!("{} events lost  {cost}", state.lost);
    }
    let width = area.width as usize;
    let role = if state.lost > 0 { Role::Warning } else { Role::Dim };
    let x = area.right() - cost.chars().count().min(width) as u16;
    buf.set_string(x, area.y, &cost, theme.style(role));
    let room = width.saturating_sub(cost.chars().count() + 1);
    let (text, role) = left(state);
    let text = cut(&text, room, theme.unicode);
    buf.set_stringn(area.x, area.y, text, room, theme.style(role));
}

fn left(state: &State) -> (String, Role) {
    let search = &state.searches[state.selected];
    if state.is_typing {
        return (format!("/{search}_   Enter keeps, Esc clears"), Role::Strong);
    }
    if let Some(notice) = &state.notice {
        return (notice.clone(), Role::Strong);
    }
    if let FeedState::Replay(at) = &state.feed
        && let Some(trouble) = &at.trouble
    {
        return (trouble.clone(), Role::Warning);
    }
    let mut keys = Vec::new();
    if !search.is_empty() {
        keys.push(format!("/{search} (Esc clears)"));
    }
    keys.extend(["q quit", "? help"].map(str::to_string));
    if state.panels[state.selected].is_open {
        keys.push("Esc close".to_string());
    }
    keys.extend(
        match &state.feed {
            FeedState::Replay(_) => vec!["space stop", "< > seek", "[ ] speed"],
            _ if state.is_frozen() => vec!["space go on"],
            _ => vec!["space pause"],
        }
        .into_iter()
        .map(str::to_string),
    );
    keys.push("/ search".to_string());
    let own = PANELS[state.selected].keys().iter();
    keys.extend(own.map(|(key, what)| format!("{key} {what}")));
    keys.extend(["n N finding", "e export"].map(str::to_string));
    (keys.join("  "), Role::Dim)
}
