//! Ctrl-C: the first asks the work to stop, so that what was done is still reported; the second ends
//! the program at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::app::tui;

use super::failure::EXIT_ERROR;

static STOP: AtomicBool = AtomicBool::new(false);

/// The flag that Ctrl-C sets; the first call installs the handler.
pub(super) fn on_ctrl_c() -> &'static AtomicBool {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let installed = ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::Relaxed) {
                tui::give_back();
                std::process::exit(i32::from(EXIT_ERROR));
            }
        });
        if let Err(error) = installed {
            tracing::warn!("Ctrl-C ends the program without a report: {error}");
        }
    });
    &STOP
}

/// Asks the work to stop, as Ctrl-C does.
pub(super) fn request() {
    STOP.store(true, Ordering::Relaxed);
}
