//! Tables of aligned columns, for terminals and as Markdown.

use std::fmt::Write;

/// Whether text may carry colour codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    #[default]
    Plain,
    /// ANSI codes for bold and dim; the text says everything without them too.
    Colour,
}

impl Style {
    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Something secondary.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_string(),
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// Rows under a head. A column whose head begins with `>` is aligned to the right.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(head: &[&str]) -> Self {
        let right = head.iter().map(|h| h.starts_with('>')).collect();
        let head = head.iter().map(|h| h.trim_start_matches('>').to_string()).collect();
        Self { head, right, rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.head.len(), String::new());
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// With spaces between columns, each line after `indent`.
    pub fn text(&self, indent: &str, style: Style) -> String {
        let widths = self.widths();
        let mut out = String::new();
        let line = |cells: &[String]| {
            let mut line = String::new();
            for ((cell, &width), &right) in cells.iter().zip(&widths).zip(&self.right) {
                let _ = if right {
                    write!(line, "{cell:>width$}  ")
                } else {
                    write!(line, "{cell:<width$}  ")
                };
            }
            line.trim_end().to_string()
        };
        let _ = writeln!(out, "{indent}{}", style.dim(&line(&self.head)));
        for row in &self.rows {
            let _ = writeln!(out, "{indent}{}", line(row));
        }
        out
    }

    /// As a Markdown table, aligned in the source too.
    pub fn markdown(&self) -> String {
        let widths = self.widths();
        let mut out = String::from("|");
        let cell = |text: &str, width: usize, right: bool| {
            let text = text.replace('|', "\\|");
            if right { format!(" {text:>width$} |") } else { format!(" {text:<width$} |") }
        };
        for (i, head) in self.head.iter().enumerate() {
            out.push_str(&cell(head, widths[i], self.right[i]));
        }
        out.push_str("\n|");
        for (&width, &right) in widths.iter().zip(&self.right) {
            let dashes = "-".repeat(width.saturating_sub(usize::from(right)).max(1));
            let _ = write!(out, " {dashes}{} |", if right { ":" } else { "" });
        }
        out.push('\n');
        for row in &self.rows {
            out.push('|');
            for (i, text) in row.iter().enumerate() {
                out.push_str(&cell(text, widths[i], self.right[i]));
            }
            out.push('\n');
        }
        out
    }

    fn widths(&self) -> Vec<usize> {
        let width = |i: usize| {
            let cells = self.rows.iter().map(|r| r[i].chars().count());
            cells.chain([self.head[i].chars().count()]).max().unwrap_or(0)
        };
        (0..self.head.len()).map(width).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["name", ">size"]);
        table.row(["a|b".to_string(), "1".to_string()]);
        table.row(["µ".to_string(), "1000".to_string()]);
        table
    }

    #[test]
    fn columns_line_up() {
        assert_eq!(table().text("  ", Style::Plain), "  name  size\n  a|b      1\n  µ     1000\n");
        let coloured = table().text("", Style::Colour);
        assert!(coloured.starts_with("\x1b[2mname  size\x1b[0m\n"), "{coloured:?}");
    }

    #[test]
    fn markdown_escapes_and_aligns() {
        let expected = "| name | size |\n| ---- | ---: |\n| a\\|b |    1 |\n| µ    | 1000 |\n";
        assert_eq!(table().markdown(), expected);
    }
}
