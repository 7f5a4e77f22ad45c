//! The terminal while the dashboard has it, and giving it back: at the end, after an error, a panic, a
//! signal.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread::{self, ThreadId};

use crossterm::cursor::Show;
use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

/// Whether the terminal is ours.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The thread that draws.
static OWNER: Mutex<Option<ThreadId>> = Mutex::new(None);

/// What panics of other threads said while the terminal was ours.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A terminal in raw mode with a screen of its own.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    has_mouse: bool,
}

impl Screen {
    /// Takes the terminal of stdout.
    pub(super) fn take() -> io::Result<Self> {
        if !io::stdout().is_terminal() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the dashboard needs a terminal, and stdout is none",
            ));
        }
        give_back_after_panics();
        *OWNER.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current().id());
        enter()?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(1 << 16, io::stdout()));
        let terminal = Terminal::new(backend);
        match terminal {
            Ok(terminal) => Ok(Self { terminal, has_mouse: true }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Draws a screen.
    pub(super) fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(view).map(|_| ())
    }

    /// Whether clicks come here; without that the terminal's own selecting of text works.
    pub(super) fn mouse(&mut self, wanted: bool) -> io::Result<()> {
        if self.has_mouse == wanted {
            return Ok(());
        }
        self.has_mouse = wanted;
        if wanted {
            execute!(io::stdout(), EnableMouseCapture)
        } else {
            execute!(io::stdout(), DisableMouseCapture)
        }
    }

    /// Asks the terminal to put a text onto the clipboard. It does not tell whether it did.
    #[allow(clippy::unused_self, reason = "only who has the terminal may write to it")]
    pub(super) fn copy(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        // OSC 52: the clipboard's text in base64, ended by a bell.
        write!(out, "\x1b]52;c;{}\x07", base64(text.as_bytes()))?;
        out.flush()
    }

    /// Gives the terminal back, stops the program as Ctrl-Z does, and takes it again when it goes on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        give_back();
        stop_process();
        enter()?;
        self.has_mouse = true;
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
        let said = std::mem::take(&mut *SAID.lock().unwrap_or_else(PoisonError::into_inner));
        for text in said {
            // A terminal that is gone is told nothing.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    IS_TAKEN.store(true, Ordering::SeqCst);
    let entered = execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture);
    if entered.is_err() {
        give_back();
    }
    entered
}

/// Gives the terminal back if it is taken: for who ends the program without coming back here.
pub(in crate::app) fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        // Nobody is left to tell of a terminal that cannot be written to.
        let _ = execute!(io::stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// Base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            three.iter().enumerate().fold(0_u32, |n, (i, b)| n | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * i) & 63) as usize]);
            text.push(if i <= three.len() { digit } else { '=' });
        }
    }
    text
}

/// Has a panic of the thread that draws give the terminal back before it is told. What other threads'
/// panics say waits until the terminal is free: the dashboard goes on without them.
fn give_back_after_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IS_TAKEN.load(Ordering::SeqCst) {
                let owner = *OWNER.lock().unwrap_or_else(PoisonError::into_inner);
                if owner != Some(thread::current().id()) {
                    let name = thread::current().name().unwrap_or("unnamed").to_string();
                    let said = format!("thread '{name}': {info}");
                    SAID.lock().unwrap_or_else(PoisonError::into_inner).push(said);
                    return;
                }
                give_back();
            }
            before(info);
        }));
    });
}

#[cfg(target_os = "linux")]
fn stop_process() {
    use rustix::process::{Signal, getpid, kill_process};
    // A process that may not stop itself just goes on.
    let _ = kill_process(getpid(), Signal::TSTP);
}

#[cfg(not(target_os = "linux"))]
fn stop_process() {}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn clipboards_are_given_base64() {
        for (text, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("-ngl 7\u{e4}", "LW5nbCA3w6Q="),
        ] {
            assert_eq!(base64(text.as_bytes()), coded);
        }
    }
}
