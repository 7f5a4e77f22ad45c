//! The devices: who computes, who takes a copy, who waits for whom. Always on the screen, because that
//! is the question.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::app::tui::activity::{Activity, Shares};
use crate::app::tui::state::State;
use crate::app::tui::text::cut;
use crate::app::tui::theme::{Role, Theme};
use crate::base::units::Bytes;

/// From this width on the shares are told in words.
const WIDTH_OF_WORDS: u16 = 100;

/// What the three shares are drawn with.
pub(in crate::app::tui) fn patterns(theme: &Theme) -> [char; 3] {
    if theme.unicode { ['█', '▒', '·'] } else { ['#', '=', '.'] }
}

/// Draws one line for each device.
pub(super) fn draw(state: &State, devices: &[Activity], area: Rect, buf: &mut Buffer) {
    if devices.is_empty() {
        let text = if state.shown().events == 0 {
            format!("waiting for {}", waits_for(state))
        } else {
            "no device has been told of yet".to_string()
        };
        let style = state.theme.style(Role::Dim);
        buf.set_stringn(area.x, area.y, text, area.width as usize, style);
        return;
    }
    let names = devices.iter().map(|d| d.name.chars().count()).max().unwrap_or(0).min(12);
    for (y, device) in devices.iter().take(area.height as usize).enumerate() {
        let is_last = y + 1 == area.height as usize;
        let left_out = devices.len() - y - 1;
        let line = Rect { y: area.y + y as u16, height: 1, ..area };
        if is_last && left_out > 0 {
            let text = format!("and {} more devices: a higher terminal shows them", left_out + 1);
            buf.set_stringn(
                line.x,
                line.y,
                text,
                line.width as usize,
                state.theme.style(Role::Dim),
            );
        } else {
            draw_device(&state.theme, device, devices.len(), names, line, buf);
        }
    }
}

fn waits_for(state: &State) -> &str {
    if state.title.is_empty() { "the first event" } else { &state.title }
}

fn draw_device(
    theme: &Theme,
    device: &Activity,
    count: usize,
    names: usize,
    area: Rect,
    buf: &mut Buffer,
) {
    let style = theme.device(device.index, count);
    let name = format!("{:<names$} ", cut(&device.name, names, theme.unicode));
    let (x, _) = buf.set_stringn(area.x, area.y, name, area.width as usize, style);
    let memory = device.memory.map(|m| memory(m, area.width)).unwrap_or_default();
    let memory_x = area.right() - memory.chars().count() as u16;
    buf.set_string(memory_x, area.y, &memory, theme.style(Role::Text));
    let room = Rect { x, width: memory_x.saturating_sub(x + 1), ..area };
    match &device.shares {
        None => {
            buf.set_stringn(
                x,
                area.y,
                "nothing ran yet",
                room.width as usize,
                theme.style(Role::Dim),
            );
        }
        Some(shares) => draw_shares(theme, shares, area.width >= WIDTH_OF_WORDS, room, buf),
    }
}

fn draw_shares(theme: &Theme, shares: &Shares, words: bool, area: Rect, buf: &mut Buffer) {
    let text_width = if words { 62 } else { 31 };
    let width = (area.width as usize).saturating_sub(text_width + 1).clamp(8, 40);
    let mut x = area.x;
    let parts = cells([shares.compute, shares.copy, shares.wait], width);
    let roles = [Role::Compute, Role::Copy, Role::Wait];
    let signs = patterns(theme);
    for ((cells, role), sign) in parts.into_iter().zip(roles).zip(signs) {
        let text = sign.to_string().repeat(cells);
        (x, _) = buf.set_stringn(x, area.y, text, cells, theme.style(role));
    }
    x += 1;
    let percent = |share: f64| (share * 100.0).round() as u64;
    let values = [shares.compute, shares.copy, shares.wait].map(percent);
    let names = if words { ["computes ", "copies ", "waits "] } else { [""; 3] };
    for (((value, name), role), sign) in values.into_iter().zip(names).zip(roles).zip(signs) {
        let text = if words { format!("{name}{value:>3} %  ") } else { format!("{sign}{value}% ") };
        let room = (area.right().saturating_sub(x)) as usize;
        (x, _) = buf.set_stringn(x, area.y, text, room, theme.style(role));
    }
    if shares.compute == 0.0 {
        let room = (area.right().saturating_sub(x)) as usize;
        buf.set_stringn(x, area.y, "no work", room, theme.style(Role::Dim));
    } else if let Some((on, share)) = &shares.on {
        let text = if words && *share < 1.0 {
            format!("{} % for {on}", percent(*share))
        } else {
            format!("for {on}")
        };
        let room = (area.right().saturating_sub(x)) as usize;
        let text = cut(&text, room, theme.unicode);
        buf.set_stringn(x, area.y, text, room, theme.style(Role::Text));
    }
}

/// So many cells for each share, together `width`; what is there at all has one.
fn cells(shares: [f64; 3], width: usize) -> [usize; 3] {
    let of = |share: f64| {
        let cells = (share * width as f64).round() as usize;
        if share > 0.002 { cells.max(1) } else { cells }
    };
    let compute = of(shares[0]).min(width);
    let copy = of(shares[1]).min(width - compute);
    [compute, copy, width - compute - copy]
}

/// Used and all memory, in one unit.
fn memory((used, total): (u64, u64), width: u16) -> String {
    let short = |bytes: u64| {
        let (value, unit) = match bytes {
            0..1_073_741_824 => (bytes as f64 / 1_048_576.0, "M"),
            _ => (bytes as f64 / 1_073_741_824.0, "G"),
        };
        if value < 9.95 && unit == "G" {
            format!("{value:.1}{unit}")
        } else {
            format!("{value:.0}{unit}")
        }
    };
    if width >= WIDTH_OF_WORDS {
        let share = if total > 0 { used as f64 / total as f64 * 100.0 } else { 0.0 };
        format!(
            "{:>10} of {:>10} {share:>3.0} %",
            Bytes(used).to_string(),
            Bytes(total).to_string()
        )
    } else {
        format!("{:>9}", format!("{}/{}", short(used), short(total)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_fill_the_bar_and_hide_nothing() {
        assert_eq!(cells([0.5, 0.25, 0.25], 8), [4, 2, 2]);
        assert_eq!(cells([0.01, 0.01, 0.98], 10), [1, 1, 8]);
        assert_eq!(cells([1.0, 0.0, 0.0], 10), [10, 0, 0]);
        assert_eq!(cells([0.99, 0.01, 0.0], 10), [10, 0, 0]);
        assert_eq!(cells([0.0, 0.0, 1.0], 3), [0, 0, 3]);
    }

    #[test]
    fn memory_is_short_where_there_is_little_room() {
        assert_eq!(memory((100 << 20, 160 << 20), 60), "100M/160M");
        assert_eq!(memory((18 << 30, 24 << 30), 60), "  18G/24G");
        assert!(memory((1 << 30, 2 << 30), 120).contains("1.00 GiB of   2.00 GiB  50 %"));
    }
}
