//! A fix that exists in the version at hand: the setting itself, what stands for it, or an update.

use crate::advise::diagnose::finding::{Fix, FixTarget};
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

/// A flag as a build of llama.cpp takes it: as it is, without the value that an older build does not
/// know, or an update where it knows none of it. `build` is none where the log does not tell it.
pub fn flag_for_build(build: Option<u32>, fix: Fix) -> Fix {
    let (Some(build), FixTarget::Flag) = (build, fix.target) else { return fix };
    let Some(setting) = knobs().find(SettingKind::Flag, &fix.name) else { return fix };
    let typed = format!("{} {}", fix.name, fix.value);
    let typed = typed.trim_end();
    if let Some(since) = setting.since_build.filter(|since| build < *since) {
        let update =
            format!("a build of llama.cpp from b{since} on (this is b{build}), then {typed}");
        return Fix { ..Fix::system("update", update) }.why(fix.reason, fix.expected);
    }
    if setting.value_since_build.is_some_and(|since| build < since) {
        return match fix.value.as_str() {
            "on" | "1" | "enabled" => Fix { value: String::new(), ..fix },
            "off" | "0" | "disabled" => Fix::leave_out(&fix.name).why(fix.reason, fix.expected),
            _ => fix,
        };
    }
    if let Some(since) = setting.auto_since_build.filter(|s| build < *s && fix.value == "auto") {
        let lower = format!(
            "a smaller number for {}, until the load succeeds; builds from b{since} on take `auto`",
            fix.name
        );
        return Fix::system("find the number", lower).why(fix.reason, fix.expected);
    }
    fix
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

    /// b6303 had `-fa` without a value, b6341 with one; experts came in between b5631 and b6303.
    #[test]
    fn a_flag_is_written_as_the_build_takes_it() {
        let of = |build, name: &str, value: &str| {
            let fix = flag_for_build(Some(build), Fix::flag(name, value));
            (fix.target, fix.name, fix.value)
        };
        let flag = |name: &str, value: &str| (FixTarget::Flag, name.into(), value.to_string());
        assert_eq!(of(6341, "-fa", "on"), flag("-fa", "on"));
        assert_eq!(of(6303, "-fa", "on"), flag("-fa", ""));
        assert_eq!(of(6303, "-fa", "off").2, "-fa");
        assert_eq!(of(7500, "-ngl", "auto"), flag("-ngl", "auto"));
        assert_eq!(of(5310, "-ngl", "99"), flag("-ngl", "99"));
        assert!(of(5310, "-ngl", "auto").2.contains("smaller number"));
        assert_eq!(of(9000, "-ncmoe", "20"), flag("-ncmoe", "20"));
        assert!(
            of(5310, "-ncmoe", "20").2.contains("b6200")
                && of(5310, "-ncmoe", "20").2.ends_with("-ncmoe 20")
        );
        let unknown = flag_for_build(None, Fix::flag("-ncmoe", "20"));
        assert_eq!(unknown.target, FixTarget::Flag);
    }

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
