//! Builds the emulated management library of fixtures/nvml_emulator and gives each test its own copy
//! with its own script.
//!
//! Without a C compiler such tests are skipped with a printed reason, unless
//! `GPUWHY_REQUIRE_NVML_EMULATOR=1`.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

const REQUIRE: &str = "GPUWHY_REQUIRE_NVML_EMULATOR";

/// A copy of the library, whose GPUs do what a script says.
pub(crate) struct Emulator {
    folder: TempDir,
}

impl Emulator {
    /// A library that follows `script`; `None` where none can be built.
    pub(crate) fn new(script: &str) -> Option<Self> {
        static PLAIN: OnceLock<Option<PathBuf>> = OnceLock::new();
        let library = PLAIN.get_or_init(|| build("plain", &[]));
        Some(Self::copy_of(library.as_deref()?, script))
    }

    /// A library without `nvmlShutdown`.
    pub(crate) fn without_shutdown(script: &str) -> Option<Self> {
        static LESS: OnceLock<Option<PathBuf>> = OnceLock::new();
        let library = LESS.get_or_init(|| build("less", &["-DWITHOUT_SHUTDOWN"]));
        Some(Self::copy_of(library.as_deref()?, script))
    }

    fn copy_of(library: &Path, script: &str) -> Self {
        let emulator = Self { folder: tempfile::tempdir().unwrap() };
        fs::copy(library, emulator.library()).unwrap();
        emulator.follow(script);
        emulator
    }

    /// Where it is.
    pub(crate) fn library(&self) -> PathBuf {
        self.folder.path().join("libnvidia-ml.so.1")
    }

    /// From now on it does this.
    pub(crate) fn follow(&self, script: &str) {
        // Whole, as it may be read at any time.
        let partial = self.folder.path().join("partial");
        fs::write(&partial, script).unwrap();
        fs::rename(partial, self.folder.path().join("script")).unwrap();
    }
}

fn build(name: &str, more: &[&str]) -> Option<PathBuf> {
    if Command::new("cc").arg("--version").output().is_err() {
        let required = std::env::var(REQUIRE).is_ok_and(|v| v == "1");
        assert!(!required, "{REQUIRE} is set, but there is no C compiler");
        println!("skipped: the emulated management library needs a C compiler to be built");
        return None;
    }
    // Test binaries may run side by side.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = target.join(format!("nvml_emulator_{name}.so"));
    let partial = target.join(format!("nvml_emulator_{name}_{}", std::process::id()));
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nvml_emulator/libnvidia-ml.c");
    let mut compile = Command::new("cc");
    compile.args(["-std=c11", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]);
    let output = compile.args(more).arg(source).arg("-o").arg(&partial).arg("-ldl").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(partial, &library).unwrap();
    Some(library)
}
