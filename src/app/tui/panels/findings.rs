//! What is wrong, what only looks so, and what cannot be told yet; opened, with evidence and fixes.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::advise::diagnose::{
    Diagnosis, Evidence, Finding, FixTarget, Impact, Kind, NeedMore, Severity, forms,
};
use crate::app::tui::panel::{Context, Highlight, Panel, PanelState};
use crate::app::tui::text::{cut, wrap};
use crate::app::tui::theme::{Role, Theme};
use crate::observe::logs::LineId;

/// The panel.
pub(in crate::app::tui) struct Findings;

/// One row of the list.
#[derive(Clone, Copy)]
enum Row<'a> {
    /// A cause, or what looks like a problem and is none.
    Found(&'a Finding),
    /// What follows from another finding.
    Follows(&'a Finding, &'static str),
    /// What cannot be told yet.
    Open(&'static str, &'a NeedMore),
}

impl<'a> Row<'a> {
    fn rule(self) -> &'static str {
        match self {
            Self::Found(finding) | Self::Follows(finding, _) => finding.rule,
            Self::Open(rule, _) => rule,
        }
    }

    fn finding(self) -> Option<&'a Finding> {
        match self {
            Self::Found(finding) | Self::Follows(finding, _) => Some(finding),
            Self::Open(..) => None,
        }
    }

    fn title(self) -> &'a str {
        match self {
            Self::Found(finding) | Self::Follows(finding, _) => &finding.title,
            Self::Open(_, need) => &need.missing,
        }
    }

    /// A mark, a word and their colour.
    fn severity(self, theme: &Theme) -> (char, &'static str, Role) {
        let Some(finding) = self.finding() else { return ('?', "open", Role::Dim) };
        severity(finding, theme)
    }
}

/// A mark, a word and their colour.
pub(in crate::app::tui) fn severity(
    finding: &Finding,
    theme: &Theme,
) -> (char, &'static str, Role) {
    let mark = |unicode, ascii| if theme.unicode { unicode } else { ascii };
    match (finding.kind, finding.severity) {
        (Kind::Benign, _) => (mark('○', 'o'), "normal", Role::Good),
        (Kind::Problem, Severity::Error) => (mark('✖', 'X'), "error", Role::Bad),
        (Kind::Problem, Severity::Warning) => (mark('▲', '!'), "warning", Role::Warning),
        (Kind::Problem, Severity::Info) => (mark('●', 'i'), "info", Role::Strong),
    }
}

fn rows<'a>(diagnosis: &'a Diagnosis, search: &'a str) -> impl Iterator<Item = Row<'a>> {
    let found = diagnosis.findings.iter().map(Row::Found);
    let follows = diagnosis.consequences.iter().map(|(f, cause)| Row::Follows(f, cause));
    let benign = diagnosis.benign.iter().map(Row::Found);
    let open = diagnosis.open.iter().map(|(rule, need)| Row::Open(rule, need));
    found.chain(follows).chain(benign).chain(open).filter(move |row| {
        search.is_empty()
            || row.title().to_lowercase().contains(search)
            || row.rule().contains(search)
    })
}

/// In which row a rule's finding is.
pub(in crate::app::tui) fn position(
    diagnosis: &Diagnosis,
    search: &str,
    rule: &str,
) -> Option<usize> {
    rows(diagnosis, search).position(|row| row.rule() == rule)
}

/// Which rule's finding is in a row.
pub(in crate::app::tui) fn rule(
    diagnosis: &Diagnosis,
    search: &str,
    row: usize,
) -> Option<&'static str> {
    rows(diagnosis, search).nth(row).map(Row::rule)
}

/// What the finding in a row rests on.
pub(in crate::app::tui) fn highlight(diagnosis: &Diagnosis, search: &str, row: usize) -> Highlight {
    let finding = rows(diagnosis, search).nth(row).and_then(Row::finding);
    let evidence = || finding.into_iter().flat_map(|f| &f.evidence);
    Highlight {
        places: evidence().filter_map(|e| e.place.clone()).collect(),
        lines: evidence().filter_map(|e| e.line).collect(),
    }
}

