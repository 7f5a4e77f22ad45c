//! Reads a source that grows, until somebody stops it or it ends, and hands over what it gives.
//!
//! The loop of a thread: who starts one decides what becomes of the bytes. Invariant: once asked to
//! stop, it ends when there is no more for now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::source::{SourceError, Step, Stream};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 18;

/// A file that has no more for now is asked again so often.
const POLL: Duration = Duration::from_millis(200);

/// What a source gave.
#[derive(Debug)]
pub enum Pumped<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// What follows is of another file.
    Rotated,
    /// It cannot be read any further.
    Failed(SourceError),
}

/// Hands over everything that `stream` gives, until its end, until `give` returns false, or until
/// `stop` is set and there is no more for now. Waiting for a program that reads a source ends with
/// [`super::Stopper`].
pub fn pump(mut stream: Stream, stop: &AtomicBool, mut give: impl FnMut(Pumped<'_>) -> bool) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        let goes_on = match stream.read(&mut chunk) {
            Ok(Step::Bytes(n)) => give(Pumped::Bytes(&chunk[..n])),
            Ok(Step::Rotated) => give(Pumped::Rotated),
            Ok(Step::Idle) if stopped => false,
            Ok(Step::Idle) => {
                thread::sleep(POLL);
                true
            }
            Ok(Step::End) => false,
            Err(error) => {
                give(Pumped::Failed(error));
                false
            }
        };
        if !goes_on {
            return;
        }
    }
}
