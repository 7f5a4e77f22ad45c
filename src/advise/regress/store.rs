//! Baselines on disk: read whole, written beside the old file and then put in its place, so that the
//! file is always the old one or the new one, whatever stops the program or fills the disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs4::FileExt;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use super::baseline::{BASELINE_SCHEMA, Baseline};

/// What can go wrong with a baseline's file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read or written.
    #[error("cannot {what} {path}: {error}")]
    Io {
        /// `read`, `write`, `lock`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is no baseline.
    #[error("{path} is no baseline that this version reads: {problem}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with line and column where that is known.
        problem: String,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "the old baseline, if there was one, is as it was",
            Self::Format { .. } => {
                "take it back from version control, or move it away and make one with --update"
            }
        }
    }
}

/// Reads a baseline; `None` where there is no file.
pub fn load(path: &Path) -> Result<Option<Baseline>, StoreError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path, error)),
    };
    let wrong = |problem: String| StoreError::Format { path: path.to_path_buf(), problem };
    let baseline: Baseline = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    if baseline.schema != BASELINE_SCHEMA {
        return Err(wrong(format!("its schema is '{}', not '{BASELINE_SCHEMA}'", baseline.schema)));
    }
    Ok(Some(baseline))
}

/// Changes a baseline: reads what is there, lets `change` make the new one, and puts it in place. Two
/// programs that do so at once wait for each other, so neither's session is lost.
pub fn update(
    path: &Path,
    change: impl FnOnce(Option<Baseline>) -> Baseline,
) -> Result<Baseline, StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(|e| io_error("make the folder of", path, e))?;
    // Held until it is dropped at the end.
    let lock = open_lock(path, folder).map_err(|e| io_error("lock", path, e))?;
    FileExt::lock(&lock).map_err(|e| io_error("lock", path, e))?;
    let baseline = change(load(path)?);
    write(path, folder, &baseline)?;
    Ok(baseline)
}

/// What is locked: the folder itself, so that no file is left beside the baselines. A lock file could
/// not be taken away again while somebody waits for it.
#[cfg(unix)]
fn open_lock(_path: &Path, folder: &Path) -> io::Result<File> {
    File::open(folder)
}

/// Where folders cannot be opened, a file beside the baseline.
#[cfg(not(unix))]
fn open_lock(path: &Path, _folder: &Path) -> io::Result<File> {
    let path = beside(path, "lock");
    File::options().create(true).truncate(false).write(true).open(path)
}

fn write(path: &Path, folder: &Path, baseline: &Baseline) -> Result<(), StoreError> {
    let new = beside(path, "new");
    let failed = |error: io::Error| {
        let _ = fs::remove_file(&new);
        io_error("write", path, error)
    };
    let text = to_text(baseline).map_err(|e| failed(e.into()))?;
    let mut file = File::create(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    drop(file);
    fs::rename(&new, path).map_err(failed)?;
    // The name has changed once the folder is on disk; where folders cannot be synced it is soon.
    let _ = File::open(folder).and_then(|f| f.sync_all());
    Ok(())
}

/// `.quick.json.new`, next to `quick.json`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{ending}"))
}

fn io_error(what: &'static str, path: &Path, error: io::Error) -> StoreError {
    StoreError::Io { what, path: path.to_path_buf(), error }
}

/// JSON in which objects have a line for each field and arrays stand on one line.
pub fn to_text(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let lines = Lines { pretty: PrettyFormatter::new(), inside: 0 };
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, lines))?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// See [`to_text`]. `inside` counts the arrays around what is written.
struct Lines {
    pretty: PrettyFormatter<'static>,
    inside: usize,
}

/// Passes a call on, to the pretty formatter outside of arrays and to the compact one in them.
macro_rules! pass {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {$(
        fn $name<W: ?Sized + Write>(&mut self, writer: &mut W, $($arg: $type),*) -> io::Result<()> {
            if self.inside > 0 {
                CompactFormatter.$name(writer, $($arg),*)
            } else {
                self.pretty.$name(writer, $($arg),*)
            }
        }
    )*};
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.inside += 1;
        CompactFormatter.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.inside -= 1;
        CompactFormatter.end_array(writer)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        // The pretty formatter would take a value for the object around the array.
        Ok(())
    }

    pass! {
        begin_array_value(first: bool);
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::advise::measure::TargetFacts;

    fn baseline(workload: &str) -> Baseline {
        Baseline::new(workload, TargetFacts::default())
    }

    #[test]
    fn arrays_stand_on_one_line() {
        let value = json!({ "a": { "b": [1, 2, { "c": [3] }], "d": {} }, "e": "f" });
        let text = to_text(&value).unwrap();
        let expected = "{\n  \"a\": {\n    \"b\": [1,2,{\"c\":[3]}],\n    \"d\": {}\n  },\n  \
                        \"e\": \"f\"\n}\n";
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn what_is_written_is_read_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/in/quick.json");
        assert_eq!(load(&path).unwrap(), None);
        update(&path, |old| {
            assert_eq!(old, None);
            baseline("a")
        })
        .unwrap();
        let second = update(&path, |old| Baseline { workload: "b".into(), ..old.unwrap() });
        assert_eq!(load(&path).unwrap(), Some(second.unwrap()));
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn a_damaged_file_is_told_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quick.json");
        for text in ["", "{", "{\"schema\": \"gpuwhy.baseline/1\"}", "[]"] {
            fs::write(&path, text).unwrap();
            let error = update(&path, |_| baseline("new")).unwrap_err();
            assert!(error.to_string().contains("quick.json"), "{error}");
            assert!(error.hint().contains("version control"));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let other = to_text(&Baseline { schema: "gpuwhy.baseline/9".into(), ..baseline("x") });
        fs::write(&path, other.unwrap()).unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("gpuwhy.baseline/9"));
    }

    #[test]
    fn programs_that_update_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quick.json");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    update(path, |old| {
                        let mut new = old.unwrap_or_else(|| baseline("w"));
                        new.structure.insert(n.to_string(), BTreeMap::default());
                        new
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(load(&path).unwrap().unwrap().structure.len(), 8);
    }
}
