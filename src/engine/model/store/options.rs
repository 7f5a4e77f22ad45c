//! Where models and shapes are kept on this machine.

use std::env;
use std::path::PathBuf;

/// The folders that the store works with. Folders that do not exist are no error; the cache folder
/// is made when it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// Where models with random weights are kept.
    pub cache_dir: Option<PathBuf>,
    /// Ollama stores, each with `manifests` and `blobs`; the first that has a model counts.
    pub ollama_dirs: Vec<PathBuf>,
    /// Folders with shapes of the user's own, `*.toml`; a later folder wins over an earlier one,
    /// and all win over the shapes that are built in.
    pub shape_dirs: Vec<PathBuf>,
}

impl StoreOptions {
    /// The folders of this machine and user.
    ///
    /// - cache: `GPUWHY_CACHE`; else `gpuwhy` in `XDG_CACHE_HOME`, in `~/.cache`, or in
    ///   `LOCALAPPDATA` on Windows
    /// - Ollama: `OLLAMA_MODELS` alone when it is set; else `.ollama/models` at home and the places
    ///   in which Linux packages keep the store of the service
    /// - shapes: `models` in `GPUWHY_PROFILES`; else `gpuwhy/profiles/models` in `XDG_CONFIG_HOME`
    ///   or `~/.config`
    pub fn from_env() -> Self {
        Self::from_lookup(|name| env::var_os(name).map(PathBuf::from), env::home_dir())
    }

    /// As [`Self::from_env`], with the environment as a function and the home folder given.
    fn from_lookup(var: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> Self {
        // An empty variable counts as unset, as the XDG specification has it.
        let var = |name: &str| var(name).filter(|value| !value.as_os_str().is_empty());
        let home = home.filter(|home| !home.as_os_str().is_empty());
        let at_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let base = |xdg: &str, dot: &str| {
            // XDG paths that are relative are to be ignored.
            let xdg = var(xdg).filter(|path| path.is_absolute());
            let local = if cfg!(windows) { var("LOCALAPPDATA") } else { None };
            xdg.or(local).or_else(|| at_home(dot)).map(|dir| dir.join("gpuwhy"))
        };
        let ollama_dirs = match var("OLLAMA_MODELS") {
            Some(dir) => vec![dir],
            None => at_home(".ollama/models").into_iter().chain(service_stores()).collect(),
        };
        let profiles = var("GPUWHY_PROFILES")
            .or_else(|| Some(base("XDG_CONFIG_HOME", ".config")?.join("profiles")));
        Self {
            cache_dir: var("GPUWHY_CACHE").or_else(|| base("XDG_CACHE_HOME", ".cache")),
            ollama_dirs,
            shape_dirs: profiles.into_iter().map(|dir| dir.join("models")).collect(),
        }
    }
}

/// Where the Ollama service keeps its models when it runs as a user of its own.
fn service_stores() -> Vec<PathBuf> {
    if !cfg!(target_os = "linux") {
        return Vec::new();
    }
    // The official installer first, then the packages of distributions.
    [
        "/usr/share/ollama/.ollama/models",
        "/var/lib/ollama/.ollama/models",
        "/var/lib/ollama/models",
        "/var/lib/ollama",
    ]
    .map(PathBuf::from)
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(vars: &[(&str, &str)]) -> StoreOptions {
        let var = |name: &str| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
        };
        StoreOptions::from_lookup(var, Some("/home/me".into()))
    }

    #[test]
    #[cfg(unix)]
    fn folders_at_home_are_the_default() {
        let found = options(&[("XDG_CACHE_HOME", ""), ("XDG_CONFIG_HOME", "relative")]);
        assert_eq!(found.cache_dir, Some("/home/me/.cache/gpuwhy".into()));
        assert_eq!(found.ollama_dirs[0], PathBuf::from("/home/me/.ollama/models"));
        assert_eq!(found.shape_dirs, [PathBuf::from("/home/me/.config/gpuwhy/profiles/models")]);
        let nowhere = StoreOptions::from_lookup(|_| None, None);
        assert_eq!((nowhere.cache_dir, nowhere.shape_dirs), (None, Vec::new()));
    }

    #[test]
    #[cfg(unix)]
    fn variables_override_the_defaults() {
        let found = options(&[("XDG_CACHE_HOME", "/c"), ("XDG_CONFIG_HOME", "/x")]);
        assert_eq!(found.cache_dir, Some("/c/gpuwhy".into()));
        assert_eq!(found.shape_dirs, [PathBuf::from("/x/gpuwhy/profiles/models")]);
        let found = options(&[
            ("XDG_CACHE_HOME", "/c"),
            ("GPUWHY_CACHE", "/g"),
            ("GPUWHY_PROFILES", "/p"),
            ("OLLAMA_MODELS", "/o"),
        ]);
        assert_eq!(found.cache_dir, Some("/g".into()));
        assert_eq!(found.shape_dirs, [PathBuf::from("/p/models")]);
        assert_eq!(found.ollama_dirs, [PathBuf::from("/o")]);
    }
}
