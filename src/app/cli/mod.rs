//! The command line: parses, wires, prints, chooses the exit code. One file per subcommand.
//!
//! Nothing here computes anything about a model: it asks the engine and prints. Invariant: data goes
//! to stdout; progress, logs and, in text, the report go to stderr.

mod argv;
mod attach;
mod bench;
mod check;
mod completions;
mod dashboard;
mod doctor;
mod explain;
mod export;
mod failure;
mod flags;
mod log_source;
mod logging;
mod logs;
mod man;
mod model;
mod output;
mod perplexity;
mod progress;
mod random_tokens;
mod recording;
mod replay;
mod run;
mod sample;
#[cfg(test)]
mod schemas;
mod selftest;
mod source;
mod stop;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Why is my GPU not doing the work? Runs a GGUF model, times every graph split and every copy, and
/// says what ran where, why, and how long it took.
#[derive(Debug, Parser)]
#[command(name = "gpuwhy", version, max_term_width = 100)]
#[command(args_override_self = true)]
#[command(
    after_help = "Without a command, the model that is built into the program runs with its \
    own prompt; in a terminal the dashboard shows it. Flags are spelled as in llama.cpp: -ngl, -ctk, -ncmoe and the other short forms \
    work where their long form is listed.\n\nExit codes: 0 clean, 1 findings or a regression, \
    2 error, 3 inconclusive (check)."
)]
pub(in crate::app) struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Log to stderr what happens; twice for details
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Generate text, and report what ran where, why, and how long it took
    Run(Box<run::RunArgs>),
    /// Measure prompt and generation speed, with llama-bench's tests and names
    Bench(Box<bench::BenchArgs>),
    /// Run a test of random tokens once, and report it as `run` does: one sample of `check`
    Sample(Box<sample::SampleArgs>),
    /// Look at, make and list models
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Perplexity of a model over a text, counted as llama.cpp counts it
    Perplexity(Box<perplexity::PerplexityArgs>),
    /// Fail when inference got slower or is placed differently: compares with a baseline, another build,
    /// or other flags
    Check(Box<check::CheckArgs>),
    /// Read what an engine logged, and say why it is slow and what to change
    Logs(Box<logs::LogsArgs>),
    /// Watch a server that runs already (Ollama, llama-server, vLLM), and say what it does and what to
    /// change
    Attach(Box<attach::AttachArgs>),
    /// Look at this machine without running a model: devices, drivers, permissions, limits, servers and
    /// their settings
    Doctor(doctor::DoctorArgs),
    /// Write a recording for other programs: Perfetto, spreadsheets, Prometheus
    Export(export::ExportArgs),
    /// Show a recording in the dashboard as if it happened now, or print its report
    Replay(replay::ReplayArgs),
    /// Check every kernel of a GPU against the CPU, and measure what the GPU and its link can do
    Selftest(selftest::SelftestArgs),
    /// Explain a rule: what it detects, why that costs, from what it concludes, and what to do
    Explain(explain::ExplainArgs),
    /// Print a shell's completion script
    Completions(completions::CompletionsArgs),
    /// Print the manual page in roff
    Man(man::ManArgs),
}

/// Parses `args` (`args[0]` is the program), runs the command and returns the exit code.
pub(in crate::app) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let in_terminal = in_terminal();
    let args = argv::normalise(args, in_terminal);
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    logging::start(cli.verbose);
    let done = |()| ExitCode::SUCCESS;
    let result = match cli.command {
        Command::Run(args) => run::run(&args).map(done),
        Command::Bench(args) => bench::run(&args).map(done),
        Command::Sample(args) => sample::run(&args).map(done),
        Command::Model(command) => model::run(&command).map(done),
        Command::Perplexity(args) => perplexity::run(&args).map(done),
        Command::Check(check) => check::run(&check, &args),
        Command::Logs(args) => logs::run(&args),
        Command::Attach(args) => attach::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Export(args) => export::run(&args).map(done),
        Command::Replay(args) => replay::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::Explain(args) => explain::run(&args).map(done),
        Command::Completions(args) => completions::run(&args).map(done),
        Command::Man(args) => man::run(&args).map(done),
    };
    match result {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Whether a person sits at a terminal on which a dashboard can be drawn.
fn in_terminal() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term.is_empty() || term == "dumb");
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !is_dumb
}

/// Help and version are no errors; everything else is bad usage.
fn usage(error: &clap::Error) -> ExitCode {
    // A reader that has gone away is no reason to fail.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(failure::EXIT_ERROR) } else { ExitCode::SUCCESS }
}
