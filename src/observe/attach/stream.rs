//! Answers that come piece by piece, each with the time of its arrival.
//!
//! Knows two framings, lines of JSON and server-sent events, and nothing of what is in them. The time
//! of a piece is when the read that completed it returned: pieces that came in one read have one time,
//! because nobody can tell them apart. Invariants: times do not go back; a line and the whole are
//! bounded; what comes after the end is not read.

use std::io::{self, Read};

use super::http::{ErrorKind, HttpError};

/// How pieces are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One document a line, as Ollama sends.
    JsonLines,
    /// Server-sent events: `data:` lines ended by an empty one, as OpenAI's interface and
    /// llama-server send.
    ServerSentEvents,
}

/// One piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its text: a line, or the joined `data` of an event.
    pub data: String,
    /// When it had arrived, by [`crate::base::clock::now_ns`].
    pub at_ns: u64,
}

/// Bytes of one line.
const LINE_BYTES_MAX: usize = 8 << 20;
/// Bytes taken at once.
const READ_BYTES: usize = 16 << 10;

/// What an event stream may hold beside data: comments (`: ping`), and fields that say nothing of tokens.
const IGNORED: [&str; 4] = [":", "event", "id", "retry"];

/// The answer to one request, read as it comes.
pub struct Stream {
    reader: Box<dyn Read>,
    framing: Framing,
    clock: fn() -> u64,
    /// Named in errors.
    whose: String,
    /// What was read; `taken` of it was handed out.
    buffer: Vec<u8>,
    taken: usize,
    /// Bytes from `taken` on that are known to hold no end of a line.
    searched: usize,
    /// When the last read returned.
    read_ns: u64,
    bytes_left: u64,
    ended: bool,
    /// `data` of an event that has not ended.
    data: String,
    has_data: bool,
}

impl Stream {
    /// A stream over anything that can be read, of at most `bytes_max`. `whose` names the server in
    /// errors.
    pub fn new(
        reader: Box<dyn Read>,
        framing: Framing,
        clock: fn() -> u64,
        whose: String,
        bytes_max: u64,
    ) -> Self {
        Self {
            reader,
            framing,
            clock,
            whose,
            buffer: Vec::new(),
            taken: 0,
            searched: 0,
            read_ns: 0,
            bytes_left: bytes_max,
            ended: false,
            data: String::new(),
            has_data: false,
        }
    }

