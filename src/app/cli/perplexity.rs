//! `gpuwhy perplexity`: how well a model predicts a text, counted exactly as llama.cpp's
//! `llama-perplexity` counts (`tools/perplexity/perplexity.cpp`, without stride): the text is cut
//! into chunks of the context's length, and of each chunk the second half is scored.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::clock::now_ns;
use crate::base::sink::Sink;
use crate::base::units::Nanos;
use crate::engine::runtime::{BatchToken, Engine, SeqId};

use super::failure::Failure;
use super::flags::{Format, RuntimeArgs};
use super::logging::Warnings;
use super::progress::BytesBar;
use super::source::ModelArgs;
use super::{output, stop};

/// Context when `-c` is not given, as in llama.cpp.
const N_CTX_DEFAULT: usize = 512;

/// Logits are fetched for at most this many tokens at a time, to bound memory.
const SCORED_AT_ONCE: usize = 64;

/// Arguments of `gpuwhy perplexity`.
#[derive(Debug, Args)]
pub(super) struct PerplexityArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// The text
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,

    /// Chunks to score at most; all if not given
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,

    /// How to report
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// No progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    runtime: RuntimeArgs,
}

/// The document `gpuwhy.perplexity/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct PerplexityReport {
    /// Always `gpuwhy.perplexity/1`.
    pub(in crate::app::cli) schema: String,
    /// The model's file.
    pub(in crate::app::cli) model: String,
    /// The text's file.
    pub(in crate::app::cli) file: String,
    /// Tokens of a chunk.
    pub(in crate::app::cli) n_ctx: usize,
    /// Chunks that were scored.
    pub(in crate::app::cli) chunks: usize,
    /// Tokens that were scored.
    pub(in crate::app::cli) tokens_scored: u64,
    /// The exponential of the mean negative log-likelihood.
    pub(in crate::app::cli) perplexity: f64,
    /// Its standard error, as llama.cpp estimates it.
    pub(in crate::app::cli) standard_error: f64,
    /// The perplexity after each chunk.
    pub(in crate::app::cli) after_chunk: Vec<f64>,
    /// Time of all chunks.
    pub(in crate::app::cli) total_ns: u64,
}

/// Sums of negative log-likelihoods.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    nll: f64,
    nll_squared: f64,
    count: u64,
}

impl Score {
    fn add(&mut self, logits: &[f32], token: u32) {
        let nll = negative_log_likelihood(logits, token);
        self.nll += nll;
        self.nll_squared += nll * nll;
        self.count += 1;
    }

    fn perplexity(&self) -> f64 {
        (self.nll / self.count as f64).exp()
    }

    fn standard_error(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let n = self.count as f64;
        let mean = self.nll / n;
        let variance = self.nll_squared / n - mean * mean;
        if variance > 0.0 { (variance / (n - 1.0)).sqrt() * self.perplexity() } else { 0.0 }
    }
}

/// `-log softmax(logits)[token]`, with the maximum and differences in f32 as llama.cpp has them.
fn negative_log_likelihood(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from((l - max).exp())).sum();
    -(f64::from(logits[token as usize] - max) - sum.ln())
}

/// Runs the command.
pub(super) fn run(args: &PerplexityArgs) -> Result<(), Failure> {
    let text = std::fs::read(&args.file).map_err(|e| Failure::file("read", &args.file, &e))?;
    let text = String::from_utf8(text)
        .map_err(|e| Failure::new(format!("{}: {e}", args.file.display())))?;
    let gguf = args.model.open(args.quiet)?;
    let mut options = args.runtime.options(N_CTX_DEFAULT)?;
    if args.runtime.parallel() != 1 {
        return Err(Failure::new("-np: perplexity scores one sequence at a time"));
    }
    options.n_ctx = args.runtime.ctx_size().unwrap_or(N_CTX_DEFAULT);
    let model = gguf.name().to_string();
    let mut bar = BytesBar::new("loading weights", args.quiet);
    let sink: Arc<dyn Sink> = Arc::new(Warnings);
    let loaded = Engine::load(gguf, options, &sink, &mut |p| bar.load(p));
    let mut engine = loaded?;
    drop(bar);
    let tokens = engine.tokenizer().encode(&text, true, false);
    let (n_ctx, chunks) = (engine.options().n_ctx, args.chunks.unwrap_or(usize::MAX));
    // Fewer than two chunks say too little, and llama.cpp refuses them too.
    if tokens.len() < 2 * n_ctx {
        let message = format!(
            "{}: {} tokens are too few for chunks of {n_ctx}; two chunks are needed",
            args.file.display(),
            tokens.len()
        );
        return Err(Failure::new(message).hint("give a longer text, or a smaller -c"));
    }
    let start_ns = now_ns();
    let (score, after_chunk) = score(&mut engine, &tokens, chunks, args.quiet)?;
    let report = PerplexityReport {
        schema: "gpuwhy.perplexity/1".to_string(),
        model,
        file: args.file.display().to_string(),
        n_ctx,
        chunks: after_chunk.len(),
        tokens_scored: score.count,
        perplexity: score.perplexity(),
        standard_error: score.standard_error(),
        after_chunk,
        total_ns: now_ns() - start_ns,
    };
    print(args.format, &report)
}

