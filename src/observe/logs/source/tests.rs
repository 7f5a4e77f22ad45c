//! Sources of every kind.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use super::*;

fn all(stream: &mut Stream) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 700]);
    while let Step::Bytes(n) = stream.read(&mut buffer).unwrap() {
        bytes.extend_from_slice(&buffer[..n]);
    }
    bytes
}

fn text() -> Vec<u8> {
    (0..5000).flat_map(|i| format!("line {i} of a log\n").into_bytes()).collect()
}

fn read_file(bytes: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("any.name");
    fs::write(&path, bytes).unwrap();
    all(&mut Source::File(path).open(false).unwrap())
}

#[test]
fn packed_files_are_told_by_their_bytes() {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    };
    let text = text();
    let (first, second) = text.split_at(20_000);
    assert_eq!(read_file(&text), text);
    assert_eq!(read_file(&gzip(&text)), text);
    assert_eq!(read_file(&[gzip(first), gzip(second)].concat()), text);
    assert_eq!(read_file(&zstd(&text)), text);
    assert_eq!(read_file(&[zstd(first), zstd(second)].concat()), text);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..]].concat();
    assert_eq!(read_file(&[zstd(first), skippable, zstd(second)].concat()), text);
    assert_eq!(read_file(b""), b"");
    assert_eq!(read_file(&[0x1f]), [0x1f]);
}

#[test]
fn a_damaged_file_is_an_error_and_not_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    for bytes in [&[0x1f, 0x8b, 0, 0, 0][..], &[0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff]] {
        fs::write(&path, bytes).unwrap();
        let mut stream = Source::File(path.clone()).open(false).unwrap();
        let error = stream.read(&mut [0; 100]).unwrap_err();
        assert!(error.to_string().contains("to its end"), "{error}");
    }
}

#[test]
fn arguments_are_read_as_people_write_them() {
    assert_eq!(Source::parse("-"), Source::Stdin);
    assert_eq!(Source::parse("journald:ollama"), Source::Journald("ollama".into()));
    assert_eq!(Source::parse("docker:my-ollama"), Source::Docker("my-ollama".into()));
    assert_eq!(Source::parse("C:\\x.log"), Source::File("C:\\x.log".into()));
    assert_eq!(Source::parse("journald:"), Source::File("journald:".into()));
}

#[test]
fn a_file_that_grows_is_followed_through_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.log");
    fs::write(&path, "one\n").unwrap();
    let mut stream = Source::File(path.clone()).open(true).unwrap();
    let mut buffer = [0; 64];
    let mut next = || match stream.read(&mut buffer).unwrap() {
        Step::Bytes(n) => String::from_utf8_lossy(&buffer[..n]).into_owned(),
        step => format!("{step:?}"),
    };
    let append = |path: &Path, text: &str| {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    assert_eq!(next(), "one\n");
    assert_eq!(next(), "Idle");
    append(&path, "two\n");
    assert_eq!(next(), "two\n");
    // Put away with a last line, and for a moment there is no file.
    let old = folder.path().join("server-1.log");
    append(&path, "three\n");
    fs::rename(&path, &old).unwrap();
    assert_eq!(next(), "three\n");
    assert_eq!(next(), "Idle");
    append(&path, "four\n");
    assert_eq!(next(), "Rotated");
    assert_eq!(next(), "four\n");
    // Cut to begin anew.
    fs::write(&path, "5\n").unwrap();
    assert_eq!(next(), "Rotated");
    assert_eq!(next(), "5\n");
    assert_eq!(next(), "Idle");
    // Cut, and longer than before when somebody looks again.
    fs::write(&path, "six\nseven\n").unwrap();
    assert_eq!(next(), "Rotated");
    assert_eq!(next(), "six\nseven\n");
    assert_eq!(next(), "Idle");
    // The program has the old file open and writes there until it begins with the new one.
    let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
    fs::rename(&path, &old).unwrap();
    fs::write(&path, "").unwrap();
    assert_eq!(next(), "Idle");
    writer.write_all(b"eight\n").unwrap();
    assert_eq!(next(), "eight\n");
    append(&path, "nine\n");
    assert_eq!(next(), "Rotated");
    assert_eq!(next(), "nine\n");
}

