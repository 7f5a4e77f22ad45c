//! Reads a recording from its beginning, or from a time on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::base::event::{Event, Warning};

use super::RecordError;
use super::format::{
    About, BODY_BYTES_MAX, Body, FRAME_BYTES, FrameHead, HEADER_BYTES, MAGIC, STANDING, VERSION,
    stands,
};

/// Where a recording breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes that could be read.
    pub bytes_read: u64,
    /// Bytes behind them.
    pub bytes_left: u64,
}

/// A recording being read; an iterator over its events.
#[derive(Debug)]
pub struct Recording<R = BufReader<File>> {
    input: R,
    about: About,
    length: u64,
    /// Where the next frame begins.
    at: u64,
    ready: VecDeque<Event>,
    last_ns: u64,
    cut: Option<Cut>,
}

impl Recording {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        Self::read(BufReader::new(File::open(path)?))
    }
}

impl<R: Read + Seek> Recording<R> {
    /// Reads from anything that can be searched.
    pub fn read(mut input: R) -> Result<Self, RecordError> {
        let length = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        let mut bytes = [0; HEADER_BYTES];
        let broken = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => RecordError::NotARecording,
            _ => RecordError::Io(error),
        };
        input.read_exact(&mut bytes).map_err(broken)?;
        if bytes[..8] != MAGIC {
            return Err(RecordError::NotARecording);
        }
        let found = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if found != VERSION {
            return Err(RecordError::Version { found });
        }
        let mut recording = Self {
            input,
            about: About::default(),
            length,
            at: HEADER_BYTES as u64,
            ready: VecDeque::new(),
            last_ns: 0,
            cut: None,
        };
        // A file that ends before it says what it is of is an empty recording.
        if let Some((head, Body::About(about))) = recording.frame()? {
            recording.last_ns = head.last_ns;
            recording.about = about;
        }
        Ok(recording)
    }

    /// What it is of.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Where it breaks off, once the iterator has come to the end; `None` for a whole one.
    pub fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Time of the last event of the frames that were read.
    pub fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// Goes on from a time: next come the events before it that stand for the whole session (devices,
    /// plans, what subjects are, what is absent), then all from the frame in which it lies. Only frames
    /// with such events are decoded on the way.
    pub fn seek(&mut self, at_ns: u64) -> Result<(), RecordError> {
        self.at = HEADER_BYTES as u64;
        self.cut = None;
        self.ready.clear();
        let mut standing = VecDeque::new();
        while let Some(head) = self.head()? {
            if head.last_ns >= at_ns {
                break;
            }
            if head.flags & STANDING != 0 {
                match self.body(head)? {
                    Some(Body::Events { events, .. }) => {
                        standing.extend(events.into_iter().filter(stands));
                    }
                    Some(Body::About(_)) => {}
                    None => break,
                }
            } else {
                self.at += (FRAME_BYTES + head.length) as u64;
            }
            self.last_ns = head.last_ns;
        }
        self.ready = standing;
        Ok(())
    }

    /// The head of the next frame; `None` at the end, or where the file breaks off.
    fn head(&mut self) -> io::Result<Option<FrameHead>> {
        if self.at >= self.length || self.cut.is_some() {
            return Ok(None);
        }
        if self.length - self.at < FRAME_BYTES as u64 {
            return Ok(self.breaks_off());
        }
        self.input.seek(SeekFrom::Start(self.at))?;
        let mut bytes = [0; FRAME_BYTES];
        self.input.read_exact(&mut bytes)?;
        let head = FrameHead::read(&bytes);
        let left = self.length - self.at - FRAME_BYTES as u64;
        if head.length > BODY_BYTES_MAX || head.length as u64 > left {
            return Ok(self.breaks_off());
        }
        Ok(Some(head))
    }

    /// The body of the frame whose head was read last.
    fn body(&mut self, head: FrameHead) -> io::Result<Option<Body>> {
        self.input.seek(SeekFrom::Start(self.at + FRAME_BYTES as u64))?;
        let mut bytes = vec![0; head.length];
        self.input.read_exact(&mut bytes)?;
        let Some(body) = head.body(&bytes) else { return Ok(self.breaks_off()) };
        self.at += (FRAME_BYTES + head.length) as u64;
        Ok(Some(body))
    }

    fn frame(&mut self) -> io::Result<Option<(FrameHead, Body)>> {
        let Some(head) = self.head()? else { return Ok(None) };
        Ok(self.body(head)?.map(|body| (head, body)))
    }

    fn breaks_off<T>(&mut self) -> Option<T> {
        self.cut = Some(Cut { bytes_read: self.at, bytes_left: self.length - self.at });
        None
    }
}

impl<R: Read + Seek> Iterator for Recording<R> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let frame = match self.frame() {
                Ok(frame) => frame?,
                // A file that can no longer be read ends as one that was cut.
                Err(_) => return self.breaks_off(),
            };
            let (head, Body::Events { lost, events }) = frame else { continue };
            if lost > 0 {
                let text =
                    format!("{lost} events before this were not recorded: they came too fast");
                self.ready.push_back(Event::Warning(Warning { at_ns: self.last_ns, text }));
            }
            self.last_ns = head.last_ns;
            self.ready.extend(events);
        }
    }
}
