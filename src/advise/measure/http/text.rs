//! Requests to servers that take prompts as text alone, and whether they read all of it.
//!
//! How many tokens a word is, is learnt from the server's own count; speeds are always of the tokens
//! that it counted, never of those that were wanted.

use super::prompts::Prompts;
use crate::advise::measure::{MeasureError, Test};
use crate::observe::attach::{Ask, Generate, Generation, Prompt};

/// Words of the prompt from which the tokens of a word are learnt.
const TRIAL_WORDS: usize = 128;
/// Share of the wanted tokens that must have been read. Words of odd vocabularies vary by a tenth.
const READ_MIN: f64 = 0.75;

/// Learns how many tokens a word is, from a request of its own.
pub(super) fn tokens_per_word(
    name: &str,
    server: &dyn Generate,
    prompts: &mut Prompts,
) -> Result<f64, MeasureError> {
    let seen = server.generate(&Ask::new(Prompt::Text(prompts.text(TRIAL_WORDS)), 1))?;
    let tokens = seen.prompt_tokens.filter(|n| *n > 0).ok_or_else(|| {
        MeasureError::new(format!("{name}: it does not count the tokens of prompts"))
            .hint("its speed cannot be told without; is there a newer version?")
    })?;
    Ok((tokens as f64 / TRIAL_WORDS as f64).clamp(0.25, 16.0))
}

/// The requests of a test to a server that takes text; a depth is part of the prompt.
pub(super) fn text_requests(prompts: &mut Prompts, test: &Test, per_word: f64) -> Vec<Ask> {
    let tokens = f64::from(test.depth) + f64::from(test.prompt_tokens);
    let words = (tokens / per_word).round() as usize;
    (0..test.concurrency.max(1))
        .map(|_| Ask::new(Prompt::Text(prompts.text(words)), test.generate_tokens))
        .collect()
}

/// Whether the server read about as many tokens as it was given: one with too short a context cuts
/// prompts without a word, and one that had kept the prompt would read less of it.
pub(super) fn check_read(
    name: &str,
    test: &Test,
    request: &Generation,
) -> Result<(), MeasureError> {
    let given = f64::from(test.depth) + f64::from(test.prompt_tokens);
    let kept = request.cached_tokens.unwrap_or(0);
    let read = request.prompt_tokens.unwrap_or(0).saturating_sub(kept);
    if read as f64 >= given * READ_MIN {
        return Ok(());
    }
    let what = format!("{name}: was given a prompt of {given} tokens and read {read}");
    Err(MeasureError::new(what).hint(if kept > 0 {
        "it keeps prompts that it should not know; start it without a cache of prefixes"
    } else {
        "its context is too short: give a longer one (num_ctx, --max-model-len)"
    }))
}
