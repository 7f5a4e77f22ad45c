//! The tables of settings, read once from the files that are part of the program.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::observe::logs::Version;

/// Where a setting is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingKind {
    /// An environment variable.
    Env,
    /// An option of a request, and a parameter of a Modelfile.
    Option,
    /// A flag of a command line.
    Flag,
}

/// What kind of value a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takes {
    /// None: a switch of a command line.
    None,
    /// A number.
    Number,
    /// A number of bytes.
    Bytes,
    /// `1`, `true`, `0`, `false`.
    Switch,
    /// `5m`, `30s`; `-1` for ever.
    Duration,
    /// One of some words.
    Words,
    /// Numbers or ids of devices.
    Devices,
    /// The name of a folder of libraries.
    Library,
    /// A number of layers, `auto` or `all`.
    Layers,
    /// An AMD target as `10.3.0`.
    Gfx,
    /// Numbers separated by commas.
    List,
    /// Anything.
    Text,
}

/// One setting.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its name: `OLLAMA_NUM_PARALLEL`, `num_ctx`, `--ctx-size`.
    pub name: String,
    /// Where it is made.
    pub kind: SettingKind,
    /// The first release that knows it.
    since: Option<String>,
    /// The last release that knows it; the newest one still does when absent.
    until: Option<String>,
    /// What it takes.
    pub takes: Takes,
    /// Its default, where it has one that can be written down.
    #[serde(default)]
    pub default: String,
    /// What it does, in a few words.
    pub does: String,
    /// Words that it takes, when it takes words.
    #[serde(default)]
    pub words: Vec<String>,
    /// Other spellings.
    #[serde(default)]
    pub alias: Vec<String>,
    /// The environment variable that does the same.
    #[serde(default)]
    pub env: String,
    /// What to use where a version does not know it.
    #[serde(default)]
    pub instead: String,
    /// Values with which no GPU is used.
    #[serde(default)]
    pub off: Vec<String>,
    /// It was there in older builds and is not any more; no release is known in which it went.
    #[serde(default)]
    pub gone: bool,
    /// A build of llama.cpp that certainly knows the flag; all that are known do when absent.
    pub since_build: Option<u32>,
    /// Builds before this one know the flag as a switch without a value.
    pub value_since_build: Option<u32>,
    /// Builds before this one do not take `auto`.
    pub auto_since_build: Option<u32>,
    /// `load` when a different value loads the model anew.
    #[serde(default)]
    pub affects: String,
}

impl Setting {
    /// The first release that knows it.
    pub fn since(&self) -> Option<Version> {
        self.since.as_deref().and_then(version)
    }

    /// The last release that knows it.
    pub fn until(&self) -> Option<Version> {
        self.until.as_deref().and_then(version)
    }

    /// Whether a release knows it.
    pub fn known_by(&self, at: Version) -> bool {
        self.since().is_none_or(|s| at >= s) && self.until().is_none_or(|u| at <= u)
    }
}

/// A folder of GPU libraries that `OLLAMA_LLM_LIBRARY` can name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    /// Its name, `cuda_v12`.
    pub name: String,
    since: Option<String>,
    until: Option<String>,
    /// Whether it drives GPUs.
    pub gpu: bool,
}

impl Library {
    /// Whether a release has it.
    pub fn known_by(&self, at: Version) -> bool {
        self.since.as_deref().and_then(version).is_none_or(|s| at >= s)
            && self.until.as_deref().and_then(version).is_none_or(|u| at <= u)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    setting: Vec<Setting>,
    #[serde(default)]
    library: Vec<Library>,
    #[serde(default)]
    known: Known,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    gone: Vec<String>,
}

/// Everything that is known of settings.
#[derive(Debug, Default)]
pub struct Knobs {
    settings: Vec<Setting>,
    /// Folders of libraries of Ollama.
    pub libraries: Vec<Library>,
    /// Spellings of flags of llama.cpp that have no entry of their own.
    flags: Vec<String>,
    flags_gone: Vec<String>,
}

const FILES: [&str; 2] = [
    include_str!("../../../../profiles/engines/settings-ollama.toml"),
    include_str!("../../../../profiles/engines/settings-llama-cpp.toml"),
];

/// The tables.
pub fn knobs() -> &'static Knobs {
    // That the files can be read is a test; nothing is lost but advice if one could not.
    static KNOBS: LazyLock<Knobs> = LazyLock::new(|| {
        let mut all = Knobs::default();
        for file in FILES.iter().filter_map(|text| toml::from_str::<File>(text).ok()) {
            all.settings.extend(file.setting);
            all.libraries.extend(file.library);
            all.flags.extend(file.known.flags);
            all.flags_gone.extend(file.known.gone);
        }
        all
    });
    &KNOBS
}

impl Knobs {
    /// A setting by its name or another spelling of it. Windows does not tell cases of variables
    /// apart, so they are compared without.
    pub fn find(&self, kind: SettingKind, name: &str) -> Option<&Setting> {
        let same = |known: &str| match kind {
            SettingKind::Env => known.eq_ignore_ascii_case(name),
            SettingKind::Option | SettingKind::Flag => known == name,
        };
        let of_kind = self.settings.iter().filter(|s| s.kind == kind);
        let by_name = of_kind.clone().find(|s| same(&s.name) || s.alias.iter().any(|a| same(a)));
        by_name.or_else(|| {
            let flags = self.settings.iter();
            flags.filter(|_| kind == SettingKind::Env).find(|s| !s.env.is_empty() && same(&s.env))
        })
    }

