//! Whether a piece of text can be the beginning of a line, or only the continuation of one that a
//! terminal or a viewer broke; and whether it says anything at all.

use super::clock;

/// Whether the text looks like the beginning of a line that a program wrote.
pub(in super::super) fn is_head(text: &str) -> bool {
    is_sure_head(text) || names_its_function(text)
}

/// Whether the text can be nothing but the beginning of a line.
pub(in super::super) fn is_sure_head(text: &str) -> bool {
    const MARKS: [&str; 12] = [
        "time=",
        "level=",
        "[GIN",
        "{\"",
        "## SPLIT",
        "node #",
        "llama_",
        "ggml_",
        "print_info",
        "INFO [",
        "WARN [",
        "ERROR [",
    ];
    let bytes = text.as_bytes();
    MARKS.iter().any(|mark| text.starts_with(mark))
        || (bytes.first().is_some_and(u8::is_ascii_digit)
            && (clock::elapsed(bytes).is_some() || clock::date_time(bytes).is_some()))
}

/// `function: …`, `  Device 0: …`, `srv  update_slots: …`, `main : …`: at most three words, then
/// a colon or a spaced `=`, none of them a path or a pair.
fn names_its_function(text: &str) -> bool {
    let bytes = text.trim_start_matches([' ', '-', '|']).as_bytes();
    let (mut words, mut in_word) = (0, false);
    for (i, b) in bytes.iter().take(64).enumerate() {
        match b {
            b':' if words > 0 => {
                let ends = matches!(bytes.get(i + 1), None | Some(b' '));
                return ends && (1..=3).contains(&words) && bytes[0].is_ascii_alphabetic();
            }
            // `prompt eval time =   12.5 ms`
            b'=' => return bytes[..i].ends_with(b" ") && (1..=4).contains(&words),
            b' ' => in_word = false,
            b if b.is_ascii_alphanumeric() || b"_()[]~.#-".contains(b) => {
                words += usize::from(!in_word);
                in_word = true;
            }
            _ => return false,
        }
    }
    false
}

/// Whether a line says nothing: empty, a cut, a fence, a rule, what a viewer adds.
pub(in super::super) fn is_blank(text: &str) -> bool {
    let first = text.as_bytes().first();
    let long = if first.is_some_and(u8::is_ascii_alphanumeric) { 16 } else { 200 };
    if text.len() > long {
        return false;
    }
    let text = text.trim();
    let marks = |c: char| {
        matches!(c, '.' | '…' | '[' | ']' | '(' | ')' | '-' | '=' | '*' | '~' | '`')
            || c.is_whitespace()
    };
    text.chars().all(marks)
        || text.starts_with("```")
        || (text.starts_with("-- ") && text.ends_with(" --"))
        || ["snip", "skip", "omitted", "truncated", "cut"].iter().any(|word| {
            let inner = text.trim_matches(|c: char| !c.is_alphanumeric());
            text.len() != inner.len() && inner.eq_ignore_ascii_case(word)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings() {
        for text in [
            "time=2025-02-15T16:25:02.007Z level=INFO",
            "[GIN] 2025/02/14 - 10:20:30 | 200 |",
            "load_tensors: offloaded 1/2 layers",
            "  Device 0: NVIDIA",
            "srv  update_slots: all slots are idle",
            "slot print_timing: id  0 | task 0 | x",
            "2023/10/11 07:10:02 llama.go:239: x",
            "CUDA error: out of memory",
            "common_memory_breakdown_print: |   - CUDA0",
        ] {
            assert!(is_head(text), "{text}");
        }
        for text in [
            "blobs/sha256-0123 --ctx-size 8192",
            " layers.offload=33 layers.split=\"\"",
            "el=INFO source=server.go:130 msg=offload",
            "GiB\" memory.required.kv=\"1.0 GiB\"",
            "5 tokens per second)",
            "",
        ] {
            assert!(!is_head(text), "{text}");
        }
    }

    #[test]
    fn blanks() {
        for text in ["", "  ", "[...]", "...", "```", "```log", "-- Boot 0123 --", "<snip>"] {
            assert!(is_blank(text), "{text}");
        }
        for text in ["load: x", "a", "skip", "-- x"] {
            assert!(!is_blank(text), "{text}");
        }
    }
}
