//! Builds the emulated driver of fixtures/cuda_emulator and runs tests with it.
//!
//! A library is chosen when a process starts, so a test that wants the emulated driver runs its
//! body in a child: the same test binary, told to run this one test, with the emulator's folder first in
//! the loader's path. Without g++ such tests are skipped with a printed reason, unless
//! `GPUWHY_REQUIRE_CUDA_EMULATOR=1`.
//!
//! `GPUWHY_CUDA_EMULATOR_SANITIZE=address,undefined` builds it with sanitizers.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// Set in a child, to the test's name.
const CHILD: &str = "GPUWHY_CUDA_EMULATED_TEST";

const REQUIRE: &str = "GPUWHY_REQUIRE_CUDA_EMULATOR";
const SANITIZE: &str = "GPUWHY_CUDA_EMULATOR_SANITIZE";

/// Runs `body` in a child process that has the emulated driver, set up by `settings` (see
/// fixtures/cuda_emulator/README.md). `test` is the calling test's full name in its binary.
pub(crate) fn emulated(test: &str, settings: &[(&str, &str)], body: impl FnOnce()) {
    let Some(folder) = emulator() else { return };
    in_child(test, &folder, settings, body);
}

/// As [`emulated`], with another folder than the emulator's to find a driver in.
pub(crate) fn in_child(test: &str, folder: &Path, settings: &[(&str, &str)], body: impl FnOnce()) {
    if std::env::var(CHILD).is_ok_and(|name| name == test) {
        return body();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, test);
    let output = with_driver(&mut child, folder, settings).output().unwrap();
    let text = said(&output);
    assert!(
        output.status.success(),
        "{test} with {settings:?} ended with {}:\n{text}",
        output.status
    );
    assert!(text.contains("1 passed"), "{test} is not the name of one test:\n{text}");
}

/// The program itself, with the emulated driver; `None` without g++.
pub(crate) fn emulated_program(settings: &[(&str, &str)]) -> Option<Command> {
    let folder = emulator()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpuwhy"));
    with_driver(&mut command, &folder, settings);
    Some(command)
}

/// Both outputs of a process, for messages.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Lets a command find its driver in `folder`.
pub(crate) fn with_driver<'a>(
    command: &'a mut Command,
    folder: &Path,
    settings: &[(&str, &str)],
) -> &'a mut Command {
    command.env("LD_LIBRARY_PATH", folder).envs(settings.iter().copied());
    if sanitizers().is_some_and(|s| s.contains("address")) {
        // The library's sanitizer must be loaded before everything else. Rust's own code is not
        // instrumented, so that only the kernels and the emulator are looked at.
        let library = Command::new("g++").arg("-print-file-name=libasan.so").output().unwrap();
        command.env("LD_PRELOAD", String::from_utf8(library.stdout).unwrap().trim());
        command.env("ASAN_OPTIONS", "detect_leaks=0");
    }
    command
}

fn sanitizers() -> Option<String> {
    std::env::var(SANITIZE).ok().filter(|s| !s.is_empty())
}

/// The folder that holds the emulated driver, built when its sources have changed.
pub(crate) fn emulator() -> Option<PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(build_unless_child).clone()
}

