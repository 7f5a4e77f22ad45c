//! `gpuwhy man`: the manual page, made from the same table as the parser.

use clap::{Args, CommandFactory};

use super::failure::Failure;
use super::{Cli, output};

/// Arguments of `gpuwhy man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The page of a command, like run or model info; the overview if not given
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// Prints the page in roff.
pub(super) fn run(args: &ManArgs) -> Result<(), Failure> {
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    for name in &args.command {
        let found = command.find_subcommand(name);
        command = found.ok_or_else(|| Failure::new(format!("there is no command '{name}'")))?;
    }
    let mut roff = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut roff)?;
    output::stdout(&roff)
}
