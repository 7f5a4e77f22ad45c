//! Where `gpuwhy logs` reads: the sources that were named, or the places where Ollama keeps its
//! log; once, or for as long as the log grows.

use std::io::{IsTerminal as _, stdin};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::observe::logs::{
    Host, LogSession, Options, Parser, Source, SourceError, Step, Stream, default_sources,
};

use super::failure::Failure;
use super::stop;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 18;
/// A followed log that is silent for so long is looked at.
const SILENCE: Duration = Duration::from_millis(500);
/// A followed file is asked for more so often.
const POLL: Duration = Duration::from_millis(200);

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
    let mut tried = Vec::new();
    for source in default_sources(&Host::here()) {
        let mut parser = Parser::new(Options::default());
        let read = source.open(false).and_then(|mut stream| feed(&mut parser, &mut stream));
        let session = parser.finish();
        // The journal says that it has no entries in a line of its own, which no pattern knows.
        if read.is_ok() && session.counts.known > 0 {
            tracing::info!("reading {}", source.name());
            return Ok(session);
        }
        tried.push(source.name());
    }
    Err(Failure::new(format!("no log of Ollama in the usual places: {}", tried.join(", ")))
        .hint("name the log: a file, - for standard input, journald:UNIT or docker:NAME"))
}

/// Follows one source until Ctrl-C or its end, and calls `look` with the session so far whenever
/// it has grown and is silent for a moment.
pub(super) fn follow(
    source: &str,
    mut look: impl FnMut(&LogSession) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stream = Source::parse(source).open(true)?;
    let (sender, receiver) = sync_channel(4);
    // Ends with the program: reading a pipe cannot be interrupted.
    thread::spawn(move || pump(stream, &sender));
    let mut parser = Parser::new(Options::default());
    watch(&mut parser, &receiver, &mut look)?;
    look(&parser.finish())
}

enum Message {
    Bytes(Vec<u8>),
    Rotated,
    Failed(SourceError),
}

fn pump(mut stream: Stream, sender: &SyncSender<Message>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let message = match stream.read(&mut chunk) {
            Ok(Step::Bytes(n)) => Message::Bytes(chunk[..n].to_vec()),
            Ok(Step::Rotated) => Message::Rotated,
            Ok(Step::Idle) => {
                thread::sleep(POLL);
                continue;
            }
            Ok(Step::End) => return,
            Err(error) => Message::Failed(error),
        };
        let last = matches!(message, Message::Failed(_));
        if sender.send(message).is_err() || last {
            return;
        }
    }
}

fn watch(
    parser: &mut Parser,
    receiver: &Receiver<Message>,
    look: &mut impl FnMut(&LogSession) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stop = stop::on_ctrl_c();
    let mut grown = false;
    while !stop.load(Ordering::Relaxed) {
        match receiver.recv_timeout(SILENCE) {
            Ok(Message::Bytes(bytes)) => {
                parser.push(&bytes);
                grown = true;
            }
            Ok(Message::Rotated) => parser.next_source(),
            Ok(Message::Failed(error)) => return Err(error.into()),
            Err(RecvTimeoutError::Timeout) if grown => {
                parser.settle();
                look(&parser.snapshot())?;
                grown = false;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(())
}
