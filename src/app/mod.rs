//! What people touch: the command line today, the dashboard and the server later.
//!
//! The only floor that prints or chooses an exit code.

pub mod report;

mod cli;
mod tui;

use std::process::ExitCode;

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    cli::main(std::env::args_os())
}
