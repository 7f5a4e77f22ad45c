//! A fix that exists in the version at hand: the setting itself, what stands for it, or an update.

use crate::advise::diagnose::finding::Fix;
use crate::observe::logs::{Engine, LogSession, Version};

use super::data::{Setting, SettingKind, knobs};

/// A variable of the server, or what does the same in a version without it: the option of a request
/// where there is one, else an update to the first version that has it.
pub fn fix_env(version: Option<Version>, name: &str, value: impl Into<String>) -> Fix {
    let value = value.into();
    let Some(setting) = knobs().find(SettingKind::Env, name) else { return Fix::env(name, value) };
    match version {
        Some(at) if !setting.known_by(at) => instead_of(setting, at, &value),
        _ => Fix::env(name, value),
    }
}

/// An option of a request, or what does the same in a version without it.
pub fn fix_option(version: Option<Version>, name: &str, value: impl Into<String>) -> Fix {
    let value = value.into();
    let Some(setting) = knobs().find(SettingKind::Option, name) else {
        return Fix::option(name, value);
    };
    match version {
        Some(at) if !setting.known_by(at) => instead_of(setting, at, &value),
        _ => Fix::option(name, value),
    }
}

/// Since when a variable is known, for a log that does not tell its version: ` (Ollama 0.5.13 or
/// newer)`. Empty when the version is known, or the variable as old as the logs that people have.
pub fn since_note(version: Option<Version>, name: &str) -> String {
    let since = knobs().find(SettingKind::Env, name).and_then(Setting::since);
    match since.filter(|s| version.is_none() && *s > Version(0, 1, 50)) {
        Some(since) => format!(" (Ollama {}.{}.{} or newer)", since.0, since.1, since.2),
        None => String::new(),
    }
}

fn instead_of(setting: &Setting, at: Version, value: &str) -> Fix {
    let instead = setting.instead.as_str();
    for (kind, make) in [
        (SettingKind::Env, Fix::env as fn(&str, String) -> Fix),
        (SettingKind::Option, Fix::option),
    ] {
        if knobs().find(kind, instead).is_some_and(|s| s.known_by(at)) {
            return make(instead, value.to_string());
        }
    }
    match setting.since() {
        Some(since) if at < since => Fix::system(
            "update",
            format!(
                "update Ollama to {}.{}.{} or newer, then set {}={value}",
                since.0, since.1, since.2, setting.name
            ),
        ),
        _ => Fix::system("nothing to set", format!("this version has no {}", setting.name)),
    }
}

/// Another context, where the engine at hand takes it: per request and for the whole server.
pub fn fix_context(log: &LogSession, tokens: u64) -> Vec<Fix> {
    let tokens = tokens.to_string();
    match log.engine {
        Engine::Ollama => {
            let version = log.version_number().filter(|v| *v != Version(0, 0, 0));
            let mut fixes = vec![Fix::option("num_ctx", tokens.clone())];
            let server = fix_env(version, "OLLAMA_CONTEXT_LENGTH", tokens);
            if server.name != "num_ctx" {
                fixes.push(server);
            }
            fixes
        }
        Engine::LlamaCpp | Engine::Gpuwhy | Engine::Unknown => vec![Fix::flag("-c", tokens)],
        Engine::Vllm => vec![Fix::flag("--max-model-len", tokens)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::diagnose::finding::FixTarget;

    #[test]
    fn a_version_without_the_variable_gets_what_stands_for_it() {
        let old = Some(Version(0, 5, 7));
        let fix = fix_env(old, "OLLAMA_CONTEXT_LENGTH", "8192");
        assert_eq!((fix.target, fix.name.as_str()), (FixTarget::Option, "num_ctx"));
        let fix = fix_env(Some(Version(0, 6, 0)), "OLLAMA_CONTEXT_LENGTH", "8192");
        assert_eq!((fix.target, fix.name.as_str()), (FixTarget::Env, "OLLAMA_CONTEXT_LENGTH"));
        let fix = fix_env(Some(Version(0, 1, 44)), "OLLAMA_LOAD_TIMEOUT", "30m");
        assert_eq!(fix.target, FixTarget::System);
        assert!(fix.value.contains("0.3.10"), "{}", fix.value);
        assert_eq!(fix_env(None, "OLLAMA_LOAD_TIMEOUT", "30m").target, FixTarget::Env);
        let gone = fix_env(Some(Version(0, 32, 0)), "OLLAMA_NEW_ENGINE", "1");
        assert_eq!(gone.target, FixTarget::System);
    }
}
