//! `gpuwhy check`: fails when inference got worse, and says what changed and why.
//!
//! Structure is compared exactly, times by statistics: with a stored baseline, or with another build,
//! other flags or another server that runs in turn. Data goes to stdout, progress to stderr. Exit codes:
//! 0 passed, 1 regressed, 2 error, 3 inconclusive.

mod compare;
mod mock;
mod progress;
mod targets;
mod typed;
mod update;
mod write;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::advise::measure::{Workload, shipped};
use crate::advise::regress::Verdict;

use super::failure::{EXIT_FINDINGS, EXIT_INCONCLUSIVE, Failure};
use super::flags::RuntimeArgs;
use super::source::ModelArgs;

/// Arguments of `gpuwhy check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// What is run: quick, standard, depth, server, or a file like those in profiles/workloads
    #[arg(short, long, value_name = "NAME|FILE", default_value = "quick")]
    workload: String,

    /// The baseline's file [default: .gpuwhy/MODEL.WORKLOAD.json]
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Sample the target and add the session to the baseline, which takes on the structure of now; with
    /// --structure-only that alone
    #[arg(long, conflicts_with_all = ["against", "against_flags", "against_url"])]
    update: bool,

    /// Compare structure alone: nothing is run, and of our own runtime only the model's header is read
    #[arg(long, conflicts_with_all = ["url", "command"])]
    structure_only: bool,

    /// Compare with another gpuwhy program, run in turn with this one
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["url", "command"])]
    against: Option<PathBuf>,

    /// Compare with these flags instead of the ones given, run in turn: --against-flags "-ngl 12"
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["url", "command"])]
    against_flags: Option<String>,

    /// Measure a server: Ollama, llama-server, vLLM or another with OpenAI's interface; MODEL is then its
    /// name there. "ollama" alone means the one at OLLAMA_HOST
    #[arg(long, value_name = "URL", conflicts_with = "command")]
    url: Option<String>,

    /// Compare with another server, asked in turn
    #[arg(long, value_name = "URL", requires = "url")]
    against_url: Option<String>,

    /// Process id of the server, so that its own load is told from that of others; found by its port where
    /// it runs here
    #[arg(long, value_name = "PID", requires = "url")]
    server_pid: Vec<u32>,

    /// Key that the server asks for [or OPENAI_API_KEY]
    #[arg(long, value_name = "KEY", env = "GPUWHY_API_KEY", hide_env_values = true)]
    api_key: Option<String>,

    /// Measure another program for each sample: "llama-bench -m M.gguf -p {p} -n {n} -d {d} -r 1 -o json"
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    command: Option<String>,

    /// Compare with another program, run in turn
    #[arg(long, value_name = "COMMAND", requires = "command")]
    against_command: Option<String>,

    /// Smallest change that matters, in percent [default: the workload's]
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    effect_min: Option<f64>,

    /// No sample is begun after that many seconds [default: the workload's]
    #[arg(long, value_name = "SECONDS")]
    time_max: Option<f64>,

    /// Samples of each side, at most [default: the workload's]
    #[arg(long, value_name = "N")]
    samples_max: Option<u32>,

    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: CheckFormat,

    /// Write the result to a file in another form too: junit=check.xml; may be given several times
    #[arg(long, value_name = "FORMAT=FILE", value_parser = write::destination)]
    write: Vec<write::Destination>,

    /// Print no progress
    #[arg(short, long)]
    quiet: bool,

    /// Read scripted targets on a virtual clock from a file: for tests of this command
    #[arg(long, value_name = "FILE", hide = true)]
    mock: Option<PathBuf>,

    #[command(flatten)]
    runtime: RuntimeArgs,
}

/// The forms of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum CheckFormat {
    /// Tables for a person
    #[default]
    Text,
    /// gpuwhy.check/1
    Json,
    /// For the comment of a pull request
    Markdown,
    /// JUnit XML
    Junit,
    /// Annotations in a GitHub workflow's log; the summary goes to GITHUB_STEP_SUMMARY
    Github,
    /// The candidate's samples, for benchstat
    Benchstat,
    /// The baseline's samples, for benchstat
    BenchstatBaseline,
    /// github-action-benchmark's customBiggerIsBetter
    BenchmarkBigger,
    /// github-action-benchmark's customSmallerIsBetter
    BenchmarkSmaller,
    /// Bencher's metric format
    Bencher,
}

/// Runs the command; `typed` is the whole command line.
pub(super) fn run(args: &CheckArgs, typed: &[OsString]) -> Result<ExitCode, Failure> {
    let workload = workload(args)?;
    let flags = typed::flags(typed);
    if args.update {
        return update::update(args, &workload, &flags).map(|()| ExitCode::SUCCESS);
    }
    let report = compare::check(args, &workload, &flags)?;
    write::all(args, &report)?;
    Ok(match report.verdict {
        Verdict::Unchanged | Verdict::Improved => ExitCode::SUCCESS,
        Verdict::Regressed => ExitCode::from(EXIT_FINDINGS),
        Verdict::Inconclusive => ExitCode::from(EXIT_INCONCLUSIVE),
    })
}

/// The workload that was named, with what was typed in place of its own.
fn workload(args: &CheckArgs) -> Result<Workload, Failure> {
    let name = &args.workload;
    let read = || {
        let names: Vec<&str> = shipped().iter().map(|s| s.0).collect();
        let text = std::fs::read_to_string(name).map_err(|e| {
            Failure::file("read the workload", Path::new(name), &e)
                .hint(format!("a file, or one of {}", names.join(", ")))
        })?;
        Workload::parse(name, &text).map_err(Failure::new)
    };
    let mut workload = match Workload::by_name(name) {
        Some(shipped) => shipped.map_err(Failure::new)?,
        None => read()?,
    };
    let sampling = &mut workload.sampling;
    if let Some(percent) = args.effect_min {
        sampling.effect_min_percent = percent;
    }
    if let Some(seconds) = args.time_max {
        sampling.time_max_s = seconds;
    }
    if let Some(samples) = args.samples_max {
        sampling.samples_max = samples;
        sampling.samples_min = sampling.samples_min.min(samples);
    }
    workload.check("of the command line").map_err(Failure::new)?;
    Ok(workload)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;

    use crate::app::cli::{Cli, argv};

    /// The commands of a file, with the shell's variables as words of their own.
    fn commands(text: &str) -> impl Iterator<Item = Vec<OsString>> + '_ {
        text.lines().filter_map(|line| line.find("gpuwhy check").map(|at| &line[at..])).map(
            |line| {
                let words = line.split_whitespace().filter(|w| !w.starts_with('$'));
                argv::normalise(words.map(|w| OsString::from(w.trim_matches('"'))), false)
            },
        )
    }

    #[test]
    fn the_commands_of_the_ci_files_are_understood() {
        for (file, text, count) in [
            ("github-check.yml", include_str!("../../../../docs/ci/github-check.yml"), 3),
            ("gitlab-check.yml", include_str!("../../../../docs/ci/gitlab-check.yml"), 4),
            ("action.yml", include_str!("../../../../docs/ci/action/action.yml"), 1),
        ] {
            let text =
                text.replace("name: gpuwhy check", "").replace("arguments of gpuwhy check", "");
            let mut found = 0;
            for words in commands(&text) {
                let told = format!("{file}: {words:?}");
                assert!(Cli::try_parse_from(words).is_ok(), "{told}");
                found += 1;
            }
            assert_eq!(found, count, "{file}");
        }
    }
}
