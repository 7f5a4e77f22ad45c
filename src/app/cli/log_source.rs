//! Where `gpuwhy logs` reads: the sources that were named, or the places where Ollama keeps its
//! log; once, or for as long as the log grows.

use std::io::{IsTerminal as _, stdin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::observe::logs::{
    Host, LogSession, Options, Parser, Pumped, Source, SourceError, Step, Stopper, Stream,
    default_sources, pump,
};

use super::failure::Failure;
use super::stop;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 18;
/// A followed log that is silent for so long is looked at,
const SILENCE: Duration = Duration::from_millis(500);
/// and one that grows without a pause is looked at so long after it began to.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time to read what is there when asked to stop.
const GRACE: Duration = Duration::from_secs(1);
/// A request to stop is seen so soon.
const TICK: Duration = Duration::from_millis(50);

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::new(&error).hint(error.hint())
    }
}

/// Reads the sources in their order, as one log.
pub(super) fn read(sources: &[String]) -> Result<LogSession, Failure> {
    if sources.is_empty() {
        return read_default();
    }
    let mut parser = Parser::new(Options::default());
    for (i, source) in sources.iter().enumerate() {
        if i > 0 {
            parser.next_source();
        }
        feed(&mut parser, &mut Source::parse(source).open(false)?)?;
    }
    Ok(parser.finish())
}

fn feed(parser: &mut Parser, stream: &mut Stream) -> Result<(), SourceError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match stream.read(&mut chunk)? {
            Step::Bytes(n) => parser.push(&chunk[..n]),
            Step::Rotated => parser.next_source(),
            Step::Idle | Step::End => return Ok(()),
        }
    }
}

/// Standard input when something is piped in, else the first of the usual places that has a log.
fn read_default() -> Result<LogSession, Failure> {
    if !stdin().is_terminal() {
        let mut parser = Parser::new(Options::default());
        feed(&mut parser, &mut Source::Stdin.open(false)?)?;
        let session = parser.finish();
        if session.counts.bytes > 0 {
            return Ok(session);
        }
    }
    usual().map(|(_, session)| session).map_err(|tried| {
        Failure::new(format!("no log of Ollama in the usual places: {}", tried.join(", ")))
            .hint("name the log: a file, - for standard input, journald:UNIT or docker:NAME")
    })
}

/// The log in the first of the usual places that has one, with its place; else all places tried.
pub(super) fn usual() -> Result<(String, LogSession), Vec<String>> {
    let mut tried = Vec::new();
    for source in default_sources(&Host::here()) {
        let mut parser = Parser::new(Options::default());
        let read = source.open(false).and_then(|mut stream| feed(&mut parser, &mut stream));
        let session = parser.finish();
        // The journal says that it has no entries in a line of its own, which no pattern knows.
        if read.is_ok() && session.counts.known > 0 {
            tracing::info!("reading {}", source.name());
            return Ok((source.name(), session));
        }
        tried.push(source.name());
    }
    Err(tried)
}

/// What somebody who follows a log sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// More may come.
    SoFar,
    /// Nothing more comes: the log ended, or the person ended it.
    Last,
}

/// Follows one source until Ctrl-C or its end, and calls `look` with the session so far when it has
/// grown and is silent for a moment, or has grown for a while; and once more at the end.
pub(super) fn follow(
    source: &str,
    mut look: impl FnMut(&LogSession, Look) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stop = stop::on_ctrl_c();
    let stream = Source::parse(source).open(true)?;
    let stopper = stream.stopper();
    let (sender, receiver) = sync_channel(4);
    // Ends with the program: reading a pipe cannot be interrupted.
    thread::spawn(move || {
        pump(stream, stop, |pumped| {
            let message = match pumped {
                Pumped::Bytes(bytes) => Message::Bytes(bytes.to_vec()),
                Pumped::Rotated => Message::Rotated,
                Pumped::Failed(error) => Message::Failed(error),
            };
            sender.send(message).is_ok()
        });
    });
    let mut parser = Parser::new(Options::default());
    let watched = watch(&mut parser, &receiver, (stop, &stopper), &mut look);
    let session = parser.finish();
    // What was read before something went wrong is still worth a report.
    if watched.is_ok() || session.counts.bytes > 0 {
        look(&session, Look::Last)?;
    }
    watched
}

enum Message {
    Bytes(Vec<u8>),
    Rotated,
    Failed(SourceError),
}

fn watch(
    parser: &mut Parser,
    receiver: &Receiver<Message>,
    (stop, stopper): (&AtomicBool, &Stopper),
    look: &mut impl FnMut(&LogSession, Look) -> Result<(), Failure>,
) -> Result<(), Failure> {
    /// When the first and the last bytes came that nobody has looked at yet.
    type Unseen = Option<(Instant, Instant)>;
    let mut unseen: Unseen = None;
    let mut ends = None;
    loop {
        let received = receiver.recv_timeout(TICK);
        let now = Instant::now();
        if ends.is_none() && stop.load(Ordering::Relaxed) {
            ends = Some(now + GRACE);
            stopper.stop();
        }
        match received {
            Ok(Message::Bytes(bytes)) => {
                parser.push(&bytes);
                unseen = Some((unseen.map_or(now, |(first, _)| first), now));
            }
            Ok(Message::Rotated) => parser.next_source(),
            // A program that we ended says that it was ended.
            Ok(Message::Failed(_)) if ends.is_some() => return Ok(()),
            Ok(Message::Failed(error)) => return Err(error.into()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if ends.is_some_and(|ends| now >= ends) {
            return Ok(());
        }
        if let Some((first, last)) = unseen
            && (now - last >= SILENCE || now - first >= PATIENCE)
        {
            look(&parser.snapshot(), Look::SoFar)?;
            unseen = None;
        }
    }
}
