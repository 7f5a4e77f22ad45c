//! The bytes of a recording.
//!
//! Header: eight bytes of magic, the version as `u32`. Then frames: length of the body, checksum,
//! flags (`u32` each), time of the last event in it (`u64`), and the body, which is a [`Body`] in
//! postcard's encoding. All numbers are little-endian. The checksum is the CRC-32 of flags, time and
//! body. Length and time stand outside of the body so that seeking need not decode.
//!
//! The encoding carries no field names: any change of an event's fields, or of the order of variants,
//! needs a new [`VERSION`]. A test fails when that is forgotten; variants may be added at the end.

use serde::{Deserialize, Serialize};

use crate::base::event::Event;

pub(super) const MAGIC: [u8; 8] = *b"gpuwhy\x1a\n";

/// Version of the encoding.
pub const VERSION: u32 = 1;

/// Bytes of magic and version.
pub(super) const HEADER_BYTES: usize = 12;

/// Bytes of a frame before its body.
pub(super) const FRAME_BYTES: usize = 20;

/// The longest body: more is taken for damage.
pub(super) const BODY_BYTES_MAX: usize = 16 << 20;

/// The frame holds events that stand for the whole session, which a seek must not leave out.
pub(super) const STANDING: u32 = 1;

/// What a recording is of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The program and version that recorded.
    pub program: String,
    /// What was observed, in words: a model, a server.
    pub title: String,
    /// The session's clock when recording began.
    pub started_ns: u64,
    /// The same time as nanoseconds since 1970.
    pub started_unix_ns: u64,
}

/// The body of a frame.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Body {
    /// The first frame.
    About(About),
    /// Events in the order in which they came.
    Events {
        /// Events that came before these and were lost, because the file could not take them in time.
        lost: u64,
        /// The events.
        events: Vec<Event>,
    },
}

/// The header of a file.
pub(super) fn header() -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// A frame with its body; `None` if it would be longer than a frame may be.
pub(super) fn frame(body: &Body, flags: u32, last_ns: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; FRAME_BYTES];
    bytes = postcard::to_extend(body, bytes).ok()?;
    let length = bytes.len() - FRAME_BYTES;
    if length > BODY_BYTES_MAX {
        return None;
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    bytes[8..12].copy_from_slice(&flags.to_le_bytes());
    bytes[12..20].copy_from_slice(&last_ns.to_le_bytes());
    let sum = crc32fast::hash(&bytes[8..]);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    Some(bytes)
}

/// What stands before a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHead {
    pub length: usize,
    sum: u32,
    pub flags: u32,
    pub last_ns: u64,
}

impl FrameHead {
    pub(super) fn read(bytes: &[u8; FRAME_BYTES]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let last_ns = u64::from(word(16)) << 32 | u64::from(word(12));
        Self { length: word(0) as usize, sum: word(4), flags: word(8), last_ns }
    }

    /// The body, if it is what was written.
    pub(super) fn body(&self, bytes: &[u8]) -> Option<Body> {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&self.flags.to_le_bytes());
        sum.update(&self.last_ns.to_le_bytes());
        sum.update(bytes);
        (sum.finalize() == self.sum).then(|| postcard::from_bytes(bytes).ok()).flatten()
    }
}

/// Whether an event stands for the whole session.
pub(super) fn stands(event: &Event) -> bool {
    match event {
        Event::Device(_)
        | Event::Plan(_)
        | Event::Subject(_)
        | Event::Absent(_)
        | Event::Setup(_)
        | Event::Server(_) => true,
        Event::Span(_)
        | Event::Warning(_)
        | Event::Sample(_)
        | Event::Line(_)
        | Event::Request(_) => false,
    }
}
