//! Lines of styled text, put where there is room for them.
//!
//! Not a layout engine: a panel gives lines from the top down and they end where the area does.
//! Invariant: nothing is drawn outside of the area, and a terminal without Unicode gets ASCII.

use std::borrow::Cow;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::tui::panel::Context;
use crate::app::tui::theme::Role;

/// Draws lines into an area from the top down.
pub(super) struct Pen<'a> {
    cx: &'a Context<'a>,
    area: Rect,
    next: u16,
    buf: &'a mut Buffer,
}

impl<'a> Pen<'a> {
    pub(super) fn new(cx: &'a Context<'a>, area: Rect, buf: &'a mut Buffer) -> Self {
        let area = area.intersection(buf.area);
        Self { cx, area, next: 0, buf }
    }

    /// Lines that still fit.
    pub(super) fn room(&self) -> usize {
        usize::from(self.area.height.saturating_sub(self.next))
    }

    /// Cells of a line.
    pub(super) fn width(&self) -> usize {
        self.area.width.into()
    }

    /// What is left of the area.
    pub(super) fn rest(&self) -> Rect {
        let taken = self.next.min(self.area.height);
        let (y, height) = (self.area.y + taken, self.area.height - taken);
        Rect { y, height, ..self.area }
    }

    /// The next line.
    pub(super) fn line(&mut self, line: impl Into<Line<'static>>) {
        let rest = self.rest();
        if rest.height > 0 {
            put(self.cx, Rect { height: 1, ..rest }, &line.into(), self.buf);
        }
        self.next = self.next.saturating_add(1);
    }

    /// Lines of one role, broken between words.
    pub(super) fn words(&mut self, role: Role, text: &str) {
        for line in wrapped(text, self.width()) {
            self.line(styled(self.cx, role, line));
        }
    }

    /// Leaves out lines that were drawn by something else.
    pub(super) fn skip(&mut self, lines: u16) {
        self.next = self.next.saturating_add(lines);
    }

    /// The buffer and what is left of the area, for what draws itself.
    pub(super) fn give(&mut self) -> (Rect, &mut Buffer) {
        (self.rest(), self.buf)
    }
}

/// Puts a line at the upper left of an area. What does not fit is cut.
pub(super) fn put(cx: &Context<'_>, area: Rect, line: &Line<'_>, buf: &mut Buffer) {
    let area = area.intersection(buf.area);
    if area.is_empty() {
        return;
    }
    let (mut x, end) = (area.x, area.right());
    for span in &line.spans {
        if x >= end {
            break;
        }
        let text = plain(cx.theme.unicode, &span.content);
        let style = line.style.patch(span.style);
        (x, _) = buf.set_stringn(x, area.y, text, usize::from(end - x), style);
    }
}

/// Text that the terminal can show.
fn plain(unicode: bool, text: &str) -> Cow<'_, str> {
    if unicode || text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if c.is_ascii() => ascii.push(c),
            'µ' => ascii.push('u'),
            '→' => ascii.push('>'),
            '≤' => ascii.push('<'),
            '×' => ascii.push('x'),
            '·' | '…' => ascii.push('.'),
            '°' => {}
            _ => ascii.push('?'),
        }
    }
    Cow::Owned(ascii)
}

/// Text of one role.
pub(super) fn styled(cx: &Context<'_>, role: Role, text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), cx.theme.style(role))
}

/// Text as it is.
pub(super) fn raw(text: impl Into<String>) -> Span<'static> {
    Span::raw(text.into())
}

/// A text that fits, or its beginning with a sign that more follows.
pub(super) fn clipped(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

/// The end of a text, with a sign when something stands before it.
pub(super) fn end_of(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_string();
    }
    let end = text.chars().skip(count - width.saturating_sub(1));
    if width == 0 { String::new() } else { std::iter::once('…').chain(end).collect() }
}

/// Text in lines of at most `width` cells, broken between words where that can be.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let width = width.max(1);
    let mut line = String::new();
    let mut cells = 0;
    for word in text.split_whitespace() {
        let long = word.chars().count();
        if cells > 0 && cells + 1 + long > width {
            lines.push(std::mem::take(&mut line));
            cells = 0;
        }
        if cells > 0 {
            line.push(' ');
            cells += 1;
        }
        line.push_str(word);
        cells += long;
    }
    if cells > 0 {
        lines.push(line);
    }
    lines
}

/// A share as people read it: `12.3 %`.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", 100.0 * share) } else { "-".to_string() }
}

/// `part` of `whole`; nothing of nothing is 0.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A frequency: `2.10 GHz`.
pub(super) fn hertz(hz: f64) -> String {
    if hz >= 1e9 { format!("{:.2} GHz", hz / 1e9) } else { format!("{:.0} MHz", hz / 1e6) }
}

/// The style of a device by its name.
pub(super) fn device_style(cx: &Context<'_>, name: &str) -> Style {
    let devices = &cx.session.sums.devices;
    if let Some(at) = devices.iter().position(|d| d.name == name) {
        return cx.theme.device(at, devices.len());
    }
    let planned = cx.session.setup.as_ref().map_or(&[][..], |s| &s.devices);
    match planned.iter().position(|d| d.name == name) {
        Some(at) => cx.theme.device(at, planned.len()),
        None if name.starts_with("CPU") || name.ends_with("_Host") => cx.theme.device(0, 1),
        None => cx.theme.device(named_number(name), usize::MAX),
    }
}

/// The number at the end of a name.
fn named_number(name: &str) -> usize {
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or(0)
}

/// A device's name in its colour.
pub(super) fn device(cx: &Context<'_>, name: &str) -> Span<'static> {
    Span::styled(name.to_string(), device_style(cx, name))
}

/// Whether a row has what is looked for; `/` gives it in lower case.
pub(super) fn matches(cx: &Context<'_>, texts: &[&str]) -> bool {
    cx.search.is_empty() || texts.iter().any(|t| t.to_lowercase().contains(cx.search))
}

/// Text of others on one line: no control characters, no line ends.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_control() {
            line.push(c);
        } else if !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_breaks_between_words_and_is_cut_with_a_sign() {
        assert_eq!(wrapped("a bc  def g", 4), ["a bc", "def", "g"]);
        assert_eq!(wrapped("", 4), [""; 0]);
        assert_eq!((clipped("abcdef", 4), clipped("ab", 4)), ("abc…".into(), "ab".into()));
        assert_eq!((end_of("abcdef", 4), end_of("ab", 0)), ("…def".into(), String::new()));
        assert_eq!(one_line("a\n\nb\tc\u{1b}[1m"), "a b c [1m");
    }

    #[test]
    fn a_terminal_without_unicode_gets_ascii() {
        assert_eq!(plain(false, "1 µs → 65 °C · x"), "1 us > 65 C . x");
        assert_eq!(plain(true, "1 µs"), "1 µs");
    }
}
