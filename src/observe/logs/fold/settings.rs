//! The settings that Ollama prints when it starts: `map[NAME:VALUE NAME:VALUE]`.

use super::super::record::Record;
use super::super::session::{LogSession, Setting};
use super::value::kept;

/// No server has more settings.
const SETTINGS_MAX: usize = 512;

/// Takes the settings of a new start of the server; those of an earlier start are forgotten.
pub(super) fn server_config(session: &mut LogSession, record: &Record<'_>) {
    let Some(env) = record.fields.get("env") else { return };
    session.settings.clear();
    for (name, value) in entries(env).into_iter().take(SETTINGS_MAX) {
        let value = kept(value);
        session.settings.insert(name.to_string(), Setting { value, line: record.line });
    }
}

/// Names are words of capitals; values may have blanks inside of brackets, colons, or be empty.
fn entries(env: &str) -> Vec<(&str, &str)> {
    let mut starts = Vec::new();
    let mut depth = 0i32;
    let mut word = true;
    for (i, byte) in env.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => {}
        }
        if word && depth == 0 {
            let name = env.as_bytes()[i..].iter().position(|&b| !is_name(b));
            if let Some(length) = name.filter(|&n| n > 1 && env.as_bytes()[i + n] == b':') {
                starts.push((i, i + length));
            }
        }
        word = byte == b' ';
    }
    let ends = starts.iter().skip(1).map(|s| s.0).chain([env.len()]);
    let whole = starts.iter().zip(ends);
    whole.map(|(&(from, colon), end)| (&env[from..colon], env[colon + 1..end].trim())).collect()
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_' || byte.is_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_empty_or_have_blanks_and_colons() {
        let env = "CUDA_VISIBLE_DEVICES:0,1 OLLAMA_HOST:http://127.0.0.1:11434 OLLAMA_KV_CACHE_TYPE: \
                   OLLAMA_ORIGINS:[http://localhost app://*] OLLAMA_DEBUG:false http_proxy:";
        let read = entries(env);
        assert_eq!(
            read,
            vec![
                ("CUDA_VISIBLE_DEVICES", "0,1"),
                ("OLLAMA_HOST", "http://127.0.0.1:11434"),
                ("OLLAMA_KV_CACHE_TYPE", ""),
                ("OLLAMA_ORIGINS", "[http://localhost app://*]"),
                ("OLLAMA_DEBUG", "false"),
                ("http_proxy", ""),
            ]
        );
    }

    #[test]
    fn a_map_that_was_cut_gives_what_it_has() {
        assert_eq!(
            entries("OLLAMA_MODELS:/usr/share/ol"),
            vec![("OLLAMA_MODELS", "/usr/share/ol")]
        );
        assert_eq!(entries(""), Vec::new());
        assert_eq!(entries("ä:ö OLLAMA"), Vec::new());
    }
}