impl Panel for Findings {
    fn title(&self) -> &'static str {
        "Findings"
    }

    fn rows(&self, cx: &Context<'_>, state: &PanelState) -> usize {
        if !state.is_open {
            return rows(cx.diagnosis, cx.search).count();
        }
        selected(cx, state).map_or(0, |row| items(cx, row).len())
    }

    fn draw(&self, cx: &Context<'_>, state: &mut PanelState, area: Rect, buf: &mut Buffer) {
        if area.is_empty() {
            return;
        }
        if let Some(row) = selected(cx, state).filter(|_| state.is_open) {
            draw_opened(cx, &items(cx, row), state, area, buf);
            return;
        }
        let list: Vec<Row<'_>> = rows(cx.diagnosis, cx.search).collect();
        if list.is_empty() {
            let text = if cx.search.is_empty() {
                "nothing found: what was seen so far is as it should be"
            } else {
                "no finding has what is searched for"
            };
            for (y, line) in wrap(text, area.width as usize).iter().enumerate() {
                let y = area.y + y as u16;
                if y < area.bottom() {
                    buf.set_stringn(
                        area.x,
                        y,
                        line,
                        area.width as usize,
                        cx.theme.style(Role::Dim),
                    );
                }
            }
            return;
        }
        // Where there is room, the selected one is told in whole below the list.
        let detail = (area.height as usize).saturating_sub(list.len().min(8) + 1);
        let window = state.window(list.len(), (area.height as usize).saturating_sub(detail));
        for (y, row) in window.clone().enumerate() {
            let place = Rect { y: area.y + y as u16, height: 1, ..area };
            draw_row(cx, list[row], row == state.selected, place, buf);
        }
        let below = area.y + window.len() as u16 + 1;
        if detail > 1 && below < area.bottom() {
            let place = Rect { y: below, height: area.bottom() - below, ..area };
            draw_below(cx, list[state.selected], place, buf);
        }
    }

    fn opens(&self) -> bool {
        true
    }

    fn keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("Enter", "evidence and fixes"), ("y", "copy the fix")]
    }

    fn copied(&self, cx: &Context<'_>, state: &PanelState) -> Option<String> {
        let row = selected(cx, state)?;
        let mut items = items(cx, row);
        if state.is_open {
            let chosen = items.get_mut(state.inner)?;
            if let Some(text) = chosen.copied.take() {
                return Some(text);
            }
        }
        // Nothing chosen: the first form of the best fix.
        items.into_iter().find(|item| item.is_fix).and_then(|item| item.copied)
    }
}

fn selected<'a>(cx: &'a Context<'_>, state: &PanelState) -> Option<Row<'a>> {
    rows(cx.diagnosis, cx.search).nth(state.selected)
}

fn draw_row(cx: &Context<'_>, row: Row<'_>, is_selected: bool, area: Rect, buf: &mut Buffer) {
    let (mark, word, role) = row.severity(cx.theme);
    let width = area.width as usize;
    let style = cx.theme.style(role);
    let (x, _) = buf.set_stringn(area.x, area.y, format!("{mark} {word:<8}"), width, style);
    let indent = if matches!(row, Row::Follows(..)) { "  so: " } else { "" };
    let room = (area.right() - x) as usize;
    let text = cut(&format!("{indent}{}", row.title()), room, cx.theme.unicode);
    let role = if matches!(row, Row::Open(..)) { Role::Dim } else { Role::Text };
    buf.set_stringn(x, area.y, text, room, cx.theme.style(role));
    if is_selected {
        buf.set_style(area, cx.theme.style(Role::Selected));
    }
}

/// What fits of a row's explanation.
fn draw_below(cx: &Context<'_>, row: Row<'_>, area: Rect, buf: &mut Buffer) {
    let mut y = area.y;
    for item in items(cx, row) {
        for (text, role) in item.lines(area.width as usize) {
            if y >= area.bottom() {
                return;
            }
            if y + 1 == area.bottom() {
                let more = "Enter shows the rest";
                buf.set_stringn(area.x, y, more, area.width as usize, cx.theme.style(Role::Dim));
                return;
            }
            buf.set_stringn(area.x, y, text, area.width as usize, cx.theme.style(role));
            y += 1;
        }
    }
}

/// A part of what is told of a finding; one of them is selected.
struct Item {
    /// Paragraphs, with their colours.
    parts: Vec<(String, Role)>,
    /// What `y` copies.
    copied: Option<String>,
    is_fix: bool,
}

impl Item {
    fn text(text: impl Into<String>, role: Role) -> Self {
        Self { parts: vec![(text.into(), role)], copied: None, is_fix: false }
    }

    fn lines(&self, width: usize) -> Vec<(String, Role)> {
        let of = |(text, role): &(String, Role)| -> Vec<(String, Role)> {
            wrap(text, width).into_iter().map(|line| (line, *role)).collect()
        };
        self.parts.iter().flat_map(of).collect()
    }
}

fn items(cx: &Context<'_>, row: Row<'_>) -> Vec<Item> {
    let (mark, word, role) = row.severity(cx.theme);
    let mut items = vec![Item::text(format!("{mark} {word}: {}", row.title()), role)];
    let finding = match row {
        Row::Open(rule, need) => {
            items.push(Item::text("There is not enough data yet to tell.", Role::Text));
            let settle = Item {
                copied: Some(need.settle_by.clone()),
                ..Item::text(format!("It would be settled by: {}", need.settle_by), Role::Text)
            };
            items.push(settle);
            items.push(Item::text(format!("gpuwhy explain {rule}"), Role::Dim));
            return items;
        }
        Row::Follows(finding, cause) => {
            items.push(Item::text(format!("Follows from {cause}."), Role::Dim));
            finding
        }
        Row::Found(finding) => finding,
    };
    items.push(Item::text(how_sure(finding), Role::Dim));
    items.extend(sentences(&finding.explanation).into_iter().map(|s| Item::text(s, Role::Text)));
    for (number, evidence) in finding.evidence.iter().enumerate() {
        items.push(evidence_item(cx, evidence, number == 0));
    }
    fix_items(cx, finding, &mut items);
    items.push(Item::text(format!("gpuwhy explain {}", finding.rule), Role::Dim));
    items
}