fn build_unless_child() -> Option<PathBuf> {
    if std::env::var(CHILD).is_ok() {
        // The parent has built it and put it on the path.
        return std::env::var_os("LD_LIBRARY_PATH").map(PathBuf::from);
    }
    if Command::new("g++").arg("--version").output().is_err() {
        let required = std::env::var(REQUIRE).is_ok_and(|v| v == "1");
        assert!(!required, "{REQUIRE} is set, but there is no g++");
        println!("skipped: the emulated CUDA driver needs g++ to be built");
        return None;
    }
    Some(build())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn kernels_folder() -> PathBuf {
    root().join("src/engine/backend/cuda/kernels")
}

/// Compiles each source to an object named by the hash of everything that goes into it, and links.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("cuda_emulator");
    let objects = target.join("objects");
    fs::create_dir_all(&objects).unwrap();
    // Test binaries may run side by side.
    let lock = File::create(target.join("lock")).unwrap();
    lock.lock().unwrap();
    let mut sources = vec![root().join("fixtures/cuda_emulator/libcuda.cpp")];
    sources.extend(files(&kernels_folder(), "cu"));
    let mut names: Vec<(PathBuf, PathBuf)> = Vec::new();
    for source in sources {
        names.push((objects.join(hash_of(&source) + ".o"), source));
    }
    compile(&names);
    let mut all = Sha256::new();
    for (object, _) in &names {
        all.update(object.as_os_str().as_encoded_bytes());
    }
    let folder = target.join(&hex(&all.finalize())[..16]);
    let library = folder.join("libcuda.so.1");
    if !library.exists() {
        fs::create_dir_all(&folder).unwrap();
        let partial = folder.join("partial");
        let mut link = Command::new("g++");
        link.args(flags()).arg("-shared").arg("-o").arg(&partial);
        run(link.args(names.iter().map(|n| &n.0)));
        // The development name, which some loaders try first.
        fs::copy(&partial, folder.join("libcuda.so")).unwrap();
        fs::rename(&partial, &library).unwrap();
    }
    folder
}

fn flags() -> Vec<String> {
    let mut flags: Vec<String> =
        ["-std=c++20", "-O2", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
            .map(str::to_string)
            .to_vec();
    flags.push("-Wno-unknown-pragmas".to_string());
    // Contracted products would differ from the CPU's reference in the last bit.
    flags.push("-ffp-contract=off".to_string());
    if let Some(sanitizers) = sanitizers() {
        flags.push(format!("-fsanitize={sanitizers}"));
        flags.push("-fno-sanitize-recover=undefined".to_string());
    }
    flags
}

/// Compiles what is not there yet, two at a time.
fn compile(names: &[(PathBuf, PathBuf)]) {
    let missing: Vec<_> = names.iter().filter(|(object, _)| !object.exists()).collect();
    std::thread::scope(|scope| {
        for half in [0, 1] {
            let mine = missing.iter().skip(half).step_by(2);
            scope.spawn(move || {
                for (object, source) in mine {
                    let partial = object.with_extension("partial");
                    let mut command = Command::new("g++");
                    command.args(flags()).arg("-c").arg("-o").arg(&partial);
                    command.arg("-I").arg(root().join("fixtures/cuda_emulator"));
                    command.arg("-I").arg(kernels_folder());
                    if source.extension().is_some_and(|e| e == "cu") {
                        command.args(["-include", "cuda_cpu.h", "-x", "c++"]);
                    }
                    command.arg(source);
                    run(&mut command);
                    fs::rename(&partial, object).unwrap();
                }
            });
        }
    });
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}:\n{}", said(&output));
}

/// Files of a folder with this extension, by name.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    found.sort();
    found
}

/// The hash of a source, of what it includes, of the emulation's headers and of the flags.
fn hash_of(source: &Path) -> String {
    let mut texts: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let mut todo = vec![source.to_path_buf()];
    todo.extend(files(&root().join("fixtures/cuda_emulator"), "h"));
    todo.extend(files(&root().join("fixtures/cuda_emulator/cpu"), "h"));
    while let Some(path) = todo.pop() {
        let text = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let included: Vec<String> = String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| {
                let rest = line.trim_start().strip_prefix("#include")?.trim_start();
                Some(rest.strip_prefix('"')?.split('"').next()?.to_string())
            })
            .collect();
        if texts.insert(path, text).is_none() {
            let of_kernels = included.iter().map(|name| kernels_folder().join(name));
            todo.extend(of_kernels.filter(|p| p.exists()));
        }
    }
    let mut all = Sha256::new();
    all.update(flags().join(" "));
    for text in texts.values() {
        all.update((text.len() as u64).to_le_bytes());
        all.update(text);
    }
    hex(&all.finalize())[..24].to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
