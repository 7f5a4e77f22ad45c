//! Tables: columns of fixed width of which the least needed give way, and rows of which the selected
//! one and those that are evidence are marked.
//!
//! Widths do not follow the rows that happen to be shown, so nothing jumps while scrolling.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::tui::panel::{Context, PanelState};
use crate::app::tui::theme::Role;

use super::kit::{clipped, end_of, put, styled};

/// One column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Its heading.
    title: &'static str,
    /// Its cells; of the one that takes what is left, the fewest.
    width: usize,
    /// Its cells where there is room.
    wide: usize,
    /// How it is placed.
    kind: Kind,
    /// When room is short, those with the highest number go first; 0 stays.
    rank: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Left,
    Right,
    /// Takes what is left; of long text the beginning is shown.
    Rest,
    /// The same, and the end of long text is shown.
    Tail,
}

/// A column of text.
pub(super) const fn left(title: &'static str, width: usize, rank: u8) -> Column {
    Column { title, width, wide: width, kind: Kind::Left, rank }
}

/// A column of text that is wider where there is room.
pub(super) const fn wide(title: &'static str, width: usize, wide: usize, rank: u8) -> Column {
    Column { title, width, wide, kind: Kind::Left, rank }
}

/// A column of figures.
pub(super) const fn right(title: &'static str, width: usize, rank: u8) -> Column {
    Column { title, width, wide: width, kind: Kind::Right, rank }
}

/// A column that takes what is left; several share it.
pub(super) const fn rest(title: &'static str, width: usize, rank: u8) -> Column {
    Column { title, width, wide: width, kind: Kind::Rest, rank }
}

/// The same for text of which the end tells most.
pub(super) const fn tail(title: &'static str, width: usize, rank: u8) -> Column {
    Column { title, width, wide: width, kind: Kind::Tail, rank }
}

/// One row.
pub(super) struct Row {
    /// A cell for each column.
    pub cells: Vec<Span<'static>>,
    /// Whether the selected finding rests on it.
    pub is_evidence: bool,
}

impl Row {
    pub(super) fn new(cells: Vec<Span<'static>>) -> Self {
        Self { cells, is_evidence: false }
    }

    pub(super) fn evidence(mut self, is_evidence: bool) -> Self {
        self.is_evidence = is_evidence;
        self
    }
}

/// Draws a heading and as many rows as fit, the selected one among them.
pub(super) fn table(
    cx: &Context<'_>,
    state: &mut PanelState,
    columns: &[Column],
    (rows, row): (usize, impl Fn(usize) -> Row),
    area: Rect,
    buf: &mut Buffer,
) {
    let shown = fit(columns, area.width.saturating_sub(1).into());
    let heading = heading(cx, columns, &shown, area, buf);
    let height = area.height.saturating_sub(heading);
    let selected = if state.is_open { state.inner } else { state.selected };
    let selected = selected.min(rows.saturating_sub(1));
    for (at, index) in state.window(rows, height.into()).enumerate() {
        let y = area.y + heading + at as u16;
        let place = Rect { y, height: 1, ..area };
        draw_row(cx, row(index), index == selected, (columns, &shown), place, buf);
    }
}

/// Draws a heading and rows of which none can be selected, from the first on.
pub(super) fn list(
    cx: &Context<'_>,
    columns: &[Column],
    rows: impl IntoIterator<Item = Row>,
    area: Rect,
    buf: &mut Buffer,
) {
    let shown = fit(columns, area.width.saturating_sub(1).into());
    let heading = heading(cx, columns, &shown, area, buf);
    for (row, y) in rows.into_iter().zip(area.y + heading..area.bottom()) {
        let place = Rect { y, height: 1, ..area };
        draw_row(cx, row, false, (columns, &shown), place, buf);
    }
}

/// Draws the heading, and says how many lines it took: a table of which only it fits shows a row
/// instead.
fn heading(
    cx: &Context<'_>,
    columns: &[Column],
    shown: &[usize],
    area: Rect,
    buf: &mut Buffer,
) -> u16 {
    if area.height < 2 {
        return 0;
    }
    let cells: Vec<Span<'static>> =
        columns.iter().map(|c| styled(cx, Role::Dim, c.title)).collect();
    put(cx, area, &laid_out(" ".into(), &cells, columns, shown), buf);
    1
}

