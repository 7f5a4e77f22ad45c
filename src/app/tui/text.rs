//! Text in a given width: broken into lines, or cut with a mark.

/// A text in lines of at most `width` characters, broken between words where that is possible. A line
/// that was broken goes on as far in as it began.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for line in text.lines() {
        let indent = line.chars().take_while(|c| *c == ' ').count().min(width / 2);
        let (mut current, mut length) = (" ".repeat(indent), indent);
        for word in line.split_whitespace() {
            let mut word = word;
            let mut count = word.chars().count();
            let gap = usize::from(length > indent);
            if length + gap + count > width && length > indent {
                lines.push(std::mem::replace(&mut current, " ".repeat(indent)));
                length = indent;
            }
            if length > indent {
                current.push(' ');
                length += 1;
            }
            while length + count > width {
                let room = width - length;
                let at = word.char_indices().nth(room).map_or(word.len(), |(at, _)| at);
                current.push_str(&word[..at]);
                lines.push(std::mem::replace(&mut current, " ".repeat(indent)));
                (word, count, length) = (&word[at..], count - room, indent);
            }
            current.push_str(word);
            length += count;
        }
        lines.push(current);
    }
    lines
}

/// A text of at most `width` characters; the end of a longer one is left out, which a mark tells.
pub(super) fn cut(text: &str, width: usize, unicode: bool) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let mark = if unicode { "…" } else { "~" };
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { String::new() } else { format!("{}{mark}", kept.trim_end()) }
}

/// A time as `4:05` or `1:02:03`.
pub(super) fn clock(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_to_the_width_and_lose_no_word() {
        let text = "one two three\n  four fivesixseveneight nine";
        let expected = ["one two", "three", "  four", "  fivesix", "  sevenei", "  ght", "  nine"];
        assert_eq!(wrap(text, 9), expected);
        for width in 1..30 {
            let lines = wrap(text, width);
            assert!(lines.iter().all(|l| l.chars().count() <= width), "{width}: {lines:?}");
            let letters = |t: &str| t.split_whitespace().collect::<String>();
            assert_eq!(letters(&lines.concat()), letters(text));
        }
    }

    #[test]
    fn cut_texts_say_so() {
        assert_eq!(cut("abcdef", 6, true), "abcdef");
        assert_eq!(cut("abcdef", 4, true), "abc…");
        assert_eq!(cut("ab cdef", 4, false), "ab~");
        assert_eq!(cut("abc", 0, true), "");
        assert_eq!(
            (clock(65_000_000_000), clock(3_723_000_000_000)),
            ("1:05".into(), "1:02:03".into())
        );
    }
}