/// A server whose output was sent to a file with `>` writes on at its old place after the cut.
#[test]
fn zeros_before_what_is_written_after_a_cut_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.log");
    let mut writer = File::create(&path).unwrap();
    writer.write_all(b"one line\n").unwrap();
    let mut stream = Source::File(path.clone()).open(true).unwrap();
    assert_eq!(all(&mut stream), b"one line\n");
    // Looked at between the cut and the next line, and not.
    for look in [true, false] {
        OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        if look {
            assert_eq!(stream.read(&mut [0; 64]).unwrap(), Step::Rotated);
            assert_eq!(all(&mut stream), b"");
        }
        writer.write_all(b"the next\n").unwrap();
        assert_eq!(all(&mut stream), b"the next\n", "{look}");
    }
}

#[cfg(unix)]
#[test]
fn a_program_gives_both_outputs_and_its_last_word() {
    let mut tool = Tool::start("sh", &["-c", "echo out; echo err >&2"]).unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 64]);
    while let Step::Bytes(n) = tool.read(&mut buffer).unwrap() {
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert_eq!(text, "out\nerr\n");
    let mut tool = Tool::start("sh", &["-c", "echo No such container: x >&2; exit 1"]).unwrap();
    assert!(matches!(tool.read(&mut buffer), Ok(Step::Bytes(_))));
    let error = tool.read(&mut buffer).unwrap_err();
    assert_eq!(error.to_string(), "sh says: No such container: x");
    // One that is waited for can be ended.
    let mut tool = Tool::start("sh", &["-c", "echo begun; exec sleep 600"]).unwrap();
    assert!(matches!(tool.read(&mut buffer), Ok(Step::Bytes(_))));
    tool.stopper().stop();
    assert!(tool.read(&mut buffer).is_err());
    let missing = Tool::start("no-such-program-here", &[]).unwrap_err();
    assert!(missing.to_string().contains("no-such-program-here"));
}

#[test]
fn a_folder_or_nothing_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    for follow in [false, true] {
        let error = Source::File(folder.path().into()).open(follow).unwrap_err();
        assert!(error.to_string().contains("is a folder"), "{error}");
    }
    let error = Source::File(folder.path().join("none")).open(false).unwrap_err();
    assert!(error.hint().contains("journald:UNIT"));
}

#[test]
fn every_system_has_its_places() {
    let host = |os: &str| Host {
        os: os.into(),
        home: Some("/home/u".into()),
        local_app_data: Some("C:/Users/u/AppData/Local".into()),
    };
    let names = |os: &str| -> Vec<String> {
        default_sources(&host(os)).iter().map(|s| s.name().replace('\\', "/")).collect()
    };
    assert_eq!(names("linux")[..2], ["journald:ollama", "/home/u/.ollama/logs/server.log"]);
    assert_eq!(names("macos")[0], "/home/u/.ollama/logs/server.log");
    assert_eq!(names("windows")[0], "C:/Users/u/AppData/Local/Ollama/server.log");
}

#[test]
fn of_a_long_log_only_the_end_is_followed_and_in_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.log");
    let line = |i: u32| format!("line {i} {}\n", "x".repeat(200));
    let text: String = (0..50_000).map(line).collect();
    assert!(text.len() as u64 > RECENT_BYTES);
    fs::write(&path, &text).unwrap();
    let mut stream = Source::File(path.clone()).follow_recent().unwrap();
    let seen = String::from_utf8(all(&mut stream)).unwrap();
    assert!(seen.starts_with("line ") && text.ends_with(&seen), "{}", &seen[..40]);
    let short = (RECENT_BYTES as usize).saturating_sub(seen.len());
    assert!(seen.len() as u64 <= RECENT_BYTES && short < line(50_000).len(), "{short} bytes short");
    // It grows, and it is still known as the same file.
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"one more\n").unwrap();
    assert_eq!(all(&mut stream), b"one more\n");
    // Of a short one nothing is left out.
    fs::write(&path, "a\nb\n").unwrap();
    assert_eq!(all(&mut Source::File(path).follow_recent().unwrap()), b"a\nb\n");
}
