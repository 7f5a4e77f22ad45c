//! Two lines in one: a program that forgot its line feed, or a viewer that lost it.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

/// Where a second line begins within a line, if one does.
pub(in super::super) fn seam(text: &str) -> Option<usize> {
    if text.len() < 24 || !has_mark(text) {
        return None;
    }
    let structured = slog_seam(text);
    let access = memmem::find(&text.as_bytes()[1..], b"[GIN] 20")
        .map(|at| at + 1)
        .filter(|&at| !within_quotes(&text[..at]));
    let function = function_seam(text);
    [structured, access, function].into_iter().flatten().min()
}

/// What a second line can begin with.
static MARKS: LazyLock<[Finder<'static>; 4]> =
    LazyLock::new(|| ["time=20", "[GIN] 20", "ggml_", "llama_"].map(Finder::new));

/// Whether a mark stands in a line elsewhere than at its beginning.
fn has_mark(text: &str) -> bool {
    MARKS.iter().any(|mark| mark.find(&text.as_bytes()[1..]).is_some())
}

/// Whether any line that differs in its numbers only could have a seam.
pub(in super::super) fn may_have_seam(text: &str) -> bool {
    let inner = text.as_bytes().get(1..).unwrap_or_default();
    ["time=", "[GIN]", "ggml_", "llama_"]
        .iter()
        .any(|mark| memmem::find(inner, mark.as_bytes()).is_some())
}

/// `…time=2024-09-20T18:08:49.004Z level=`: never within quotes, and after a space only when
/// what stands before has no such pair itself.
fn slog_seam(text: &str) -> Option<usize> {
    let finder = memmem::find_iter(text.as_bytes(), b"time=20");
    finder.into_iter().filter(|at| *at > 0).find(|&at| {
        let rest = &text.as_bytes()[at + 5..];
        let date = rest.len() > 20 && rest[4] == b'-' && rest[7] == b'-' && rest[10] == b'T';
        let near = rest.get(..rest.len().min(60)).unwrap_or(rest);
        date && memmem::find(near, b" level=").is_some() && !within_quotes(&text[..at])
    })
}

/// `…)ggml_backend_metal_log_allocated_size: warning`: a name of a ggml function right after a
/// character that ends a value.
fn function_seam(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let heads = ["ggml_", "llama_"];
    let seams = heads.iter().filter_map(|head| {
        memmem::find_iter(bytes, head.as_bytes()).find(|&at| {
            at > 0
                && matches!(bytes[at - 1], b')' | b'0'..=b'9' | b'"')
                && ends_in_colon(&text[at..])
        })
    });
    seams.min().filter(|&at| !within_quotes(&text[..at]))
}

fn ends_in_colon(text: &str) -> bool {
    let name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let len = text.bytes().take_while(|b| name(b)).count();
    text[len..].starts_with(": ")
}

/// Whether a text ends within quotes.
fn within_quotes(text: &str) -> bool {
    let mut quotes = 0;
    let mut escaped = false;
    for b in text.bytes() {
        match b {
            b'\\' => escaped = !escaped,
            b'"' if !escaped => quotes += 1,
            _ => escaped = false,
        }
    }
    quotes % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn second(text: &str) -> Option<&str> {
        seam(text).map(|at| &text[at..])
    }

    #[test]
    fn a_line_feed_that_was_forgotten() {
        let glued =
            "failed to get device context 800time=2024-09-20T18:08:49.004Z level=WARN msg=x";
        assert!(second(glued).unwrap().starts_with("time=2024"));
        let glued =
            "time=2024-09-20T18:08:49.004Z level=WARN msg=xtime=2024-09-20T18:08:49Z level=INFO";
        assert!(second(glued).unwrap().starts_with("time=2024-09-20T18:08:49Z"));
        let glued =
            "x: allocated buffer, ( 2050.00 /  1600.00)ggml_backend_metal_log_size: warning: y";
        assert!(second(glued).unwrap().starts_with("ggml_backend_metal"));
        let glued = "load_tensors: x[GIN] 2025/02/14 - 10:20:30 | 200 |";
        assert!(second(glued).unwrap().starts_with("[GIN]"));
    }

    #[test]
    fn one_line_stays_one() {
        for text in [
            "time=2024-09-20T18:08:49.004Z level=WARN msg=x y=1",
            r#"level=ERROR msg="x time=2024-09-20T18:08:49.004Z level=INFO" y=1"#,
            "/usr/lib/libggml_cuda.so: cannot open (ggml_x: y)",
            "[GIN] 2025/02/14 - 10:20:30 | 200 | 1s | ::1 | GET \"/\"",
        ] {
            assert_eq!(second(text), None, "{text}");
        }
    }
}