fn draw_row(
    cx: &Context<'_>,
    Row { cells, is_evidence }: Row,
    is_selected: bool,
    (columns, shown): (&[Column], &[usize]),
    place: Rect,
    buf: &mut Buffer,
) {
    let mark = match (is_evidence, cx.theme.unicode) {
        (true, true) => styled(cx, Role::Evidence, "◆"),
        (true, false) => styled(cx, Role::Evidence, "*"),
        (false, _) if is_selected => ">".into(),
        (false, _) => " ".into(),
    };
    let mut line = laid_out(mark, &cells, columns, shown);
    if is_evidence && let Some(name) = line.spans.get_mut(1) {
        name.style = name.style.patch(cx.theme.style(Role::Evidence));
    }
    put(cx, place, &line, buf);
    if is_selected {
        buf.set_style(place.intersection(buf.area), cx.theme.style(Role::Selected));
    }
}

/// The width of each column, 0 for one that is left out.
fn fit(columns: &[Column], width: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|c| c.width).collect();
    let used = |widths: &[usize]| widths.iter().filter(|w| **w > 0).map(|w| w + 1).sum::<usize>();
    let mut ranks: Vec<u8> = columns.iter().map(|c| c.rank).filter(|r| *r > 0).collect();
    ranks.sort_unstable();
    while used(&widths) > width + 1
        && let Some(rank) = ranks.pop()
    {
        for (column, width) in columns.iter().zip(&mut widths) {
            if column.rank == rank {
                *width = 0;
            }
        }
    }
    let mut spare = (width + 1).saturating_sub(used(&widths));
    for (column, width) in columns.iter().zip(&mut widths).filter(|(_, w)| **w > 0) {
        let more = (column.wide - column.width).min(spare);
        *width += more;
        spare -= more;
    }
    let takes_rest = |at: usize| matches!(columns[at].kind, Kind::Rest | Kind::Tail);
    let all: Vec<usize> =
        (0..columns.len()).filter(|at| takes_rest(*at) && widths[*at] > 0).collect();
    for (nth, &at) in all.iter().enumerate() {
        widths[at] += spare / all.len() + usize::from(nth < spare % all.len());
    }
    widths
}

fn laid_out(
    mark: Span<'static>,
    cells: &[Span<'static>],
    columns: &[Column],
    widths: &[usize],
) -> Line<'static> {
    let mut spans = vec![mark];
    let mut is_first = true;
    for ((cell, column), &width) in cells.iter().zip(columns).zip(widths) {
        if width == 0 {
            continue;
        }
        let text = match column.kind {
            Kind::Tail => end_of(&cell.content, width),
            _ => clipped(&cell.content, width),
        };
        let pad = width.saturating_sub(Span::raw(text.as_str()).width());
        let gap = if is_first { "" } else { " " };
        is_first = false;
        let text = match column.kind {
            Kind::Right => format!("{gap}{}{text}", " ".repeat(pad)),
            _ => format!("{gap}{text}{}", " ".repeat(pad)),
        };
        spans.push(Span::styled(text, cell.style));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_give_way_by_rank_and_the_rest_is_taken() {
        let columns = [left("a", 4, 0), right("b", 6, 2), rest("c", 5, 0), right("d", 3, 1)];
        let grows = [wide("a", 4, 7, 0), rest("c", 5, 0)];
        assert_eq!((fit(&grows, 12), fit(&grows, 20)), (vec![6, 5], vec![7, 12]));
        assert_eq!(fit(&columns, 30), [4, 6, 14, 3]);
        assert_eq!(fit(&columns, 21), [4, 6, 5, 3]);
        assert_eq!(fit(&columns, 20), [4, 0, 11, 3]);
        assert_eq!(fit(&columns, 12), [4, 0, 7, 0]);
        assert_eq!(fit(&columns, 0), [4, 0, 5, 0]);
    }
}
