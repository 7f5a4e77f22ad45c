//! What is wrong with a setting that somebody made: a name that the version does not know, a value
//! that it does not take, a value with which no GPU is used.

use crate::observe::logs::Version;

use super::data::{Setting, SettingKind, Takes, knobs};

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No version knows the name; a known one that is near.
    Unknown(Option<String>),
    /// This version does not know it yet; the first that does.
    NotYet(Version),
    /// This version does not know it any more; what to use instead.
    Removed(String),
    /// The value cannot be read and the default is used; what it takes.
    Unreadable(String),
    /// With this value no GPU is used, or not the one that is there; why.
    NoGpu(String),
}

/// Judges a variable of the environment of a server. Variables of other programs are not judged.
pub fn judge_env(name: &str, value: &str, version: Option<Version>) -> Option<Fault> {
    let ours = ["OLLAMA_", "LLAMA_ARG_", "GGML_"].iter().any(|p| name.starts_with(p));
    let Some(setting) = knobs().find(SettingKind::Env, name) else {
        return ours
            .then(|| Fault::Unknown(knobs().near(SettingKind::Env, name).map(str::to_string)));
    };
    judge(setting, value, version)
}

/// Judges an option of a request or a parameter of a Modelfile.
pub fn judge_option(name: &str, value: &str, version: Option<Version>) -> Option<Fault> {
    match knobs().find(SettingKind::Option, name) {
        Some(setting) => judge(setting, value, version),
        None => Some(Fault::Unknown(knobs().near(SettingKind::Option, name).map(str::to_string))),
    }
}

/// Judges a flag of llama.cpp.
pub fn judge_flag(flag: &str, value: Option<&str>) -> Option<Fault> {
    let setting = knobs().find(SettingKind::Flag, flag);
    match (knobs().knows_flag(flag), setting) {
        (None, _) => {
            Some(Fault::Unknown(knobs().near(SettingKind::Flag, flag).map(str::to_string)))
        }
        (Some(false), setting) => {
            Some(Fault::Removed(setting.map(|s| s.instead.clone()).unwrap_or_default()))
        }
        (Some(true), Some(setting)) => judge(setting, value?, None),
        (Some(true), None) => None,
    }
}

fn judge(setting: &Setting, value: &str, version: Option<Version>) -> Option<Fault> {
    if let Some(at) = version {
        if let Some(since) = setting.since().filter(|s| at < *s) {
            return Some(Fault::NotYet(since));
        }
        if setting.until().is_some_and(|until| at > until) {
            return Some(Fault::Removed(setting.instead.clone()));
        }
    }
    if setting.gone {
        return Some(Fault::Removed(setting.instead.clone()));
    }
    let value = value.trim().trim_matches(['"', '\'']);
    if value.is_empty() {
        return None;
    }
    if setting.off.iter().any(|off| off.eq_ignore_ascii_case(value)) {
        return Some(Fault::NoGpu(format!("{} = {value} hides every GPU", setting.name)));
    }
    match setting.takes {
        Takes::Library => judge_library(value, version),
        Takes::Gfx if !is_gfx_version(value) => Some(Fault::Unreadable(
            "three numbers like 10.3.0 (gfx1030) or 11.0.0 (gfx1100), not the name of the target"
                .into(),
        )),
        Takes::Number | Takes::Bytes if value.parse::<i64>().is_err() && value != "auto" => {
            let unit = if setting.takes == Takes::Bytes { " of bytes" } else { "" };
            Some(Fault::Unreadable(format!("a whole number{unit}")))
        }
        Takes::Switch if !is_switch(value) => Some(Fault::Unreadable("1 or 0".into())),
        Takes::Words if !setting.words.iter().any(|w| w.eq_ignore_ascii_case(value)) => {
            Some(Fault::Unreadable(format!("one of {}", setting.words.join(", "))))
        }
        _ => None,
    }
}

/// `OLLAMA_LLM_LIBRARY`: from 0.12.4 on, a name that is not a folder skips every GPU library
/// without a word; before, it was ignored; in both, the name of a CPU library works and uses no
/// GPU.
fn judge_library(value: &str, version: Option<Version>) -> Option<Fault> {
    if value.starts_with("cpu") {
        return Some(Fault::NoGpu(format!("{value} is a library for the CPU alone")));
    }
    let at = version.unwrap_or(LIBRARY_DECIDES);
    let known = |l: &&super::Library| l.gpu && l.known_by(at);
    if knobs().libraries.iter().filter(known).any(|l| l.name == value) {
        return None;
    }
    let mut names: Vec<&str> =
        knobs().libraries.iter().filter(known).map(|l| l.name.as_str()).collect();
    names.dedup();
    let names = names.join(", ");
    if at >= LIBRARY_DECIDES {
        let what =
            format!("no library folder is named {value}, so all are skipped; names: {names}");
        return Some(Fault::NoGpu(what));
    }
    Some(Fault::Unreadable(format!("the name of a library: {names}")))
}

