//! Logs that another program reads: `journalctl`, `docker`, `podman`.
//!
//! Both outputs of the program come in one stream, because `docker logs` writes a container's
//! standard error to its own. Invariant: the program has ended or is ended when the stream is gone.

use std::io::{self, ErrorKind, PipeReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::{SourceError, Step};

/// A program that runs.
#[derive(Debug)]
pub(super) struct Tool {
    program: String,
    child: Arc<Mutex<Child>>,
    output: PipeReader,
    /// The end of what it wrote, for its message when it fails.
    tail: Vec<u8>,
}

const TAIL_BYTES: usize = 400;

impl Tool {
    /// Reads the journal of a unit with full times. With `follow`, so many lines that are there
    /// already, and all that come.
    pub(super) fn journald(unit: &str, follow: Option<&str>) -> Result<Self, SourceError> {
        let mut args = vec!["--unit", unit, "--no-pager", "--output", "short-iso-precise"];
        if let Some(lines) = follow {
            args.extend(["--follow", "--lines", lines]);
        }
        Self::start("journalctl", &args)
    }

    /// Reads the log of a container; by podman where there is no docker. `follow` as of
    /// [`Self::journald`].
    pub(super) fn docker(name: &str, follow: Option<&str>) -> Result<Self, SourceError> {
        let mut args = vec!["logs", "--timestamps"];
        if let Some(lines) = follow {
            args.extend(["--follow", "--tail", lines]);
        }
        args.extend(["--", name]);
        match Self::start("docker", &args) {
            Err(SourceError::Start { error, program }) if error.kind() == ErrorKind::NotFound => {
                Self::start("podman", &args).map_err(|_| SourceError::Start { error, program })
            }
            other => other,
        }
    }

    pub(super) fn start(program: &str, args: &[&str]) -> Result<Self, SourceError> {
        let run = || -> io::Result<(Child, PipeReader)> {
            let (output, input) = io::pipe()?;
            let mut command = Command::new(program);
            command.args(args).stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
            // Ctrl-C is for us: we end the program when all that it wrote is read.
            #[cfg(unix)]
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            // The command holds the writing ends, and reading ends only when they are gone.
            let child = command.spawn()?;
            drop(command);
            Ok((child, output))
        };
        let (child, output) =
            run().map_err(|error| SourceError::Start { program: program.to_string(), error })?;
        let child = Arc::new(Mutex::new(child));
        Ok(Self { program: program.to_string(), child, output, tail: Vec::new() })
    }

    /// What ends the program for somebody who waits no longer.
    pub(super) fn stopper(&self) -> Stopper {
        Stopper { child: Some(Arc::clone(&self.child)) }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Step, SourceError> {
        let read_error = |name: &str, error| SourceError::Read { name: name.to_string(), error };
        loop {
            match self.output.read(buffer) {
                Ok(0) => break,
                Ok(n) => {
                    self.tail.extend_from_slice(&buffer[n - n.min(TAIL_BYTES)..n]);
                    let excess = self.tail.len().saturating_sub(TAIL_BYTES);
                    self.tail.drain(..excess);
                    return Ok(Step::Bytes(n));
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(read_error(&self.program, e)),
            }
        }
        let ended = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        let status = ended.map_err(|e| read_error(&self.program, e))?;
        if status.success() {
            return Ok(Step::End);
        }
        let tail = String::from_utf8_lossy(&self.tail);
        let last = tail.lines().rev().find(|l| !l.trim().is_empty());
        let message = last.map_or_else(|| status.to_string(), |line| line.trim().to_string());
        Err(SourceError::Failed { program: self.program.clone(), message })
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.stopper().stop();
    }
}

/// Ends the program that reads a source, so that whoever waits for its bytes waits no longer. For
/// sources that no program reads it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Stopper {
    child: Option<Arc<Mutex<Child>>>,
}

impl Stopper {
    /// Ends it, if it runs.
    pub fn stop(&self) {
        // It is locked only by somebody who sees it end.
        if let Some(Ok(mut child)) = self.child.as_ref().map(|c| c.try_lock()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
