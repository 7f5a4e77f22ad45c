//! The places where Ollama keeps its log, by operating system.

use std::path::{Path, PathBuf};

use super::Source;

/// What of a system decides where the log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `linux`, `macos` or `windows`, as [`std::env::consts::OS`] says.
    pub os: String,
    /// The user's folder.
    pub home: Option<PathBuf>,
    /// `%LOCALAPPDATA%` on Windows.
    pub local_app_data: Option<PathBuf>,
}

impl Host {
    /// This system.
    pub fn here() -> Self {
        let folder =
            |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            os: std::env::consts::OS.to_string(),
            home: folder("HOME").or_else(|| folder("USERPROFILE")),
            local_app_data: folder("LOCALAPPDATA"),
        }
    }
}

/// Where to look, the likeliest first. On Windows and macOS the application writes `server.log` and
/// numbers the older ones; on Linux the service writes to the journal, and a server started by hand
/// writes nowhere. The first one that is there and not empty is the log.
pub fn default_sources(host: &Host) -> Vec<Source> {
    let file = |folder: &Path| Source::File(folder.join("server.log"));
    let mut found = Vec::new();
    match host.os.as_str() {
        "windows" => found.extend(host.local_app_data.iter().map(|d| file(&d.join("Ollama")))),
        "macos" => found.extend(host.home.iter().map(|d| file(&d.join(".ollama").join("logs")))),
        _ => {
            found.push(Source::Journald("ollama".to_string()));
            found.extend(host.home.iter().map(|d| file(&d.join(".ollama").join("logs"))));
            found.push(Source::File(PathBuf::from("/var/log/ollama.log")));
        }
    }
    found.push(Source::Docker("ollama".to_string()));
    found
}