/// Scores chunk after chunk; stops early on Ctrl-C.
fn score(
    engine: &mut Engine,
    tokens: &[u32],
    chunks_max: usize,
    quiet: bool,
) -> Result<(Score, Vec<f64>), Failure> {
    let (n_ctx, stop) = (engine.options().n_ctx, stop::on_ctrl_c());
    let tokenizer = Arc::clone(engine.tokenizer());
    let bos = tokenizer.vocab().bos.filter(|_| tokenizer.adds_bos());
    let (mut score, mut after_chunk) = (Score::default(), Vec::new());
    let chunks = (tokens.len() / n_ctx).min(chunks_max);
    for chunk in tokens.chunks_exact(n_ctx).take(chunks) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        score_chunk(engine, chunk, bos, &mut score)?;
        after_chunk.push(score.perplexity());
        if !quiet {
            output::stderr(&format!(
                "\r[{}/{chunks}] {:.4}",
                after_chunk.len(),
                score.perplexity()
            ));
        }
    }
    if !quiet {
        output::stderr("\n");
    }
    Ok((score, after_chunk))
}

fn score_chunk(
    engine: &mut Engine,
    chunk: &[u32],
    bos: Option<u32>,
    score: &mut Score,
) -> Result<(), Failure> {
    engine.truncate(SeqId(0), 0);
    // Tokens from the middle on are context enough for those after them to be scored.
    let first = chunk.len() / 2;
    let token = |i: usize| BatchToken {
        token: if i == 0 { bos.unwrap_or(chunk[0]) } else { chunk[i] },
        pos: i as i32,
        seq: SeqId(0),
        logits: i >= first,
    };
    let context: Vec<BatchToken> = (0..first).map(token).collect();
    for batch in context.chunks(engine.options().n_batch) {
        engine.decode(batch)?;
    }
    let n_vocab = engine.model().hparams().n_vocab;
    let step = SCORED_AT_ONCE.min(engine.options().n_ubatch);
    for start in (first..chunk.len() - 1).step_by(step) {
        let end = (start + step).min(chunk.len() - 1);
        let batch: Vec<BatchToken> = (start..end).map(token).collect();
        let logits = engine.decode(&batch)?;
        for (row, i) in logits.chunks_exact(n_vocab).zip(start..end) {
            score.add(row, chunk[i + 1]);
        }
    }
    Ok(())
}

fn print(format: Format, report: &PerplexityReport) -> Result<(), Failure> {
    let line = format!(
        "perplexity {:.4} +/- {:.5} over {} tokens in {} chunks of {}, {}",
        report.perplexity,
        report.standard_error,
        report.tokens_scored,
        report.chunks,
        report.n_ctx,
        Nanos(report.total_ns as f64)
    );
    match format {
        Format::Json => output::json(report),
        Format::Text => output::stdout(format!("{line}\n").as_bytes()),
        Format::Markdown => {
            let text = format!("- `{}` on `{}`: {line}\n", report.model, report.file);
            output::stdout(text.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_give_the_vocabulary_as_perplexity() {
        let mut score = Score::default();
        for token in 0..8 {
            score.add(&[3.0; 8], token);
        }
        assert!((score.perplexity() - 8.0).abs() < 1e-9);
        assert!(score.standard_error() < 1e-6);
    }

    #[test]
    fn the_error_is_that_of_the_mean() {
        // Likelihoods 1/2 and 1/8: mean of the logs is ln 4, their variance (ln 2)^2.
        let mut score = Score::default();
        let logits = [0.5f32.ln(), 0.125f32.ln(), 0.375f32.ln()];
        score.add(&logits, 0);
        score.add(&logits, 1);
        assert!((score.perplexity() - 4.0).abs() < 1e-6);
        assert!((score.standard_error() - 4.0 * 2.0f64.ln()).abs() < 1e-5);
    }
}
