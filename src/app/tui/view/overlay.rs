//! What lies over everything else: the help, and a text that was copied.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::app::tui::feed::FeedState;
use crate::app::tui::panels::PANELS;
use crate::app::tui::state::State;
use crate::app::tui::text::wrap;
use crate::app::tui::theme::{Role, Theme};
use crate::app::tui::update::{KEYS, REPLAY_KEYS};

use super::strip::patterns;

/// Columns of keys.
const KEY_WIDTH: usize = 24;

/// Draws the help from a line on; gives the line that it could begin with.
pub(super) fn help(state: &State, line: usize, screen: Rect, buf: &mut Buffer) -> usize {
    let width = screen.width.saturating_sub(4).min(96);
    let lines = help_lines(state, width as usize - 2);
    let height = (lines.len() as u16 + 2).min(screen.height - 2);
    let area = Rect {
        x: screen.x + (screen.width - width) / 2,
        y: screen.y + (screen.height - height) / 2,
        width,
        height,
    };
    frame(&state.theme, " help: any key closes, arrows scroll ", area, buf);
    let rows = height as usize - 2;
    let line = line.min(lines.len().saturating_sub(rows));
    for (y, (text, style)) in lines.iter().skip(line).take(rows).enumerate() {
        buf.set_stringn(area.x + 1, area.y + 1 + y as u16, text, width as usize - 2, *style);
    }
    if line + rows < lines.len() {
        let more = if state.theme.unicode { " ↓ more " } else { " more below " };
        let style = state.theme.style(Role::Strong);
        buf.set_stringn(area.right() - 14, area.bottom() - 1, more, 13, style);
    }
    line
}

fn help_lines(state: &State, width: usize) -> Vec<(String, Style)> {
    let theme = &state.theme;
    let plain = |theme: &Theme| theme.style(Role::Text);
    let strong = theme.style(Role::Strong);
    let mut lines: Vec<(String, Style)> = Vec::new();
    let keys = |title: &str, keys: &[(&str, &str)], lines: &mut Vec<(String, Style)>| {
        lines.push((title.to_string(), strong));
        for (key, what) in keys {
            let key = if theme.unicode { (*key).to_string() } else { ascii(key) };
            for (i, part) in wrap(what, width.saturating_sub(KEY_WIDTH + 1)).iter().enumerate() {
                let wide = key.chars().count() > KEY_WIDTH;
                if i == 0 && wide {
                    lines.push((format!(" {key}"), plain(theme)));
                }
                let key = if i == 0 && !wide { key.as_str() } else { "" };
                lines.push((format!(" {key:<KEY_WIDTH$}{part}"), plain(theme)));
            }
        }
    };
    let own = PANELS[state.selected].keys();
    if !own.is_empty() {
        keys(PANELS[state.selected].title(), own, &mut lines);
    }
    keys("Everywhere", KEYS, &mut lines);
    if matches!(state.feed, FeedState::Replay(_)) {
        keys("A recording", REPLAY_KEYS, &mut lines);
    }
    lines.push(("The devices' bars".to_string(), strong));
    let [compute, copy, wait] = patterns(theme);
    for (sign, role, what) in [
        (compute, Role::Compute, "computes"),
        (copy, Role::Copy, "waits while something is copied into it"),
        (wait, Role::Wait, "waits for another device, its turn, or the host"),
    ] {
        lines.push((format!(" {} {what}", sign.to_string().repeat(3)), theme.style(role)));
    }
    let note = "Shares of the time from the start to the end of the last 16 ubatches; then memory \
                used and all of it. GPUs of a foreign engine show how busy they are.";
    lines.extend(wrap(note, width - 1).into_iter().map(|l| (format!(" {l}"), plain(theme))));
    lines.push(("Findings and lines of the log".to_string(), strong));
    let marks: [(char, char, &str, Role); 7] = [
        ('✖', 'X', "error: it does not work", Role::Bad),
        ('▲', '!', "warning: it works badly", Role::Warning),
        ('●', 'i', "info: good to know", Role::Strong),
        ('○', 'o', "normal: it only looks like a problem", Role::Good),
        ('?', '?', "open: not enough data yet", Role::Dim),
        ('•', '*', "a finding rests on this line; - marks other notices", Role::Warning),
        ('▶', '>', "the selected finding rests on it", Role::Evidence),
    ];
    for (unicode, plain, what, role) in marks {
        let sign = if theme.unicode { unicode } else { plain };
        lines.push((format!(" {sign} {what}"), theme.style(role)));
    }
    lines
}

/// Arrows in words.
fn ascii(key: &str) -> String {
    let arrows = [("←", "Left"), ("→", "Right"), ("↑", "Up"), ("↓", "Down")];
    arrows.iter().fold(key.to_string(), |text, (arrow, word)| text.replace(arrow, word))
}

fn frame(theme: &Theme, title: &str, area: Rect, buf: &mut Buffer) {
    let (across, down, corners) = if theme.unicode {
        ("─", "│", ["┌", "┐", "└", "┘"])
    } else {
        ("-", "|", ["+"; 4])
    };
    let style = theme.style(Role::Strong);
    let inner = area.width as usize - 2;
    for y in area.top()..area.bottom() {
        let (left, fill, right) = match y {
            y if y == area.top() => (corners[0], across, corners[1]),
            y if y + 1 == area.bottom() => (corners[2], across, corners[3]),
            _ => (down, " ", down),
        };
        for x in area.left()..area.right() {
            if let Some(cell) = buf.cell_mut((x, y)) {
                cell.reset();
            }
        }
        buf.set_string(area.x, y, format!("{left}{}{right}", fill.repeat(inner)), style);
    }
    buf.set_stringn(area.x + 2, area.y, title, inner.saturating_sub(2), style);
}

/// Draws a copied text over the whole screen, from the first column on, so that it can be selected by
/// hand where the terminal does not take it.
pub(super) fn copied(text: &str, theme: &Theme, area: Rect, buf: &mut Buffer) {
    let width = area.width as usize;
    let note = "Copied, if your terminal lets programs write its clipboard; else select it here. Any \
                key closes.";
    let mut y = area.y;
    for line in wrap(note, width) {
        buf.set_stringn(area.x, y, line, width, theme.style(Role::Dim));
        y += 1;
    }
    y += 1;
    // Not broken between words: what is selected must be what was meant.
    for line in text.lines() {
        let mut rest = line;
        loop {
            if y >= area.bottom() {
                return;
            }
            let at = rest.char_indices().nth(width).map_or(rest.len(), |(at, _)| at);
            buf.set_stringn(area.x, y, &rest[..at], width, theme.style(Role::Text));
            y += 1;
            rest = &rest[at..];
            if rest.is_empty() {
                break;
            }
        }
    }
}