/// The release from which on a wrong `OLLAMA_LLM_LIBRARY` skips all GPU libraries.
pub(crate) const LIBRARY_DECIDES: Version = Version(0, 12, 4);

fn is_switch(value: &str) -> bool {
    let known = ["1", "0", "t", "f", "true", "false", "on", "off", "yes", "no"];
    known.iter().any(|k| k.eq_ignore_ascii_case(value))
}

fn is_gfx_version(value: &str) -> bool {
    let parts: Vec<&str> = value.split('.').collect();
    parts.len() == 3 && parts.iter().all(|p| p.parse::<u8>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: Option<Version> = Some(Version(0, 13, 5));

    #[test]
    fn names_are_judged_by_version() {
        assert_eq!(judge_env("OLLAMA_NUM_PARALLEL", "2", B), None);
        assert_eq!(judge_env("PATH", "/usr/bin", B), None);
        assert_eq!(judge_env("OLLAMA_IGPU_ENABLE", "1", B), Some(Fault::NotYet(Version(0, 30, 0))));
        assert_eq!(
            judge_env("OLLAMA_MAX_VRAM", "9000000000", B),
            Some(Fault::Removed("OLLAMA_GPU_OVERHEAD".into()))
        );
        assert_eq!(
            judge_env("OLLAMA_NUM_PARALEL", "2", B),
            Some(Fault::Unknown(Some("OLLAMA_NUM_PARALLEL".into())))
        );
        assert_eq!(judge_env("OLLAMA_GPU_LAYERS", "33", B), Some(Fault::Unknown(None)));
    }

    #[test]
    fn values_that_use_no_gpu_are_told() {
        let off = |f: Option<Fault>| matches!(f, Some(Fault::NoGpu(_)));
        assert!(off(judge_env("CUDA_VISIBLE_DEVICES", "-1", B)));
        assert!(!off(judge_env("CUDA_VISIBLE_DEVICES", "0,1", B)));
        assert!(off(judge_env("OLLAMA_LLM_LIBRARY", "cpu_avx2", B)));
        assert!(off(judge_env("OLLAMA_LLM_LIBRARY", "cuda", B)));
        assert!(!off(judge_env("OLLAMA_LLM_LIBRARY", "cuda", Some(Version(0, 6, 0)))));
        assert_eq!(judge_env("OLLAMA_LLM_LIBRARY", "cuda_v12", B), None);
        assert!(off(judge_env("OLLAMA_LLM_LIBRARY", "rocm", Some(Version(0, 31, 0)))));
        assert!(off(judge_flag("-ngl", Some("0"))));
        assert!(off(judge_option("num_gpu", "0", B)));
    }

    #[test]
    fn values_that_cannot_be_read_are_told() {
        let unreadable = |f: Option<Fault>| matches!(f, Some(Fault::Unreadable(_)));
        assert!(unreadable(judge_env("OLLAMA_GPU_OVERHEAD", "0.5", B)));
        assert!(unreadable(judge_env("OLLAMA_GPU_OVERHEAD", "1GiB", B)));
        assert!(unreadable(judge_env("HSA_OVERRIDE_GFX_VERSION", "gfx1030", B)));
        assert!(!unreadable(judge_env("HSA_OVERRIDE_GFX_VERSION", "10.3.0", B)));
        assert!(unreadable(judge_env("OLLAMA_KV_CACHE_TYPE", "q8", B)));
        assert!(!unreadable(judge_env("OLLAMA_KV_CACHE_TYPE", "q8_0", B)));
        assert!(unreadable(judge_env("OLLAMA_FLASH_ATTENTION", "enabled", B)));
    }

    #[test]
    fn flags_that_went_lead_to_their_successor() {
        assert_eq!(judge_flag("--no-mmap", None), Some(Fault::Removed("--load-mode".into())));
        assert_eq!(judge_flag("--jinja", None), None);
        assert_eq!(
            judge_flag("--gpu-layer", None),
            Some(Fault::Unknown(Some("--gpu-layers".into())))
        );
    }
}
