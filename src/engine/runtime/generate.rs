//! Keeps several requests going at once: each step decodes one token of every running sequence and
//! fills the rest of the batch with prompts that wait (continuous batching).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::clock::now_ns;
use crate::base::event::{Event, Finish, RequestStep, Span, SpanKind, Step, Track};
use crate::engine::model::Wanted;
use crate::engine::tokenizer::{DecodeOptions, Detokenizer, Tokenizer};

use super::cells::SeqId;
use super::decode::{BatchToken, TopLogits};
use super::engine::Engine;
use super::error::RuntimeError;
use super::sampler::{Sampler, SamplerOptions};

/// Something to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// The caller's number for it.
    pub id: usize,
    /// The prompt; at least one token.
    pub prompt: Vec<u32>,
    /// `-n`: how many tokens to generate at most.
    pub n_predict: usize,
    /// How to choose tokens.
    pub sampler: SamplerOptions,
    /// Goes on after a token that ends generation, as `--ignore-eos` does.
    pub ignore_eog: bool,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct GenerationResult {
    /// The caller's number.
    pub id: usize,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// The generated tokens; the one that ended generation is not among them.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// From the request's first ubatch to its first token.
    pub first_token_ns: u64,
    /// From the request's first ubatch to its end.
    pub total_ns: u64,
    /// When each token was ready, counted from the request's first ubatch.
    pub token_ns: Vec<u64>,
}

struct Running<'t> {
    request: Request,
    seq: SeqId,
    sampler: Sampler,
    detokenizer: Detokenizer<'t>,
    /// Tokens of the prompt that are in the cache.
    n_done: usize,
    /// Sampled but not yet decoded.
    next: Option<u32>,
    tokens: Vec<u32>,
    token_ns: Vec<u64>,
    start_ns: u64,
}

impl Running<'_> {
    fn n_past(&self) -> usize {
        if self.n_done < self.request.prompt.len() {
            self.n_done
        } else {
            // The newest token is sampled but not yet decoded.
            self.n_done + self.tokens.len() - usize::from(self.next.is_some())
        }
    }
}

/// What a batch yielded.
enum Outputs {
    Logits(Vec<f32>),
    Top(TopLogits),
}

/// Runs requests on an engine.
pub struct Generator<'e, 't> {
    engine: &'e mut Engine,
    tokenizer: &'t Tokenizer,
    waiting: VecDeque<Request>,
    running: Vec<Running<'t>>,
    finished: Vec<GenerationResult>,
}

impl<'e, 't> Generator<'e, 't> {
    /// No requests yet.
    pub fn new(engine: &'e mut Engine, tokenizer: &'t Tokenizer) -> Self {
        let (waiting, running, finished) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { engine, tokenizer, waiting, running, finished }
    }

    /// Context that one sequence may use: an equal share of the whole.
    fn n_ctx_seq(&self) -> usize {
        let options = self.engine.options();
        options.n_ctx / options.n_seq_max
    }

    /// Adds a request to the queue.
    ///
    /// # Errors
    /// When it can never run: no prompt, or one that leaves no room in its share of the context.
    pub fn push(&mut self, request: Request) -> Result<(), RuntimeError> {
        let (id, n, room) = (request.id, request.prompt.len(), self.n_ctx_seq());
        if n == 0 {
            return Err(RuntimeError::Request { id, problem: "the prompt is empty".to_string() });
        }
        if n > room || (n == room && request.n_predict > 1) {
            let problem = format!("the prompt has {n} tokens, the context of a sequence {room}");
            return Err(RuntimeError::Request { id, problem });
        }
        self.step_of(id, now_ns(), Step::Queued { prompt_tokens: n as u32 });
        self.waiting.push_back(request);
        Ok(())
    }

