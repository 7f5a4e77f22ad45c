//! Draws the state: a head, the devices, the first finding, tabs, the selected panel, the keys.
//!
//! It reads the state and remembers where it drew, for clicks. Invariant: the same state gives the same
//! screen, and every size from the smallest on shows everything that matters.

mod footer;
mod head;
mod overlay;
mod strip;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::panel::Panel;
use super::panels::{FINDINGS, PANELS};
use super::state::{Drawn, Overlay, State};
use super::text::wrap;
use super::theme::Role;

/// The smallest screen.
pub(super) const SIZE_MIN: (u16, u16) = (60, 20);

/// From this size on findings stand beside the selected panel.
const SIZE_WIDE: (u16, u16) = (120, 36);

/// Draws everything.
pub(super) fn view(state: &mut State, frame: &mut Frame<'_>) {
    let area = frame.area();
    draw(state, area, frame.buffer_mut());
}

fn draw(state: &mut State, area: Rect, buf: &mut Buffer) {
    state.drawn = Drawn::default();
    if area.width < SIZE_MIN.0 || area.height < SIZE_MIN.1 {
        let (width, height) = SIZE_MIN;
        let text = format!(
            "The dashboard needs {width} columns and {height} rows; this terminal has {} and {}.",
            area.width, area.height
        );
        let lines = wrap(&text, area.width as usize);
        for (y, line) in lines.iter().enumerate().take(area.height as usize) {
            let style = state.theme.style(Role::Strong);
            buf.set_stringn(area.x, area.y + y as u16, line, area.width as usize, style);
        }
        return;
    }
    if let Some(Overlay::Copied(text)) = &state.overlay {
        overlay::copied(text, &state.theme, area, buf);
        return;
    }
    let mut rest = area;
    head::draw(state, top(&mut rest, 1), buf);
    let devices = super::activity::activity(state.shown());
    // At most a third of the screen; what is left out is said.
    let lines = devices.len().min((area.height / 3) as usize).max(1);
    strip::draw(state, &devices, top(&mut rest, lines as u16), buf);
    head::finding(state, top(&mut rest, 1), buf);
    tabs(state, top(&mut rest, 1), buf);
    let foot = Rect { y: rest.bottom() - 1, height: 1, ..rest };
    rest.height -= 1;
    panels(state, rest, buf);
    footer::draw(state, foot, buf);
    if let Some(Overlay::Help(line)) = state.overlay {
        let line = overlay::help(state, line, area, buf);
        state.overlay = Some(Overlay::Help(line));
    }
}

/// Takes lines from the top.
fn top(rest: &mut Rect, height: u16) -> Rect {
    let height = height.min(rest.height);
    let taken = Rect { height, ..*rest };
    rest.y += height;
    rest.height -= height;
    taken
}

fn tabs(state: &mut State, area: Rect, buf: &mut Buffer) {
    let titles = PANELS.map(Panel::title);
    // Two for the number and its space, two between.
    let whole: usize = titles.iter().map(|t| t.len() + 4).sum();
    let is_whole = whole <= area.width as usize;
    let mut x = area.x;
    for (number, title) in titles.iter().enumerate() {
        let is_selected = number == state.selected;
        let shown = if is_whole || is_selected { title } else { &title[..title.len().min(3)] };
        let text = format!(" {} {shown} ", number + 1);
        let role = if is_selected { Role::Selected } else { Role::Text };
        let style = state.theme.style(role);
        let style = if is_selected { style.add_modifier(Modifier::BOLD) } else { style };
        let (end, _) = buf.set_stringn(x, area.y, &text, (area.right() - x) as usize, style);
        state.drawn.tabs.push(Rect { x, y: area.y, width: end - x, height: 1 });
        x = end;
    }
    let line = if state.theme.unicode { "─" } else { "-" };
    let style = state.theme.style(Role::Dim);
    buf.set_string(x, area.y, line.repeat((area.right() - x) as usize), style);
}

fn panels(state: &mut State, area: Rect, buf: &mut Buffer) {
    let screen = *buf.area();
    let is_wide = screen.width >= SIZE_WIDE.0 && screen.height >= SIZE_WIDE.1;
    let selected = state.selected;
    if !is_wide || selected == FINDINGS {
        panel(state, selected, area, buf);
        return;
    }
    let side = (area.width * 2 / 5).min(80);
    let left = Rect { width: area.width - side - 1, ..area };
    panel(state, selected, left, buf);
    let right = Rect { x: left.right() + 1, width: side, ..area };
    let style = state.theme.style(Role::Dim);
    let line = if state.theme.unicode { "│" } else { "|" };
    for y in area.top()..area.bottom() {
        buf.set_string(left.right(), y, line, style);
    }
    let title = format!(" Findings (n, N select; {} opens)", FINDINGS + 1);
    let style = state.theme.style(Role::Strong);
    buf.set_stringn(right.x, right.y, title, right.width as usize, style);
    let body =
        Rect { x: right.x + 1, y: right.y + 1, width: right.width - 1, height: right.height - 1 };
    panel(state, FINDINGS, body, buf);
}

fn panel(state: &mut State, number: usize, area: Rect, buf: &mut Buffer) {
    if number == state.selected {
        state.drawn.page = (area.height as usize).saturating_sub(2).max(1);
    }
    let anchor = state.with_panel(number, |panel, cx, own| {
        panel.draw(cx, own, area, buf);
        let row = if own.is_open { own.inner } else { own.selected };
        selected_line(area, buf).map(|y| (y, row))
    });
    state.drawn.rows.push((number, area, anchor));
}

/// The line that is drawn as selected, by which a click tells its row: tables have heads, and only they
/// know how high.
fn selected_line(area: Rect, buf: &Buffer) -> Option<u16> {
    let is_reversed = |y: u16| {
        let cells = (area.left()..area.right()).filter_map(|x| buf.cell((x, y)));
        cells.filter(|c| c.modifier.contains(Modifier::REVERSED)).count() * 2 > area.width as usize
    };
    (area.top()..area.bottom()).find(|y| is_reversed(*y))
}
