//! Cuts a stream of bytes into lines. It reads no text.
//!
//! Invariants: pieces may end anywhere and give the same lines; at most [`LINE_BYTES_MAX`] bytes of
//! a line are kept, so that memory is bounded whatever comes.

use memchr::memchr;

/// More of a line is read and dropped: no line that says anything is longer.
pub(in super::super) const LINE_BYTES_MAX: usize = 64 << 10;

/// Keeps the line that has begun and not ended.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Cutter {
    rest: Vec<u8>,
}

impl Cutter {
    /// Calls `line` for each line that ends in `bytes`, with what follows it in `bytes`.
    pub(in super::super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8], &[u8])) {
        while let Some(end) = memchr(b'\n', bytes) {
            let after = &bytes[end + 1..];
            if self.rest.is_empty() {
                line(cut(&bytes[..end]), after);
            } else {
                self.keep(&bytes[..end]);
                line(&self.rest, after);
                self.rest.clear();
            }
            bytes = after;
        }
        self.keep(bytes);
    }

    /// The end of the stream: what has begun is a line.
    pub(in super::super) fn finish(&mut self, mut line: impl FnMut(&[u8], &[u8])) {
        if !self.rest.is_empty() {
            line(&self.rest, &[]);
            self.rest = Vec::new();
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.rest.len().min(LINE_BYTES_MAX);
        self.rest.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

fn cut(line: &[u8]) -> &[u8] {
    &line[..line.len().min(LINE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut cutter, mut all) = (Cutter::default(), Vec::new());
        for piece in pieces {
            cutter.push(piece, |line, _| all.push(line.to_vec()));
        }
        cutter.finish(|line, _| all.push(line.to_vec()));
        all
    }

    #[test]
    fn pieces_do_not_matter() {
        let log = b"one\ntwo\n\nthree";
        let whole = lines(&[log]);
        assert_eq!(whole, [&b"one"[..], b"two", b"", b"three"]);
        for cut in 0..log.len() {
            assert_eq!(lines(&[&log[..cut], &log[cut..]]), whole);
        }
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let long = vec![b'x'; LINE_BYTES_MAX + 100];
        assert_eq!(lines(&[&long, &long, b"\nnext"])[0].len(), LINE_BYTES_MAX);
        assert_eq!(lines(&[&long, b"\nnext"])[1], b"next");
        assert_eq!(lines(&[&[&long[..], b"\n"].concat()])[0].len(), LINE_BYTES_MAX);
    }
}
