//! Undoes gzip and Zstandard, told by the first bytes and not by a name.

use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

type Raw = Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

/// Bytes of a source as they were before it was packed.
pub(super) enum Unpacked {
    /// The first bytes have not been looked at yet.
    New(Option<Box<dyn Read + Send>>),
    Plain(Raw),
    Gzip(Box<MultiGzDecoder<BufReader<Raw>>>),
    Zstd(Box<Zstd>),
}

impl fmt::Debug for Unpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New(_) => "New",
            Self::Plain(_) => "Plain",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

/// Looks at nothing before it is read, so that a terminal can be opened without waiting for it.
pub(super) fn unpacked(raw: Box<dyn Read + Send>) -> Unpacked {
    Unpacked::New(Some(raw))
}

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

impl Unpacked {
    fn look(mut raw: Box<dyn Read + Send>) -> io::Result<Self> {
        let mut first = Vec::new();
        raw.by_ref().take(ZSTD.len() as u64).read_to_end(&mut first)?;
        let (gzip, zstd) = (first.starts_with(&GZIP), first.starts_with(&ZSTD));
        let raw = Cursor::new(first).chain(raw);
        Ok(if gzip {
            Self::Gzip(Box::new(MultiGzDecoder::new(BufReader::new(raw))))
        } else if zstd {
            Self::Zstd(Box::new(Zstd {
                raw: BufReader::new(raw),
                decoder: FrameDecoder::new(),
                open: false,
            }))
        } else {
            Self::Plain(raw)
        })
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::New(raw) = self {
            let Some(raw) = raw.take() else { return Ok(0) };
            *self = Self::look(raw)?;
        }
        match self {
            Self::New(_) => Ok(0),
            Self::Plain(raw) => raw.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Frames of Zstandard one after another; those to be skipped are.
pub(super) struct Zstd {
    raw: BufReader<Raw>,
    decoder: FrameDecoder,
    /// Whether a frame has begun and is not at its end.
    open: bool,
}

impl Zstd {
    /// Begins the next frame; false at the end of the source.
    fn begin(&mut self) -> io::Result<bool> {
        use io::BufRead as _;
        loop {
            if self.raw.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.raw) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.raw.by_ref().take(u64::from(length)), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

impl Read for Zstd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open && !self.begin()? {
                return Ok(0);
            }
            self.open = true;
            if self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let wanted = UptoBytes(buffer.len());
                self.decoder.decode_blocks(&mut self.raw, wanted).map_err(io::Error::other)?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            self.open = !self.decoder.is_finished();
        }
    }
}