    /// The next piece; `None` when the answer has ended. Blocks until there is one.
    pub fn next_event(&mut self) -> Result<Option<Event>, HttpError> {
        while let Some(line) = self.line()? {
            match self.framing {
                Framing::JsonLines if line.trim().is_empty() => {}
                Framing::JsonLines => return Ok(Some(Event { data: line, at_ns: self.read_ns })),
                Framing::ServerSentEvents => {
                    if let Some(event) = self.feed(&line)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
        // An event that the end of the answer cut short is none, says the standard; but some servers
        // leave out the last empty line.
        Ok(self.finish_event())
    }

    /// Takes one line of an event stream; an empty one ends an event.
    fn feed(&mut self, line: &str) -> Result<Option<Event>, HttpError> {
        if line.is_empty() {
            return Ok(self.finish_event());
        }
        if let Some(data) = line.strip_prefix("data:") {
            if self.has_data {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            self.has_data = true;
            if self.data.len() > LINE_BYTES_MAX {
                return Err(self.too_large("an event"));
            }
        } else if !IGNORED.iter().any(|field| line.starts_with(field)) {
            return Err(HttpError::new(
                ErrorKind::Protocol,
                format!("{}: sent something that is no event stream", self.whose),
            ));
        }
        Ok(None)
    }

    fn finish_event(&mut self) -> Option<Event> {
        let data = std::mem::take(&mut self.data);
        std::mem::take(&mut self.has_data).then_some(Event { data, at_ns: self.read_ns })
    }

    /// The next line, without its end; `None` at the end of the answer.
    fn line(&mut self) -> Result<Option<String>, HttpError> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.taken + self.searched..]) {
                let end = self.taken + self.searched + at;
                let line = self.text(self.taken, end)?;
                self.taken = end + 1;
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len() - self.taken;
            if self.searched > LINE_BYTES_MAX {
                return Err(self.too_large("a line"));
            }
            if self.ended {
                if self.searched == 0 {
                    return Ok(None);
                }
                let line = self.text(self.taken, self.buffer.len())?;
                self.taken = self.buffer.len();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), HttpError> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let old = self.buffer.len();
        self.buffer.resize(old + READ_BYTES, 0);
        let result = loop {
            match self.reader.read(&mut self.buffer[old..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.read_ns = (self.clock)();
        self.buffer.truncate(old + result.as_ref().map_or(0, |n| *n));
        let n = result.map_err(|error| HttpError::of_io(&self.whose, error))? as u64;
        self.ended = n == 0;
        match self.bytes_left.checked_sub(n) {
            Some(left) => self.bytes_left = left,
            None => return Err(self.too_large("an answer")),
        }
        Ok(())
    }

    fn text(&self, from: usize, to: usize) -> Result<String, HttpError> {
        let line = self.buffer[from..to].strip_suffix(b"\r").unwrap_or(&self.buffer[from..to]);
        std::str::from_utf8(line).map(str::to_string).map_err(|_| {
            HttpError::new(
                ErrorKind::Protocol,
                format!("{}: sent text that is no UTF-8", self.whose),
            )
        })
    }

    fn too_large(&self, what: &str) -> HttpError {
        HttpError::new(ErrorKind::TooLarge, format!("{}: {what} has no end", self.whose)).hint(
            "this is no inference server, or it does not keep to the number of tokens asked for",
        )
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });

    /// Every look at the clock is one nanosecond later.
    fn ticks() -> u64 {
        NOW.with(|now| {
            now.set(now.get() + 1);
            now.get()
        })
    }

    struct Pieces(VecDeque<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some(mut piece) = self.0.pop_front() else { return Ok(0) };
            let rest = piece.split_off(piece.len().min(into.len()));
            into[..piece.len()].copy_from_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            Ok(piece.len())
        }
    }

    fn events(framing: Framing, pieces: &[&[u8]]) -> Result<Vec<(String, u64)>, HttpError> {
        NOW.with(|now| now.set(0));
        let reader = Pieces(pieces.iter().map(|p| p.to_vec()).collect());
        let mut stream = Stream::new(Box::new(reader), framing, ticks, "test".into(), 1 << 30);
        let mut all = Vec::new();
        while let Some(event) = stream.next_event()? {
            all.push((event.data, event.at_ns));
        }
        Ok(all)
    }

    #[test]
    fn lines_have_the_time_of_the_read_that_completed_them() {
        let all = events(Framing::JsonLines, &[b"{\"a\"", b":1}\r\n{}\n\n", b"{\"b\":2}"]).unwrap();
        let of = |s: &str, at: u64| (s.to_string(), at);
        // The last one ends with the answer: the read that returned nothing was the fourth.
        assert_eq!(all, [of("{\"a\":1}", 2), of("{}", 2), of("{\"b\":2}", 4)]);
    }

    #[test]
    fn events_join_their_lines_and_skip_comments() {
        let all = events(
            Framing::ServerSentEvents,
            &[b": ping\n\ndata: {\n", b"data: }\nid: 7\n\nevent: x\ndata:[DONE]\n", b"\n"],
        )
        .unwrap();
        assert_eq!(all, [("{\n}".to_string(), 2), ("[DONE]".to_string(), 3)]);
    }

    #[test]
    fn a_last_event_without_its_empty_line_counts() {
        let all = events(Framing::ServerSentEvents, &[b"data: 1\n\ndata: 2"]).unwrap();
        assert_eq!(all.iter().map(|e| e.0.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn what_is_no_stream_or_has_no_end_is_an_error() {
        let error = events(Framing::ServerSentEvents, &[b"<html>\n"]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Protocol);
        let error = events(Framing::ServerSentEvents, &[b"{\"a\": 1}\n"]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Protocol);
        let error = events(Framing::JsonLines, &[b"\xff\xfe\n"]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Protocol);
        let long = vec![b'a'; LINE_BYTES_MAX + READ_BYTES + 1];
        let error = events(Framing::JsonLines, &[&long]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        let mut stream = Stream::new(
            Box::new(io::repeat(b'\n')),
            Framing::JsonLines,
            ticks,
            "test".into(),
            1 << 20,
        );
        assert_eq!(stream.next_event().unwrap_err().kind, ErrorKind::TooLarge);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_come_to_an_end(
            pieces in prop::collection::vec("[dat:ei \\n\\r{}\u{e9}\u{0}]{1,12}", 0..12)
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
            for framing in [Framing::JsonLines, Framing::ServerSentEvents] {
                // The same bytes in one piece have the same events.
                let all = events(framing, &pieces);
                let one = events(framing, &[&pieces.concat()]);
                let data = |r: Result<Vec<(String, u64)>, HttpError>| {
                    r.map(|all| all.into_iter().map(|e| e.0).collect::<Vec<_>>()).ok()
                };
                if let Ok(all) = &all {
                    prop_assert!(all.is_sorted_by_key(|e| e.1));
                }
                prop_assert_eq!(data(all), data(one));
            }
        }
    }
}
