//! Which flags of the runtime were typed, as words again, so that another program can be given them.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Args, Command, CommandFactory};

use crate::app::cli::Cli;
use crate::app::cli::flags::RuntimeArgs;

/// The runtime's flags of a `check` command line, each with its value.
pub(super) fn flags(typed: &[OsString]) -> Vec<String> {
    let Ok(matches) = Cli::command().try_get_matches_from(typed) else { return Vec::new() };
    let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
    let known = RuntimeArgs::augment_args(Command::new("runtime"));
    let mut words = Vec::new();
    for arg in known.get_arguments() {
        let id = arg.get_id().as_str();
        let Some(long) = arg.get_long() else { continue };
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        if !arg.get_action().takes_values() {
            words.push(format!("--{long}"));
            continue;
        }
        for values in matches.get_raw_occurrences(id).into_iter().flatten() {
            let values: Vec<String> = values.map(|v| v.to_string_lossy().into_owned()).collect();
            words.push(format!("--{long}={}", values.join(",")));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_comes_back() {
        let of = |line: &str| {
            let words = line.split(' ').map(OsString::from);
            flags(&crate::app::cli::argv::normalise(words, false))
        };
        assert_eq!(of("gpuwhy check m.gguf --workload quick"), [] as [String; 0]);
        assert_eq!(
            of("gpuwhy check m.gguf -ngl 12 -dev virtual:1GiB,virtual:2GiB -nkvo -ts 3,1 -t 2 -q"),
            [
                "--n-gpu-layers=12",
                "--threads=2",
                "--device=virtual:1GiB,virtual:2GiB",
                "--tensor-split=3,1",
                "--no-kv-offload",
            ]
        );
    }
}