    /// Works until every request has ended or `stop` is set; hands each piece of text to `on_text`
    /// with its request's number as soon as it is certain.
    ///
    /// # Errors
    /// When a device fails.
    pub fn run(
        &mut self,
        stop: &AtomicBool,
        on_text: &mut dyn FnMut(usize, &str),
    ) -> Result<Vec<GenerationResult>, RuntimeError> {
        while !(self.waiting.is_empty() && self.running.is_empty()) {
            if stop.load(Ordering::Relaxed) {
                self.cancel(on_text);
                break;
            }
            self.step(on_text)?;
        }
        let mut finished = std::mem::take(&mut self.finished);
        finished.sort_by_key(|f| f.id);
        Ok(finished)
    }

    fn cancel(&mut self, on_text: &mut dyn FnMut(usize, &str)) {
        while !self.running.is_empty() {
            self.finish(0, Finish::Cancelled, on_text);
        }
        let waiting = std::mem::take(&mut self.waiting);
        for request in waiting {
            let (finish, generated_tokens) = (Finish::Cancelled, 0);
            self.step_of(request.id, now_ns(), Step::Ended { finish, generated_tokens });
            self.finished.push(GenerationResult {
                id: request.id,
                n_prompt: request.prompt.len(),
                tokens: Vec::new(),
                finish: Finish::Cancelled,
                first_token_ns: 0,
                total_ns: 0,
                token_ns: Vec::new(),
            });
        }
    }

    /// Starts waiting requests on sequences that are free.
    fn admit(&mut self) {
        let n_seq = self.engine.options().n_seq_max;
        while self.running.len() < n_seq
            && let Some(request) = self.waiting.pop_front()
        {
            let taken = |s: &u8| self.running.iter().any(|r| r.seq == SeqId(*s));
            let Some(free) = (0..n_seq as u8).find(|s| !taken(s)) else { return };
            let mut sampler = Sampler::new(request.sampler);
            for &token in &request.prompt {
                sampler.accept(token);
            }
            let options = DecodeOptions { special: false, continues: true };
            let start_ns = now_ns();
            self.step_of(request.id, start_ns, Step::Started { slot: u16::from(free) });
            self.running.push(Running {
                detokenizer: self.tokenizer.detokenizer(options),
                sampler,
                seq: SeqId(free),
                n_done: 0,
                next: None,
                tokens: Vec::new(),
                token_ns: Vec::new(),
                start_ns,
                request,
            });
        }
    }

    /// One batch: decode tokens first, prompts in what room is left.
    fn step(&mut self, on_text: &mut dyn FnMut(usize, &str)) -> Result<(), RuntimeError> {
        self.admit();
        let mut batch = Vec::new();
        // By running request: where its logits will be among those of the batch.
        let mut wants: Vec<Option<usize>> = vec![None; self.running.len()];
        let mut n_logits = 0;
        for (r, run) in self.running.iter_mut().enumerate() {
            let pos = run.n_past() as i32;
            if let Some(token) = run.next.take() {
                batch.push(BatchToken { token, pos, seq: run.seq, logits: true });
                wants[r] = Some(n_logits);
                n_logits += 1;
            }
        }
        let mut room = self.engine.options().n_batch.saturating_sub(batch.len());
        for (r, run) in self.running.iter_mut().enumerate() {
            let left = run.request.prompt.len() - run.n_done;
            let n = left.min(room);
            for i in run.n_done..run.n_done + n {
                let last = i + 1 == run.request.prompt.len();
                let (token, pos) = (run.request.prompt[i], i as i32);
                batch.push(BatchToken { token, pos, seq: run.seq, logits: last });
                if last {
                    wants[r] = Some(n_logits);
                    n_logits += 1;
                }
            }
            run.n_done += n;
            room -= n;
        }
        let result = match self.wanted(&wants) {
            Wanted::Logits => Outputs::Logits(self.engine.decode(&batch)?),
            Wanted::Top(k) => Outputs::Top(self.engine.decode_top(&batch, k)?),
        };
        // From the back, so that finishing one does not move those still to come.
        for r in (0..wants.len()).rev() {
            if let Some(at) = wants[r] {
                self.take_token(r, &result, at, on_text);
            }
        }
        Ok(())
    }

