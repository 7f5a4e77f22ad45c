//! Logs of the program itself, on stderr: warnings always, the rest only when asked for.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::base::event::Event;
use crate::base::sink::Sink;

/// Sends logs to stderr: warnings always, more with `-v`. `GPUWHY_LOG` overrides, with
/// tracing-subscriber's filter syntax.
pub(super) fn start(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("GPUWHY_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .try_init();
    // Only a second start in the same process fails, and then logs already go somewhere.
    drop(started);
}

/// Logs an engine's warnings, for commands that make no report which would tell them. They come
/// while it loads, before the hot path begins, so writing them at once holds nothing up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Warnings;

impl Sink for Warnings {
    fn record(&self, event: Event) {
        if let Event::Warning(warning) = event {
            tracing::warn!("{}", warning.text);
        }
    }
}
