//! Follows a log in the background and makes an event of each line.
//!
//! Nothing is understood here: that is the parser's, in the session. Invariant: a line is told once,
//! whole, and cut only where it is unreasonably long; dropping the follower ends its thread, or leaves
//! it alone where it waits for a pipe that nobody can interrupt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::base::clock::now_ns;
use crate::base::event::{Event, Line, Warning};
use crate::base::sink::Sink;
use crate::observe::logs::{Pumped, Source, SourceError, Stopper, pump};

/// A line longer than this is cut, in bytes.
const LINE_BYTES_MAX: usize = 1 << 16;

/// Time to read what a program has written before it is ended.
const GRACE: Duration = Duration::from_millis(250);

/// Time for the thread to end, which it needs only where it waits for a pipe.
const PATIENCE: Duration = Duration::from_secs(2);

/// A log that is followed.
#[derive(Debug)]
pub struct LogFollower {
    source: Source,
    stop: Arc<AtomicBool>,
    stopper: Stopper,
    /// Hangs up when the thread has ended.
    ended: Receiver<()>,
}

impl LogFollower {
    /// Begins to follow `source`, from a while ago, into `sink`. That it cannot be read further is told
    /// as a warning.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn start(source: Source, sink: &Arc<dyn Sink>) -> Result<Self, SourceError> {
        let stream = source.follow_recent()?;
        let stopper = stream.stopper();
        let stop = Arc::new(AtomicBool::new(false));
        let (alive, ended) = channel::<()>();
        let (theirs, sink, name) = (Arc::clone(&stop), Arc::clone(sink), source.name());
        let run = move || {
            let _alive = alive;
            let mut lines = Lines::default();
            pump(stream, &theirs, |pumped| {
                match pumped {
                    Pumped::Bytes(bytes) => lines.push(bytes, sink.as_ref()),
                    Pumped::Rotated => lines.end(sink.as_ref()),
                    // A program that we ended says that it was ended.
                    Pumped::Failed(_) if theirs.load(Ordering::Relaxed) => {}
                    Pumped::Failed(error) => {
                        let text = format!("the log {name} is followed no further: {error}");
                        sink.record(Event::Warning(Warning { at_ns: now_ns(), text }));
                    }
                }
                true
            });
            lines.end(sink.as_ref());
        };
        let named = thread::Builder::new().name("follow-log".to_string());
        if let Err(error) = named.spawn(run) {
            return Err(SourceError::Read { name: source.name(), error });
        }
        Ok(Self { source, stop, stopper, ended })
    }

    /// What it follows.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        matches!(self.ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected))
    }
}

impl Drop for LogFollower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // What a program has written is read before it is ended.
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(GRACE) {
            self.stopper.stop();
            let _ = self.ended.recv_timeout(PATIENCE);
        }
    }
}

/// Bytes that become lines.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], sink: &dyn Sink) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.begun.len());
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            self.begun.extend_from_slice(&text[..text.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.tell(sink);
            }
        }
    }

    /// No more comes to what was begun.
    fn end(&mut self, sink: &dyn Sink) {
        if !self.begun.is_empty() {
            self.tell(sink);
        }
    }

    fn tell(&mut self, sink: &dyn Sink) {
        let line = self.begun.strip_suffix(b"\r").unwrap_or(&self.begun);
        let text = String::from_utf8_lossy(line).into_owned();
        sink.record(Event::Line(Line { at_ns: now_ns(), text }));
        self.begun.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;
    use std::time::Instant;

    use super::*;
    use crate::base::sink::MemorySink;

    fn texts(events: Vec<Event>) -> Vec<String> {
        let line = |event| match event {
            Event::Line(line) => Some(line.text),
            Event::Warning(warning) => Some(format!("warning: {}", warning.text)),
            _ => None,
        };
        events.into_iter().filter_map(line).collect()
    }

    #[test]
    fn pieces_become_whole_lines() {
        let sink = MemorySink::default();
        let mut lines = Lines::default();
        for piece in ["a", "b\nc\r\n", "\n", "d", "", "e"] {
            lines.push(piece.as_bytes(), &sink);
        }
        lines.push(&[0xff, b'\n'], &sink);
        lines.push(&vec![b'x'; LINE_BYTES_MAX + 9], &sink);
        lines.end(&sink);
        lines.end(&sink);
        let texts = texts(sink.take());
        assert_eq!(texts[..4], ["ab", "c", "", "de\u{fffd}"]);
        assert_eq!((texts.len(), texts[4].len()), (5, LINE_BYTES_MAX));
    }

    #[test]
    fn a_file_is_followed_until_the_follower_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        fs::write(&path, "first\n").unwrap();
        let sink = Arc::new(MemorySink::default());
        let theirs: Arc<dyn Sink> = sink.clone();
        let follower = LogFollower::start(Source::File(path.clone()), &theirs).unwrap();
        let mut seen = Vec::new();
        let begun = Instant::now();
        while seen.is_empty() && begun.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(5));
            seen.extend(texts(sink.take()));
        }
        assert_eq!(seen, ["first"]);
        // What is there when it is dropped is still told.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"second\nthird").unwrap();
        assert!(!follower.has_ended());
        drop(follower);
        assert_eq!(texts(sink.take()), ["second", "third"]);
        let missing = Source::File(folder.path().join("none.log"));
        assert!(LogFollower::start(missing, &theirs).is_err());
    }
}
