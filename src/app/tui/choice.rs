//! Which colours and characters a terminal can be trusted with.
//!
//! No terminal is asked, because answers come late or never through multiplexers: the environment
//! tells, and whoever knows better says so with a flag.

use clap::ValueEnum;

use super::theme::{Palette, Theme};

/// What to draw with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::app) enum ThemeChoice {
    /// By NO_COLOR, TERM, COLORTERM and COLORFGBG
    #[default]
    Auto,
    /// Many colours on a dark ground
    Dark,
    /// Many colours on a light ground
    Light,
    /// The terminal's own 16 colours
    #[value(name = "16")]
    Sixteen,
    /// No colour
    None,
}

impl ThemeChoice {
    /// The theme, with the help of environment variables.
    pub(super) fn theme(self, variable: &dyn Fn(&str) -> Option<String>) -> Theme {
        let palette = match self {
            Self::Auto => palette(variable),
            Self::Dark => Palette::Dark,
            Self::Light => Palette::Light,
            Self::Sixteen => Palette::Sixteen,
            Self::None => Palette::None,
        };
        Theme::new(palette, has_unicode(variable))
    }
}

fn palette(variable: &dyn Fn(&str) -> Option<String>) -> Palette {
    let set = |name: &str| variable(name).filter(|v| !v.is_empty());
    let terminal = set("TERM").unwrap_or_default();
    if set("NO_COLOR").is_some() || terminal == "dumb" || terminal.starts_with("vt") {
        return Palette::None;
    }
    let colours = set("COLORTERM").unwrap_or_default();
    let has_many = terminal.contains("256color")
        || terminal.contains("direct")
        || colours == "truecolor"
        || colours == "24bit"
        || ["alacritty", "foot", "ghostty", "kitty", "wezterm"]
            .iter()
            .any(|t| terminal.contains(t));
    if !has_many {
        return Palette::Sixteen;
    }
    // `foreground;background`, sometimes with a word in between; 7 and 9 to 15 are light.
    let ground = set("COLORFGBG").and_then(|v| v.rsplit(';').next()?.parse::<u8>().ok());
    match ground {
        Some(7 | 9..=15) => Palette::Light,
        _ => Palette::Dark,
    }
}

/// The first of these that is set decides, as in C.
fn has_unicode(variable: &dyn Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| variable(name).filter(|v| !v.is_empty()));
    let Some(locale) = set else { return cfg!(not(unix)) };
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(set: &[(&str, &str)]) -> (Palette, bool) {
        let find = |name: &str| set.iter().find(|s| s.0 == name).map(|s| s.1.to_string());
        let theme = ThemeChoice::Auto.theme(&find);
        (theme.palette(), theme.unicode)
    }

    #[test]
    fn the_environment_tells_what_can_be_drawn() {
        let xterm = ("TERM", "xterm-256color");
        assert_eq!(auto(&[xterm, ("LANG", "de_DE.UTF-8")]), (Palette::Dark, true));
        assert_eq!(auto(&[xterm, ("LANG", "C.UTF-8"), ("LC_ALL", "C")]), (Palette::Dark, false));
        assert_eq!(auto(&[xterm, ("COLORFGBG", "0;15")]).0, Palette::Light);
        assert_eq!(auto(&[xterm, ("COLORFGBG", "12;default;8")]).0, Palette::Dark);
        assert_eq!(auto(&[xterm, ("NO_COLOR", "1")]).0, Palette::None);
        assert_eq!(auto(&[xterm, ("NO_COLOR", "")]).0, Palette::Dark);
        assert_eq!(auto(&[("TERM", "linux")]).0, Palette::Sixteen);
        assert_eq!(auto(&[("TERM", "linux"), ("COLORTERM", "truecolor")]).0, Palette::Dark);
        assert_eq!(auto(&[("TERM", "dumb")]).0, Palette::None);
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let find = |_: &str| Some("1".to_string());
        assert_eq!(ThemeChoice::Light.theme(&find).palette(), Palette::Light);
        assert_eq!(ThemeChoice::Auto.theme(&find).palette(), Palette::None);
    }
}
