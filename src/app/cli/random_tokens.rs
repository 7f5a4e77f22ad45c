//! Random tokens for what is measured: which they are does not matter, that they differ does.

use crate::engine::runtime::Engine;

/// The same sequence for every engine with the same vocabulary.
pub(super) struct RandomTokens {
    n_vocab: u64,
    bos: Option<u32>,
    /// State of a linear congruential generator.
    state: u64,
}

impl RandomTokens {
    /// From the vocabulary of an engine, beginning anew.
    pub(super) fn new(engine: &Engine) -> Self {
        let tokenizer = engine.tokenizer();
        Self {
            n_vocab: engine.model().hparams().n_vocab as u64,
            bos: tokenizer.vocab().bos.filter(|_| tokenizer.adds_bos()),
            state: 1,
        }
    }

    /// A token for a position: at the first one, where the model has one for that, the one that begins
    /// a text.
    pub(super) fn at(&mut self, pos: usize) -> u32 {
        // Knuth's MMIX constants.
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let random = ((self.state >> 33) % self.n_vocab.max(1)) as u32;
        if pos == 0 { self.bos.unwrap_or(random) } else { random }
    }
}
