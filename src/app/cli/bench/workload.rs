//! What a test computes: a prompt of random tokens, then single random tokens, after a context of
//! random tokens.

use crate::app::cli::failure::Failure;
use crate::app::cli::random_tokens::RandomTokens;
use crate::engine::runtime::{BatchToken, Engine, SeqId};

use super::matrix::Test;

/// The one sequence that a test uses.
const SEQ: SeqId = SeqId(0);

/// The tests' tokens and the way to compute them on one engine.
pub(super) struct Workload {
    test: Test,
    tokens: RandomTokens,
    /// Positions up to here are in the context and stay there from test to test.
    filled: usize,
    /// Layers with a sliding window forget what is so far back; 0 when there are none.
    window: usize,
    /// Something was computed after the positions that stay.
    went_on: bool,
}

impl Workload {
    /// Work for this engine, whose context is empty; first comes [`Workload::set`].
    pub(super) fn new(engine: &Engine) -> Self {
        let h = engine.model().hparams();
        Self {
            test: Test { n_prompt: 0, n_gen: 0, n_depth: 0 },
            tokens: RandomTokens::new(engine),
            filled: 0,
            window: h.sliding_window.map_or(0, |w| w as usize),
            went_on: false,
        }
    }

    /// Turns to another test; what both have in the context stays there.
    pub(super) fn set(&mut self, test: Test) {
        self.test = test;
    }

    /// One prompt and one generated token, whichever the test has, after what of its depth is in
    /// the context already.
    pub(super) fn warm_up(&mut self, engine: &mut Engine) -> Result<(), Failure> {
        self.keep(engine, self.test.n_depth);
        if self.test.n_prompt > 0 {
            self.prompt(engine, self.filled, self.test.n_prompt)?;
            self.keep(engine, self.filled);
        }
        if self.test.n_gen > 0 {
            self.generate(engine, self.filled, 1)?;
            self.keep(engine, self.filled);
        }
        Ok(())
    }

    /// Puts as many tokens into the context as the test wants there, and nothing else.
    pub(super) fn fill_depth(&mut self, engine: &mut Engine) -> Result<(), Failure> {
        self.keep(engine, self.test.n_depth);
        if self.filled < self.test.n_depth {
            self.prompt(engine, self.filled, self.test.n_depth - self.filled)?;
            self.filled = self.test.n_depth;
        }
        self.went_on = false;
        Ok(())
    }

    /// Forgets everything from position `end` on. What a sliding window has passed is gone, so
    /// where there is one and the context went on, one window of it has to be computed again.
    fn keep(&mut self, engine: &mut Engine, end: usize) {
        let goes_back = self.went_on || end < self.filled;
        self.filled = self.filled.min(end);
        if goes_back && self.window > 0 {
            self.filled = self.filled.saturating_sub(self.window);
        }
        self.went_on = false;
        engine.truncate(SEQ, self.filled as i32);
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
        let token = self.tokens.at(pos);
        BatchToken { token, pos: pos as i32, seq: SEQ, logits }
    }

    /// Computes `n` tokens from position `start`; only the last one's logits are wanted.
    fn prompt(&mut self, engine: &mut Engine, start: usize, n: usize) -> Result<(), Failure> {
        let end = start + n;
        let tokens: Vec<BatchToken> =
            (start..end).map(|pos| self.token(pos, pos + 1 == end)).collect();
        self.went_on = true;
        for batch in tokens.chunks(engine.options().n_batch) {
            engine.decode(batch)?;
        }
        Ok(())
    }

    fn generate(&mut self, engine: &mut Engine, start: usize, n: usize) -> Result<(), Failure> {
        self.went_on |= n > 0;
        for pos in start..start + n {
            let token = self.token(pos, true);
            engine.decode(&[token])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use crate::base::event::{Event, SpanKind};
    use crate::base::sink::{MemorySink, Sink};
    use crate::engine::gguf::Gguf;
    use crate::engine::runtime::RuntimeOptions;

    use super::*;

    /// The tokens of each ubatch since the last call.
    fn ubatches(sink: &MemorySink) -> Vec<u32> {
        let events = sink.take();
        let spans = events.iter().filter_map(|e| match e {
            Event::Span(s) if matches!(s.kind, SpanKind::Ubatch { .. }) => Some(s.tokens),
            _ => None,
        });
        spans.collect()
    }

    fn engine(file: &str) -> (Engine, Arc<MemorySink>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(file);
        let gguf = Arc::new(Gguf::open(&path).unwrap());
        let sink = Arc::new(MemorySink::default());
        let events: Arc<dyn Sink> = sink.clone();
        let options = RuntimeOptions { n_ctx: 128, n_threads: 1, ..RuntimeOptions::default() };
        (Engine::load(gguf, options, &events, &mut |_| ()).unwrap(), sink)
    }

    #[test]
    fn a_depth_is_filled_once_for_all_repetitions_and_tests() {
        let (mut engine, sink) = engine("builtin/builtin.gguf");
        let mut workload = Workload::new(&engine);
        let test = Test { n_prompt: 0, n_gen: 3, n_depth: 16 };
        workload.set(test);
        workload.warm_up(&mut engine).unwrap();
        assert_eq!(ubatches(&sink), [1]);
        for filling in [vec![16], vec![]] {
            workload.fill_depth(&mut engine).unwrap();
            assert_eq!(ubatches(&sink), filling);
            workload.run(&mut engine).unwrap();
            assert_eq!(ubatches(&sink), [1, 1, 1]);
        }
        // The next test shares the depth, the one after goes deeper, and the last one starts anew.
        for (n_depth, filling) in [(16, vec![]), (24, vec![8]), (4, vec![]), (0, vec![])] {
            workload.set(Test { n_prompt: 5, n_gen: 0, n_depth });
            workload.warm_up(&mut engine).unwrap();
            assert_eq!(ubatches(&sink), [5]);
            workload.fill_depth(&mut engine).unwrap();
            assert_eq!(ubatches(&sink), filling, "depth {n_depth}");
            workload.run(&mut engine).unwrap();
            assert_eq!(ubatches(&sink), [5]);
        }
    }

    #[test]
    fn what_a_window_has_passed_is_computed_again() {
        let (mut engine, sink) = engine("parity/gemma3.gguf");
        let window = engine.model().hparams().sliding_window.unwrap();
        let n_depth = 2 * window as usize + 5;
        assert!(n_depth + 2 < 128, "the window of the fixture is {window}");
        let mut workload = Workload::new(&engine);
        workload.set(Test { n_prompt: 0, n_gen: 2, n_depth });
        for filling in [n_depth as u32, window, window] {
            workload.fill_depth(&mut engine).unwrap();
            assert_eq!(ubatches(&sink), [filling]);
            workload.run(&mut engine).unwrap();
            assert_eq!(ubatches(&sink), [1, 1]);
        }
    }
}