    /// All settings of a kind.
    pub fn all(&self, kind: SettingKind) -> impl Iterator<Item = &Setting> {
        self.settings.iter().filter(move |s| s.kind == kind)
    }

    /// Names of the GPU libraries that a release has, those of boards left out.
    pub fn gpu_libraries(&self, at: Version, windows: bool) -> Vec<&str> {
        let other = if windows { "rocm_v7_2" } else { "rocm_v7_1" };
        let known = self.libraries.iter().filter(|l| l.gpu && l.known_by(at));
        let names = known.map(|l| l.name.as_str());
        names.filter(|n| *n != other && !n.contains("jetpack")).collect()
    }

    /// Whether newer builds of llama.cpp know a flag; `Some(false)` for one that only older ones
    /// do.
    pub fn knows_flag(&self, flag: &str) -> Option<bool> {
        if let Some(setting) = self.find(SettingKind::Flag, flag) {
            return Some(!setting.gone);
        }
        if self.flags.iter().any(|f| f == flag) {
            return Some(true);
        }
        self.flags_gone.iter().any(|f| f == flag).then_some(false)
    }

    /// The known name that is most like a misspelled one, if one is near.
    pub fn near(&self, kind: SettingKind, name: &str) -> Option<&str> {
        let aliases = self.all(kind).flat_map(|s| s.alias.iter().map(String::as_str));
        let names = self.all(kind).filter(|s| !s.gone).map(|s| s.name.as_str()).chain(aliases);
        let flags = self.flags.iter().map(String::as_str).filter(|_| kind == SettingKind::Flag);
        let likeness = |known: &str| {
            strsim::normalized_damerau_levenshtein(
                &known.trim_start_matches('-').to_ascii_lowercase().replace('_', "-"),
                &name.trim_start_matches('-').to_ascii_lowercase().replace('_', "-"),
            )
        };
        let best = names.chain(flags).map(|n| (n, likeness(n)));
        // Below this, "near" names are another setting: OLLAMA_MAX_QUEUE is not OLLAMA_MAX_VRAM.
        best.filter(|(_, l)| *l >= 0.75).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(n, _)| n)
    }
}

fn version(text: &str) -> Option<Version> {
    let mut parts = text.split('.').map(|p| p.parse().ok());
    Some(Version(parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_files_can_be_read_and_no_name_is_there_twice() {
        let mut names = std::collections::BTreeSet::new();
        for text in FILES {
            let file: File = toml::from_str(text).unwrap();
            assert!(file.setting.len() > 40, "{}", file.setting.len());
            for setting in &file.setting {
                for name in [&setting.name].into_iter().chain(&setting.alias) {
                    assert!(names.insert((setting.kind as u8, name.clone())), "{name} twice");
                }
                for bound in [&setting.since, &setting.until].into_iter().flatten() {
                    assert!(version(bound).is_some(), "{}: {bound}", setting.name);
                }
                assert_eq!(setting.takes == Takes::Words, !setting.words.is_empty());
                assert!(!setting.does.is_empty());
            }
            for library in &file.library {
                assert!(library.since.as_deref().is_none_or(|s| version(s).is_some()));
                assert!(library.until.as_deref().is_none_or(|s| version(s).is_some()));
            }
            for flag in file.known.flags.iter().chain(&file.known.gone) {
                assert!(names.insert((SettingKind::Flag as u8, flag.clone())), "{flag} twice");
            }
        }
    }

    #[test]
    fn a_setting_is_found_by_every_spelling_and_by_its_variable() {
        let find = |kind, name| knobs().find(kind, name).map(|s| s.name.as_str());
        assert_eq!(find(SettingKind::Flag, "-ngl"), Some("--n-gpu-layers"));
        assert_eq!(find(SettingKind::Flag, "--gpu-layers"), Some("--n-gpu-layers"));
        assert_eq!(find(SettingKind::Env, "LLAMA_ARG_N_GPU_LAYERS"), Some("--n-gpu-layers"));
        assert_eq!(find(SettingKind::Env, "ollama_num_parallel"), Some("OLLAMA_NUM_PARALLEL"));
        assert_eq!(find(SettingKind::Option, "num_ctx"), Some("num_ctx"));
        assert_eq!(find(SettingKind::Env, "num_ctx"), None);
    }

    #[test]
    fn versions_bound_what_is_known() {
        let fit = knobs().find(SettingKind::Env, "LLAMA_ARG_FIT").unwrap();
        assert!(!fit.known_by(Version(0, 24, 0)) && fit.known_by(Version(0, 30, 0)));
        let engine = knobs().find(SettingKind::Env, "OLLAMA_NEW_ENGINE").unwrap();
        assert!(engine.known_by(Version(0, 12, 3)) && !engine.known_by(Version(0, 30, 1)));
        assert_eq!(knobs().knows_flag("--no-mmap"), Some(false));
        assert_eq!(knobs().knows_flag("--jinja"), Some(true));
        assert_eq!(knobs().knows_flag("--gpu"), None);
    }

    #[test]
    fn a_misspelling_leads_to_the_name_that_was_meant() {
        assert_eq!(knobs().near(SettingKind::Flag, "--n-gpu-layer"), Some("--n-gpu-layers"));
        assert_eq!(
            knobs().near(SettingKind::Env, "OLLAMA_NUM_PARALEL"),
            Some("OLLAMA_NUM_PARALLEL")
        );
        assert_eq!(knobs().near(SettingKind::Option, "numctx"), Some("num_ctx"));
        assert_eq!(knobs().near(SettingKind::Env, "OLLAMA_GPU_LAYER"), None);
    }
}