fn how_sure(finding: &Finding) -> String {
    let impact = match finding.impact {
        Impact::Failure => "makes it fail".to_string(),
        Impact::NoGpu => "leaves the GPU unused".to_string(),
        Impact::Slower(share) => format!("explains about {:.0} % of the time", share * 100.0),
        Impact::WrongInput => "changes what is answered".to_string(),
        Impact::Risk => "may do harm later".to_string(),
        Impact::None => "costs nothing".to_string(),
    };
    format!("{impact}; {:.0} % sure", finding.confidence * 100.0)
}

/// A text in parts that a small screen can show one by one.
fn sentences(text: &str) -> Vec<String> {
    const PART_MIN: usize = 160;
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let mut part = String::new();
        for sentence in line.split_inclusive(". ") {
            part.push_str(sentence);
            if part.len() >= PART_MIN {
                parts.push(std::mem::take(&mut part).trim_end().to_string());
            }
        }
        parts.extend(Some(part.trim_end().to_string()).filter(|p| !p.is_empty()));
    }
    parts
}

fn evidence_item(cx: &Context<'_>, evidence: &Evidence, is_first: bool) -> Item {
    let mut parts = Vec::new();
    if is_first {
        parts.push(("Evidence".to_string(), Role::Strong));
    }
    let text = evidence.line.and_then(|line| line_text(cx, line));
    if !evidence.text.is_empty() {
        parts.push((format!("  {}", evidence.text), Role::Evidence));
    }
    if let Some(line) = evidence.line {
        let said = text.clone().unwrap_or_else(|| "(no longer kept)".to_string());
        parts.push((format!("  line {}: {said}", line.0), Role::Text));
    }
    Item { parts, copied: text.or(Some(evidence.text.clone())), is_fix: false }
}

fn line_text(cx: &Context<'_>, line: LineId) -> Option<String> {
    let told = cx.session.log.told().lines.get(line).map(|l| l.text.to_string());
    told.or_else(|| cx.session.log.lines().find(|l| l.id == line).map(|l| l.text.clone()))
}

fn fix_items(cx: &Context<'_>, finding: &Finding, items: &mut Vec<Item>) {
    let told = cx.session.log.told();
    let os = told.os.as_ref().map(|os| os.value.as_str());
    for (number, fix) in finding.fixes.iter().enumerate() {
        let mut parts = Vec::new();
        if number == 0 {
            parts.push(("Fixes".to_string(), Role::Strong));
        }
        let change = match (fix.target, fix.name.as_str(), fix.value.as_str()) {
            // What to do in words; the command stands below.
            (FixTarget::System, name, _) | (_, name, "") => name.to_string(),
            (FixTarget::Env, name, value) => format!("{name}={value}"),
            (_, name, value) => format!("{name} {value}"),
        };
        parts.push((format!("  {}. {change}", number + 1), Role::Good));
        if !fix.reason.is_empty() {
            parts.push((format!("     {}", fix.reason), Role::Text));
        }
        if !fix.expected.is_empty() {
            parts.push((format!("     Then: {}", fix.expected), Role::Text));
        }
        items.push(Item { parts, copied: None, is_fix: false });
        for (form, text) in forms(fix, told.engine, os) {
            let mut parts = vec![(format!("     {}:", form.name()), Role::Dim)];
            parts.extend(text.lines().map(|line| (format!("       {line}"), Role::Strong)));
            items.push(Item { parts, copied: Some(text), is_fix: true });
        }
    }
}

fn draw_opened(
    cx: &Context<'_>,
    items: &[Item],
    state: &mut PanelState,
    area: Rect,
    buf: &mut Buffer,
) {
    let (width, height) = ((area.width as usize).saturating_sub(2).max(1), area.height as usize);
    state.inner = state.inner.min(items.len().saturating_sub(1));
    let mut lines: Vec<(usize, String, Role)> = Vec::new();
    for (number, item) in items.iter().enumerate() {
        lines.extend(item.lines(width).into_iter().map(|(text, role)| (number, text, role)));
    }
    let first = lines.iter().position(|l| l.0 == state.inner).unwrap_or(0);
    let last = lines.iter().rposition(|l| l.0 == state.inner).unwrap_or(0);
    // The whole of the selected part is shown, or at least its beginning.
    let offset = &mut state.inner_offset;
    *offset = (*offset).max((last + 1).saturating_sub(height)).min(first);
    *offset = (*offset).min(lines.len().saturating_sub(height));
    let bar = if cx.theme.unicode { "▌" } else { ">" };
    for (y, (number, text, role)) in lines.iter().skip(*offset).take(height).enumerate() {
        let y = area.y + y as u16;
        if *number == state.inner {
            buf.set_stringn(area.x, y, bar, 1, cx.theme.style(Role::Evidence));
        }
        buf.set_stringn(area.x + 2, y, text, width, cx.theme.style(*role));
    }
}
