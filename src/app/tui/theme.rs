//! Colours by what they mean, for every kind of terminal; and marks, because colour is never the only
//! sign.

use ratatui::style::{Color, Modifier, Style};

/// How many colours there are, and on what ground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Palette {
    /// 256 colours or more on a dark ground.
    Dark,
    /// The same on a light one.
    Light,
    /// The 16 colours that every terminal has, as the terminal draws them.
    Sixteen,
    /// None.
    None,
}

/// Colours and marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Theme {
    palette: Palette,
    /// Whether the terminal shows more than ASCII: block elements, lines, arrows.
    pub unicode: bool,
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Plain text.
    Text,
    /// What matters less: units, causes, what is empty.
    Dim,
    /// Headings, and names of what is selected.
    Strong,
    /// Works well.
    Good,
    /// Could be better.
    Warning,
    /// Does not work.
    Bad,
    /// Time in which something computes.
    Compute,
    /// Time in which something is copied.
    Copy,
    /// Time in which something waits.
    Wait,
    /// The selected row.
    Selected,
    /// What the selected finding rests on.
    Evidence,
}

/// Colours of devices by their index, so that neighbours differ for every kind of eye; 256-colour
/// numbers for dark and light grounds, and the nearest of 16.
const DEVICES: [(u8, u8, Color); 6] = [
    (75, 25, Color::LightBlue),
    (214, 130, Color::Yellow),
    (114, 28, Color::Green),
    (176, 90, Color::Magenta),
    (80, 30, Color::Cyan),
    (210, 124, Color::LightRed),
];

/// One character for a device, where there is room for no more: `0` to `5`, `C` for the CPU.
pub(super) fn device_mark(name: &str) -> char {
    if name == "CPU" {
        return 'C';
    }
    name.chars().next_back().filter(char::is_ascii_digit).unwrap_or('?')
}

impl Theme {
    /// A theme.
    pub(super) fn new(palette: Palette, unicode: bool) -> Self {
        Self { palette, unicode }
    }

    /// Which colours it has.
    #[cfg(test)]
    pub(super) fn palette(&self) -> Palette {
        self.palette
    }

    /// The style of a meaning.
    pub(super) fn style(&self, role: Role) -> Style {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        match role {
            Role::Text => return plain,
            Role::Strong => return bold,
            Role::Selected => return plain.add_modifier(Modifier::REVERSED),
            Role::Dim if self.palette == Palette::None => return plain.add_modifier(Modifier::DIM),
            Role::Evidence if self.palette == Palette::None => {
                return bold.add_modifier(Modifier::UNDERLINED);
            }
            Role::Bad if self.palette == Palette::None => return bold,
            _ => {}
        }
        let (dark, light, sixteen) = match role {
            Role::Dim => (244, 243, Color::DarkGray),
            Role::Good | Role::Compute => (114, 28, Color::Green),
            Role::Warning | Role::Copy => (214, 130, Color::Yellow),
            Role::Bad | Role::Wait => (203, 160, Color::Red),
            _ => (87, 31, Color::Cyan),
        };
        let colour = match self.palette {
            Palette::Dark => Color::Indexed(dark),
            Palette::Light => Color::Indexed(light),
            Palette::Sixteen => sixteen,
            Palette::None => return plain,
        };
        if role == Role::Evidence { bold.fg(colour) } else { plain.fg(colour) }
    }

    /// The style of a device, by its index among `count`; the CPU, which is the last one of several, is
    /// grey, so that work on it stands out from GPUs.
    pub(super) fn device(&self, index: usize, count: usize) -> Style {
        let is_cpu = index + 1 == count;
        let (dark, light, sixteen) =
            if is_cpu { (250, 240, Color::Gray) } else { DEVICES[index % DEVICES.len()] };
        match self.palette {
            Palette::Dark => Style::new().fg(Color::Indexed(dark)),
            Palette::Light => Style::new().fg(Color::Indexed(light)),
            Palette::Sixteen => Style::new().fg(sixteen),
            Palette::None => Style::new(),
        }
    }

    /// A bar of `width` cells of which `share` is filled, in eighths of a cell where the terminal can.
    pub(super) fn bar(&self, share: f64, width: usize) -> String {
        const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        if !self.unicode {
            let full = (share * width as f64).round() as usize;
            return "#".repeat(full) + &".".repeat(width - full);
        }
        let eighths = (share * width as f64 * 8.0).round() as usize;
        let (full, rest) = (eighths / 8, eighths % 8);
        let mut bar = "█".repeat(full);
        if full < width {
            bar.push(EIGHTHS[rest]);
            bar.push_str(&" ".repeat(width - full - 1));
        }
        bar
    }

    /// A line of `values` over time, the newest at the right, each between 0 and `max`.
    pub(super) fn spark(&self, values: &[f64], max: f64, width: usize) -> String {
        const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        const ASCII: [char; 8] = ['_', '.', '-', '~', '=', '+', '*', '#'];
        let levels = if self.unicode { LEVELS } else { ASCII };
        let shown = &values[values.len().saturating_sub(width)..];
        let mut line = " ".repeat(width - shown.len());
        line.extend(shown.iter().map(|value| {
            let share = if max > 0.0 { (value / max).clamp(0.0, 1.0) } else { 0.0 };
            levels[((share * 8.0) as usize).min(7)]
        }));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill_their_width() {
        for unicode in [false, true] {
            let theme = Theme::new(Palette::None, unicode);
            for (share, width) in
                [(0.0, 10), (0.33, 7), (1.0, 5), (2.0, 3), (f64::NAN, 4), (0.5, 0)]
            {
                assert_eq!(theme.bar(share, width).chars().count(), width, "{share} {width}");
            }
            assert_eq!(theme.spark(&[0.0, 1.0, 2.0], 2.0, 5).chars().count(), 5);
            assert_eq!(theme.spark(&[0.0, 1.0, 2.0], 2.0, 2).chars().count(), 2);
        }
    }
}
