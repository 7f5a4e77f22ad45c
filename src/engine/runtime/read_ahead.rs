//! Reads mapped weights into memory in the background, front to back, while the rest of loading and
//! the first prompt go on.
//!
//! Left to page faults, a cold file is read where the kernels happen to touch it, by several threads
//! at once, in pieces as small as the system's read-ahead: far below what the disk can do. One
//! thread that asks for everything in the order of the file keeps the disk's queue full, and the
//! layers lie in the order in which the first prompt needs them. Nothing is copied. For pages that
//! are in memory already, asking is all that happens, so a warm start is not slowed down.
//!
//! A hint, never a need: what cannot be read ahead is read when it is touched. A file larger than
//! free memory is left to that, because its beginning would be gone before it is used.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::base::clock::now_ns;
use crate::base::event::{Event, LoadStage, Span, SpanKind, Track};
use crate::base::sink::Sink;
use crate::engine::gguf::MappedFile;
use crate::engine::model::Model;

/// Bytes that are asked for at a time. Linux reads no more of one request than its own read-ahead or
/// the device's best transfer size, whichever is larger, and forgets the rest without a word; 128 KiB
/// is what it always takes.
const PIECE_BYTES: usize = 128 << 10;

/// Pieces of which one page is waited for, when all have been asked for: the disk serves them nearly
/// in order.
const PIECES_WAITED: usize = 64;

/// What lies between two tensors is read with them when it is no more than this.
const GAP_BYTES: usize = 1 << 16;

/// Bytes of one mapped file that will be needed.
pub(super) struct Stretch {
    pub(super) file: Arc<MappedFile>,
    pub(super) bytes: Range<usize>,
}

/// The weights that `wanted` takes by their number, as few stretches in the order of the files; empty
/// for a model that is not mapped.
pub(super) fn stretches(model: &Model, wanted: &dyn Fn(usize) -> bool) -> Vec<Stretch> {
    let (tensors, maps) = (model.gguf().tensors(), model.gguf().maps());
    let weights = model.weights().iter().enumerate().filter(|(at, _)| wanted(*at));
    let mut found: Vec<(usize, Range<usize>)> = weights
        .map(|(_, weight)| &tensors[weight.tensor])
        .map(|t| (t.file, t.offset as usize..(t.offset + t.bytes) as usize))
        .collect();
    found.sort_by_key(|(file, bytes)| (*file, bytes.start));
    let mut joined: Vec<(usize, Range<usize>)> = Vec::new();
    for (file, bytes) in found {
        match joined.last_mut() {
            // A tensor that is used twice comes twice.
            Some((last, before)) if *last == file && bytes.start <= before.end + GAP_BYTES => {
                before.end = before.end.max(bytes.end);
            }
            _ => joined.push((file, bytes)),
        }
    }
    let stretch = |(file, bytes): (usize, Range<usize>)| {
        maps.get(file).map(|map| Stretch { file: Arc::clone(map), bytes })
    };
    joined.into_iter().filter_map(stretch).collect()
}

/// The thread that reads. Dropping it stops the reading.
#[derive(Default)]
pub(super) struct ReadAhead {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Begins to read these stretches in their order, unless they are more than `free_bytes`.
    pub(super) fn start(stretches: Vec<Stretch>, free_bytes: u64, sink: &Arc<dyn Sink>) -> Self {
        let bytes: u64 = stretches.iter().map(|s| s.bytes.len() as u64).sum();
        if bytes == 0 || bytes > free_bytes {
            return Self::default();
        }
        let (stop, sink) = (Arc::new(AtomicBool::new(false)), Arc::clone(sink));
        let flag = Arc::clone(&stop);
        let work = move || {
            let start_ns = now_ns();
            let bytes = read(&stretches, &flag);
            let kind = SpanKind::Load { stage: LoadStage::ReadAhead };
            let (track, end_ns) = (Track::Background, now_ns());
            sink.record(Event::Span(Span { track, kind, start_ns, end_ns, bytes, tokens: 0 }));
        };
        // Without a thread the weights are read when they are touched.
        let thread = std::thread::Builder::new().name("read-ahead".to_string()).spawn(work).ok();
        Self { stop, thread }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks for everything, then waits for it, unless `stop` comes first; returns how many bytes are in
/// memory then.
fn read(stretches: &[Stretch], stop: &AtomicBool) -> u64 {
    let pieces: Vec<(&MappedFile, Range<usize>)> = stretches
        .iter()
        .flat_map(|s| pieces(&s.bytes).map(|piece| (s.file.as_ref(), piece)))
        .collect();
    for (file, piece) in &pieces {
        if stop.load(Ordering::Relaxed) {
            return 0;
        }
        file.will_need(piece.clone());
    }
    let mut done = 0;
    for group in pieces.chunks(PIECES_WAITED) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if let Some((file, piece)) = group.last() {
            file.wait_for(piece.end - 1);
        }
        done += group.iter().map(|(_, piece)| piece.len() as u64).sum::<u64>();
    }
    done
}

/// A range cut into pieces.
fn pieces(range: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.clone().step_by(PIECE_BYTES).map(move |start| start..end.min(start + PIECE_BYTES))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::base::sink::MemorySink;

    use super::*;

    #[test]
    fn pieces_cover_the_range_once() {
        let whole = 5..3 * PIECE_BYTES;
        let cut: Vec<_> = pieces(&whole).collect();
        assert_eq!(cut.len(), 3);
        assert_eq!((cut[0].start, cut[2].end), (whole.start, whole.end));
        assert!(cut.windows(2).all(|w| w[0].end == w[1].start));
        assert_eq!(pieces(&(7..7)).count(), 0);
    }

    fn file(bytes: usize) -> (tempfile::NamedTempFile, Arc<MappedFile>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![7; bytes]).unwrap();
        let map = Arc::new(MappedFile::open(file.path()).unwrap());
        (file, map)
    }

    #[test]
    fn all_stretches_are_read_and_told_once() {
        let (_kept, map) = file(PIECE_BYTES + 5000);
        let part = |bytes| Stretch { file: Arc::clone(&map), bytes };
        let stretches = vec![part(100..PIECE_BYTES + 200), part(PIECE_BYTES + 300..map.len())];
        let memory = Arc::new(MemorySink::default());
        let sink: Arc<dyn Sink> = memory.clone();
        let mut reading = ReadAhead::start(stretches, u64::MAX, &sink);
        reading.thread.take().unwrap().join().unwrap();
        let events = memory.take();
        let [Event::Span(span)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(span.bytes, (map.len() - 200) as u64);
        assert_eq!(span.kind, SpanKind::Load { stage: LoadStage::ReadAhead });
    }

    #[test]
    fn what_does_not_fit_is_left_alone_and_stopping_stops() {
        let (_kept, map) = file(10_000);
        let stretch = || vec![Stretch { file: Arc::clone(&map), bytes: 0..10_000 }];
        let sink: Arc<dyn Sink> = Arc::new(MemorySink::default());
        assert!(ReadAhead::start(stretch(), 9_999, &sink).thread.is_none());
        assert_eq!(read(&stretch(), &AtomicBool::new(true)), 0);
    }
}
