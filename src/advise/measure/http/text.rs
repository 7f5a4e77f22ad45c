//! Requests to servers that take prompts as text alone, and whether they read all of it.
//!
//! How many tokens a word is, is learnt from the server's own count; speeds are always of the tokens
//! that it counted, never of those that were wanted.

use super::fleet;
use super::prompts::Prompts;
use crate::advise::measure::{MeasureError, Test};
use crate::observe::attach::{Ask, Generate, Generation, Prompt};

/// Words of the prompt from which the tokens of a word are learnt.
const TRIAL_WORDS: usize = 128;
/// Share of the wanted tokens that must have been read. Words of odd vocabularies vary by a tenth.
const READ_MIN: f64 = 0.75;

/// Prompts of words, for one server.
pub(super) struct TextPrompts {
    prompts: Prompts,
    /// How many tokens a word is, once it is known.
    tokens_per_word: Option<f64>,
}

impl TextPrompts {
    pub(super) fn new(prompts: Prompts) -> Self {
        Self { prompts, tokens_per_word: None }
    }

    /// Runs a test's requests, and sees to it that they wrote and read what they should.
    pub(super) fn run(
        &mut self,
        name: &str,
        server: &dyn Generate,
        test: &Test,
    ) -> Result<Vec<Generation>, MeasureError> {
        let per_word = self.tokens_per_word(name, server)?;
        let seen = fleet::run_to_length(name, server, || self.requests(test, per_word))?;
        for request in &seen {
            check_read(name, test, request)?;
        }
        Ok(seen)
    }

    /// Learnt from a request of its own.
    fn tokens_per_word(&mut self, name: &str, server: &dyn Generate) -> Result<f64, MeasureError> {
        if let Some(known) = self.tokens_per_word {
            return Ok(known);
        }
        let seen = server.generate(&Ask::new(Prompt::Text(self.prompts.text(TRIAL_WORDS)), 1))?;
        let tokens = seen.prompt_tokens.filter(|n| *n > 0).ok_or_else(|| {
            MeasureError::new(format!("{name}: it does not count the tokens of prompts"))
                .hint("its speed cannot be told without; is there a newer version?")
        })?;
        let learnt = (tokens as f64 / TRIAL_WORDS as f64).clamp(0.25, 16.0);
        self.tokens_per_word = Some(learnt);
        Ok(learnt)
    }

    /// A depth is part of the prompt.
    fn requests(&mut self, test: &Test, per_word: f64) -> Vec<Ask> {
        let tokens = f64::from(test.depth) + f64::from(test.prompt_tokens);
        let words = (tokens / per_word).round() as usize;
        (0..test.concurrency.max(1))
            .map(|_| Ask::new(Prompt::Text(self.prompts.text(words)), test.generate_tokens))
            .collect()
    }
}

/// Whether the server read about as many tokens as it was given: one with too short a context cuts
/// prompts without a word, and one that had kept the prompt would read less of it.
fn check_read(name: &str, test: &Test, request: &Generation) -> Result<(), MeasureError> {
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
