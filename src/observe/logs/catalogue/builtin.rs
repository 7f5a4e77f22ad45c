//! The files of patterns that are part of the program.

use std::sync::LazyLock;

use super::{Catalogue, Pattern, file};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$((
            concat!($name, ".toml"),
            include_str!(concat!("../../../../profiles/engines/", $name, ".toml")),
        )),*]
    };
}

/// Name and text. One name a line; a test compares the list with the folder.
pub(super) static FILES: &[(&str, &str)] = files![
    "gpuwhy",
    "llama-cpp",
    "llama-server",
    "notices-gpu",
    "notices-memory",
    "notices-requests",
    "ollama-a",
    "ollama-b",
    "ollama-c",
    "ollama-server",
    "scheduler-dump",
    "vllm",
];

/// Without the checks, which a test makes: they cost more than a short log.
pub(super) fn catalogue() -> &'static Catalogue {
    static BUILTIN: LazyLock<Catalogue> = LazyLock::new(|| {
        let entries =
            FILES.iter().filter_map(|(name, text)| Some((name, file::parse(name, text).ok()?)));
        let patterns = entries.flat_map(|(name, file)| {
            file.pattern.into_iter().filter_map(|entry| Pattern::new(name, entry).ok())
        });
        Catalogue::index(patterns.collect())
    });
    &BUILTIN
}
