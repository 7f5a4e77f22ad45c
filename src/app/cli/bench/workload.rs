//! What a test computes: a prompt of random tokens, then single random tokens, after a context of
//! random tokens.

use crate::app::cli::failure::Failure;
use crate::engine::runtime::{BatchToken, Engine, SeqId};

use super::matrix::Test;

/// The one sequence that a test uses.
const SEQ: SeqId = SeqId(0);

/// A test's tokens and its way to compute them.
pub(super) struct Workload {
    test: Test,
    n_vocab: u32,
    bos: Option<u32>,
    /// State of a linear congruential generator: which tokens does not matter, that they differ
    /// does.
    random: u64,
    /// Positions up to here hold the context of the test's depth already.
    filled: usize,
    /// Cells of a sliding window are reused as the test goes on, so the depth must be filled again.
    refill: bool,
}

impl Workload {
    /// The work of `test` on this engine.
    pub(super) fn new(engine: &Engine, test: Test) -> Self {
        let h = engine.model().hparams();
        let tokenizer = engine.tokenizer();
        Self {
            test,
            n_vocab: h.n_vocab as u32,
            bos: tokenizer.vocab().bos.filter(|_| tokenizer.adds_bos()),
            random: 1,
            filled: 0,
            refill: h.sliding_window.is_some(),
        }
    }

    /// One prompt and one generated token, whichever the test has, at depth 0.
    pub(super) fn warm_up(&mut self, engine: &mut Engine) -> Result<(), Failure> {
        if self.test.n_prompt > 0 {
            self.prompt(engine, 0, self.test.n_prompt)?;
            engine.truncate(SEQ, 0);
        }
        if self.test.n_gen > 0 {
            self.generate(engine, 0, 1)?;
            engine.truncate(SEQ, 0);
        }
        Ok(())
    }

    /// Puts as many tokens into the context as the test wants there, and nothing else.
    pub(super) fn fill_depth(&mut self, engine: &mut Engine) -> Result<(), Failure> {
        if self.refill {
            self.filled = 0;
        }
        engine.truncate(SEQ, self.filled as i32);
        if self.filled < self.test.n_depth {
            self.prompt(engine, self.filled, self.test.n_depth - self.filled)?;
            self.filled = self.test.n_depth;
        }
        Ok(())
    }

    /// The part that is timed.
    pub(super) fn run(&mut self, engine: &mut Engine) -> Result<(), Failure> {
        let Test { n_prompt, n_gen, n_depth } = self.test;
        if n_prompt > 0 {
            self.prompt(engine, n_depth, n_prompt)?;
        }
        self.generate(engine, n_depth + n_prompt, n_gen)
    }

    fn token(&mut self, pos: usize, logits: bool) -> BatchToken {
        // Knuth's MMIX constants.
        self.random =
            self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let random = ((self.random >> 33) % u64::from(self.n_vocab.max(1))) as u32;
        let token = if pos == 0 { self.bos.unwrap_or(random) } else { random };
        BatchToken { token, pos: pos as i32, seq: SEQ, logits }
    }

    /// Computes `n` tokens from position `start`; only the last one's logits are wanted.
    fn prompt(&mut self, engine: &mut Engine, start: usize, n: usize) -> Result<(), Failure> {
        let end = start + n;
        let tokens: Vec<BatchToken> =
            (start..end).map(|pos| self.token(pos, pos + 1 == end)).collect();
        for batch in tokens.chunks(engine.options().n_batch) {
            engine.decode(batch)?;
        }
        Ok(())
    }

    fn generate(&mut self, engine: &mut Engine, start: usize, n: usize) -> Result<(), Failure> {
        for pos in start..start + n {
            let token = self.token(pos, true);
            engine.decode(&[token])?;
        }
        Ok(())
    }
}
