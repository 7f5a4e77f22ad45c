//! Flags as llama.cpp spells them: `-ngl`, `-ctk`, `-ncmoe`.
//!
//! The argument parser knows one dash with one letter and two dashes with a word; llama.cpp also has
//! one dash with several letters. This module rewrites those to their long forms before parsing.
//! Invariant: a token that is the value of another option is left as it is.

use std::ffi::OsString;

/// llama.cpp's short forms of more than one letter, with the long forms that stand for them here.
pub(super) const SPELLINGS: &[(&str, &str)] = &[
    ("-ngl", "--n-gpu-layers"),
    ("-ub", "--ubatch-size"),
    ("-np", "--parallel"),
    ("-tb", "--threads-batch"),
    ("-fa", "--flash-attn"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-sm", "--split-mode"),
    ("-ts", "--tensor-split"),
    ("-mg", "--main-gpu"),
    ("-dev", "--device"),
    ("-ot", "--override-tensor"),
    ("-cmoe", "--cpu-moe"),
    ("-ncmoe", "--n-cpu-moe"),
    ("-nkvo", "--no-kv-offload"),
    ("-nopo", "--no-op-offload"),
    ("-cnv", "--chat"),
    ("-sys", "--system-prompt"),
    ("-pg", "--pg"),
];

/// Other long forms that llama.cpp knows, with the one that this program prints.
pub(super) const LONG_ALIASES: &[(&str, &str)] = &[
    ("--gpu-layers", "--n-gpu-layers"),
    ("--predict", "--n-predict"),
    ("--conversation", "--chat"),
];

/// Options whose next token is free text and may look like a flag.
const TAKE_TEXT: &[&str] =
    &["-p", "--prompt", "-f", "--file", "-sys", "--system-prompt", "-m", "--model"];

/// First tokens that are not arguments of `run`.
const TOP_LEVEL: &[&str] = &["-h", "--help", "-V", "--version"];

/// The arguments with llama.cpp's spellings replaced; `args[0]` is the program.
///
/// Nothing, and flags without a subcommand, mean `run`; nothing in a terminal means to watch the
/// built-in model run until its context is full.
pub(super) fn normalise(
    args: impl IntoIterator<Item = OsString>,
    in_terminal: bool,
) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::new();
    let (mut text_follows, mut literal) = (false, false);
    for (i, arg) in args.into_iter().enumerate() {
        if i == 0 || text_follows || literal {
            text_follows = false;
            out.push(arg);
            continue;
        }
        let Some(text) = arg.to_str() else {
            out.push(arg);
            continue;
        };
        if i == 1 && text.starts_with('-') && !TOP_LEVEL.contains(&text) {
            out.push("run".into());
        }
        literal = text == "--";
        text_follows = TAKE_TEXT.contains(&text);
        out.push(long_form(text).map_or(arg, OsString::from));
    }
    if out.len() == 1 {
        let watch: &[&str] = &["--tui", "--n-predict=-1", "--ignore-eos"];
        out.push("run".into());
        out.extend(watch.iter().filter(|_| in_terminal).map(OsString::from));
    }
    out
}

/// The long form of a flag with its `=value`, if it is one of llama.cpp's.
fn long_form(token: &str) -> Option<String> {
    let (flag, value) = match token.split_once('=') {
        Some((flag, value)) => (flag, Some(value)),
        None => (token, None),
    };
    let known = SPELLINGS.iter().chain(LONG_ALIASES).find(|(short, _)| *short == flag)?;
    Some(value.map_or_else(|| known.1.to_string(), |value| format!("{}={value}", known.1)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::app::cli::Cli;

    fn rewrite(line: &str) -> String {
        let args = line.split(' ').map(OsString::from);
        let out = normalise(args, false);
        out.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn short_forms_become_long_ones_with_their_values() {
        assert_eq!(
            rewrite("gpuwhy run m.gguf -ngl 12 -ub=64 -c 512 -ot exps=CPU -cmoe -t 2 -tb 4"),
            "gpuwhy run m.gguf --n-gpu-layers 12 --ubatch-size=64 -c 512 --override-tensor \
             exps=CPU --cpu-moe -t 2 --threads-batch 4"
        );
    }

    #[test]
    fn text_is_never_rewritten() {
        assert_eq!(rewrite("gpuwhy run -p -ngl -ngl 3"), "gpuwhy run -p -ngl --n-gpu-layers 3");
        assert_eq!(rewrite("gpuwhy run -- -ngl"), "gpuwhy run -- -ngl");
        assert_eq!(rewrite("gpuwhy run -nglx -x=-ngl"), "gpuwhy run -nglx -x=-ngl");
    }

    #[test]
    fn flags_alone_are_those_of_run() {
        assert_eq!(rewrite("gpuwhy -ngl 3"), "gpuwhy run --n-gpu-layers 3");
        assert_eq!(rewrite("gpuwhy"), "gpuwhy run");
        assert_eq!(rewrite("gpuwhy --help"), "gpuwhy --help");
        assert_eq!(rewrite("gpuwhy bench -ngl 3"), "gpuwhy bench --n-gpu-layers 3");
    }

    /// Every spelling leads to an option that exists, and every option that exists says in its help
    /// how llama.cpp spells it.
    #[test]
    fn the_table_and_the_options_agree() {
        let root = Cli::command();
        let mut found = vec![false; SPELLINGS.len()];
        for command in root.get_subcommands() {
            for arg in command.get_arguments() {
                let Some(long) = arg.get_long() else { continue };
                let row = SPELLINGS.iter().position(|(_, l)| l.trim_start_matches('-') == long);
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                let told = help.split_once(']').map(|(told, _)| told.trim_start_matches('['));
                let told = told.filter(|_| help.starts_with("[-"));
                let name = command.get_name();
                match row {
                    Some(row) => {
                        assert_eq!(told, Some(SPELLINGS[row].0), "{name} --{long}: {help}");
                        found[row] = true;
                    }
                    None => assert_eq!(told, None, "{name} --{long} is missing in the table"),
                }
            }
        }
        for (row, found) in SPELLINGS.iter().zip(found) {
            assert!(found, "{row:?} leads to no option");
        }
    }

    #[test]
    fn aliases_lead_to_options() {
        let root = Cli::command();
        for (_, long) in LONG_ALIASES {
            let is_it = |a: &clap::Arg| a.get_long() == Some(long.trim_start_matches('-'));
            let known = root.get_subcommands().any(|c| c.get_arguments().any(is_it));
            assert!(known, "{long}");
        }
    }
}
