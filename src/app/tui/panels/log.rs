//! The log that is followed, with the lines that matter marked.

use std::collections::BTreeMap;

use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::advise::diagnose::{Diagnosis, Finding};
use crate::app::tui::panel::{Context, Panel, PanelState};
use crate::app::tui::text::wrap;
use crate::app::tui::theme::Role;
use crate::observe::logs::LineId;
use crate::observe::session::FollowedLine;

/// The panel.
pub(in crate::app::tui) struct Log;

/// [`PanelState::mode`] when somebody has scrolled: the end is followed no more.
const STANDS: u8 = 1;

/// Why a line matters, the strongest reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    /// It says something that rules ask for.
    Notice,
    /// Some finding rests on it.
    Evidence,
    /// The selected finding rests on it.
    Selected,
}

impl Panel for Log {
    fn title(&self) -> &'static str {
        "Log"
    }

    fn rows(&self, cx: &Context<'_>, _state: &PanelState) -> usize {
        shown(cx).count()
    }

    fn draw(&self, cx: &Context<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
        let lines: Vec<&FollowedLine> = shown(cx).collect();
        if lines.is_empty() {
            let text = if cx.search.is_empty() {
                "no line of a log yet"
            } else {
                "no line has what is searched for"
            };
            buf.set_stringn(area.x, area.y, text, area.width as usize, cx.theme.style(Role::Dim));
            return;
        }
        if state.mode != STANDS {
            state.selected = lines.len() - 1;
        }
        let opened = state.is_open.then(|| lines.get(state.selected).copied()).flatten();
        let below = opened.map(|line| about(cx, line, area)).unwrap_or_default();
        let height = (area.height as usize).saturating_sub(below.len());
        let was_open = std::mem::take(&mut state.is_open);
        let window = state.window(lines.len(), height);
        state.is_open = was_open;
        let marks = marks(cx);
        for (y, row) in window.clone().enumerate() {
            let mark = marks.get(&lines[row].id).copied();
            let place = Rect { y: area.y + y as u16, height: 1, ..area };
            line(cx, lines[row], mark, row == state.selected, place, buf);
        }
        for (i, (text, role)) in below.iter().enumerate() {
            let y = area.y + (window.len() + i) as u16;
            if y < area.bottom() {
                let style = cx.theme.style(*role);
                buf.set_stringn(area.x, y, text, area.width as usize, style);
            }
        }
    }

    fn key(&self, cx: &Context<'_>, state: &mut PanelState, key: KeyCode) -> bool {
        let rows = shown(cx).count();
        match key {
            KeyCode::Up | KeyCode::Char('k' | 'g') | KeyCode::PageUp | KeyCode::Home => {
                state.mode = STANDS;
            }
            KeyCode::End | KeyCode::Char('G') => state.mode = 0,
            KeyCode::Down | KeyCode::Char('j') if state.selected + 2 >= rows => state.mode = 0,
            KeyCode::Enter => state.mode = STANDS,
            _ => {}
        }
        // Moving and opening are done by who calls; an opened line moves with the list.
        if state.is_open && !matches!(key, KeyCode::Esc | KeyCode::Backspace | KeyCode::Enter) {
            let to = match key {
                KeyCode::Up | KeyCode::Char('k') => state.selected.saturating_sub(1),
                KeyCode::Down | KeyCode::Char('j') => state.selected + 1,
                _ => return false,
            };
            state.selected = to.min(rows.saturating_sub(1));
            return true;
        }
        false
    }

    fn keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("End", "follow the newest line"), ("Enter", "the whole line, and who rests on it")]
    }

    fn opens(&self) -> bool {
        true
    }

    fn copied(&self, cx: &Context<'_>, state: &PanelState) -> Option<String> {
        shown(cx).nth(state.selected).map(|line| line.text.clone())
    }
}

/// The lines that the search leaves.
fn shown<'a>(cx: &'a Context<'_>) -> impl Iterator<Item = &'a FollowedLine> {
    let search = cx.search;
    let lines = cx.session.log.lines();
    lines.filter(move |l| search.is_empty() || l.text.to_lowercase().contains(search))
}

fn findings(diagnosis: &Diagnosis) -> impl Iterator<Item = &Finding> {
    let consequences = diagnosis.consequences.iter().map(|c| &c.0);
    diagnosis.findings.iter().chain(consequences).chain(&diagnosis.benign)
}

fn marks(cx: &Context<'_>) -> BTreeMap<LineId, Mark> {
    let mut marks = BTreeMap::new();
    for notice in cx.session.log.told().notices.values() {
        marks.extend([notice.first, notice.last].map(|line| (line, Mark::Notice)));
    }
    let evidence = findings(cx.diagnosis).flat_map(|f| &f.evidence);
    marks.extend(evidence.filter_map(|e| e.line).map(|line| (line, Mark::Evidence)));
    marks.extend(cx.evidence.lines.iter().map(|line| (*line, Mark::Selected)));
    marks
}

fn line(
    cx: &Context<'_>,
    line: &FollowedLine,
    mark: Option<Mark>,
    is_selected: bool,
    area: Rect,
    buf: &mut Buffer,
) {
    let (sign, role) = match (mark, cx.theme.unicode) {
        (None, _) => (' ', Role::Text),
        (Some(Mark::Notice), _) => ('-', Role::Strong),
        (Some(Mark::Evidence), true) => ('•', Role::Warning),
        (Some(Mark::Evidence), false) => ('*', Role::Warning),
        (Some(Mark::Selected), true) => ('▶', Role::Evidence),
        (Some(Mark::Selected), false) => ('>', Role::Evidence),
    };
    let digits = cx.session.log.count().to_string().len().max(3);
    let head = format!("{sign}{:>digits$} ", line.id.0);
    let style = cx.theme.style(if is_selected { Role::Selected } else { role });
    let dim = if mark.is_none() && !is_selected { cx.theme.style(Role::Dim) } else { style };
    let (x, _) = buf.set_stringn(area.x, area.y, &head, area.width as usize, dim);
    // A tab has no width of its own on a grid.
    let text = line.text.replace('\t', "    ");
    let (x, _) = buf.set_stringn(x, area.y, text, (area.right() - x) as usize, style);
    if is_selected {
        buf.set_style(Rect { x, width: area.right() - x, ..area }, style);
    }
}

/// The whole of a line and what is concluded from it, for below the list.
fn about(cx: &Context<'_>, line: &FollowedLine, area: Rect) -> Vec<(String, Role)> {
    let width = area.width as usize;
    let rule = if cx.theme.unicode { "─" } else { "-" };
    let mut below = vec![(rule.repeat(width), Role::Dim)];
    below.extend(wrap(&line.text, width).into_iter().map(|l| (l, Role::Text)));
    for finding in findings(cx.diagnosis) {
        for evidence in finding.evidence.iter().filter(|e| e.line == Some(line.id)) {
            let said = if evidence.text.is_empty() { &finding.title } else { &evidence.text };
            let text = format!("{}: {said}", finding.rule);
            below.extend(wrap(&text, width).into_iter().map(|l| (l, Role::Evidence)));
        }
    }
    below.truncate((area.height as usize * 2 / 3).max(1));
    below
}