    /// What the requests that get a token now need of the logits, all of them together.
    fn wanted(&self, wants: &[Option<usize>]) -> Wanted {
        let n_vocab = self.engine.model().hparams().n_vocab;
        let sampled = self.running.iter().zip(wants).filter(|(_, at)| at.is_some());
        let mut k = 1;
        for (run, _) in sampled {
            match run.request.sampler.wanted(n_vocab) {
                Wanted::Logits => return Wanted::Logits,
                Wanted::Top(more) => k = more.max(k),
            }
        }
        Wanted::Top(k)
    }

    /// Samples the next token of a request and ends the request where that is due.
    fn take_token(
        &mut self,
        r: usize,
        outputs: &Outputs,
        at: usize,
        on_text: &mut dyn FnMut(usize, &str),
    ) {
        let room = self.n_ctx_seq();
        let n_vocab = self.engine.model().hparams().n_vocab;
        let run = &mut self.running[r];
        let start_ns = now_ns();
        let sampler = &mut run.sampler;
        let token = (run.request.n_predict > 0).then(|| match outputs {
            Outputs::Logits(logits) => sampler.sample(&logits[at * n_vocab..(at + 1) * n_vocab]),
            Outputs::Top(top) => {
                let (tokens, logits) = top.row(at);
                sampler.sample_top(tokens, logits)
            }
        });
        let sampled_ns = now_ns();
        let Some(token) = token else {
            self.finish(r, Finish::Length, on_text);
            return;
        };
        self.record(SpanKind::Sampling, start_ns, sampled_ns);
        self.step_of(self.running[r].request.id, sampled_ns, Step::Token);
        let run = &mut self.running[r];
        run.token_ns.push(sampled_ns - run.start_ns);
        if self.tokenizer.is_eog(token) && !run.request.ignore_eog {
            self.finish(r, Finish::EndOfGeneration, on_text);
            return;
        }
        run.sampler.accept(token);
        run.tokens.push(token);
        run.next = Some(token);
        let id = run.request.id;
        let text = run.detokenizer.push(token).to_string();
        let (full, done) = (run.n_past() >= room, run.tokens.len() >= run.request.n_predict);
        self.record(SpanKind::Detokenise, sampled_ns, now_ns());
        self.text(id, text, on_text);
        if done {
            self.finish(r, Finish::Length, on_text);
        } else if full {
            self.finish(r, Finish::ContextFull, on_text);
        }
    }

    fn record(&self, kind: SpanKind, start_ns: u64, end_ns: u64) {
        let track = Track::Host;
        let span = Span { track, kind, start_ns, end_ns, bytes: 0, tokens: 1 };
        self.engine.scheduler.sink().record(Event::Span(span));
    }

    fn step_of(&self, id: usize, at_ns: u64, step: Step) {
        let step = RequestStep { at_ns, request: id as u64, step };
        self.engine.scheduler.sink().record(Event::Request(step));
    }

    /// Hands over text that is certain, if there is any.
    fn text(&self, id: usize, text: String, on_text: &mut dyn FnMut(usize, &str)) {
        if !text.is_empty() {
            on_text(id, &text);
            self.step_of(id, now_ns(), Step::Text(text));
        }
    }

    fn finish(&mut self, r: usize, finish: Finish, on_text: &mut dyn FnMut(usize, &str)) {
        let run = self.running.remove(r);
        let rest = run.detokenizer.finish();
        self.text(run.request.id, rest, on_text);
        let generated_tokens = run.tokens.len() as u32;
        let ended_ns = now_ns();
        self.step_of(run.request.id, ended_ns, Step::Ended { finish, generated_tokens });
        self.engine.truncate(run.seq, 0);
        self.finished.push(GenerationResult {
            id: run.request.id,
            n_prompt: run.request.prompt.len(),
            finish,
            first_token_ns: run.token_ns.first().copied().unwrap_or(0),
            total_ns: ended_ns - run.start_ns,
            tokens: run.tokens,
            token_ns: run.token_ns,
        });
    }
}
