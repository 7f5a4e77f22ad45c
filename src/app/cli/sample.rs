//! `gpuwhy sample`: one test, once, in a process of its own, with the report of `run`.
//!
//! `check` starts this program, or another build of it, for every sample: so samples do not share a
//! process's luck with memory, and any two builds can be compared in turn. Prompts are random tokens,
//! generation follows the likeliest token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use crate::app::report::{
    self, Accumulator, Report, Totals, contention, engine_facts, plan_report, rss_bytes,
};
use crate::base::clock::now_ns;
use crate::base::event::{Event, SpanKind, Warning};
use crate::base::sink::Sink;
use crate::engine::gguf::Gguf;
use crate::engine::runtime::{BatchToken, Engine, Planned, RuntimeOptions, SeqId};
use crate::engine::sched::ComputeMode;
use crate::observe::telemetry::host::ProcessorCounters;

use super::failure::Failure;
use super::flags::RuntimeArgs;
use super::output;
use super::random_tokens::RandomTokens;
use super::source::ModelArgs;

/// Arguments of `gpuwhy sample`.
#[derive(Debug, Args)]
pub(super) struct SampleArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Tokens of each sequence's prompt; 0 for none
    #[arg(short = 'p', long, value_name = "N", default_value_t = 512)]
    n_prompt: usize,

    /// Tokens that each sequence generates; 0 for none
    #[arg(short = 'n', long, value_name = "N", default_value_t = 0)]
    n_gen: usize,

    /// Tokens in each sequence's context before that
    #[arg(short = 'd', long, value_name = "N", default_value_t = 0)]
    n_depth: usize,

    /// Place the model and cut its graphs, but take no memory and run nothing
    #[arg(long)]
    plan: bool,

    /// Time every node: tells which operation is slow, and slows every split down
    #[arg(long)]
    per_node: bool,

    /// Do not compute a few tokens before the test
    #[arg(long)]
    no_warmup: bool,

    #[command(flatten)]
    runtime: RuntimeArgs,
}

/// Runs the command.
pub(super) fn run(args: &SampleArgs) -> Result<(), Failure> {
    if args.n_prompt == 0 && args.n_gen == 0 {
        return Err(Failure::new("-p 0 -n 0: nothing to do").hint("-p 512, -n 128 or both"));
    }
    let gguf = args.model.open(true)?;
    let options = args.options()?;
    let report = if args.plan { plan(&gguf, options)? } else { measure(args, &gguf, options)? };
    output::json(&report)
}

impl SampleArgs {
    fn options(&self) -> Result<RuntimeOptions, Failure> {
        let each = self.n_prompt.saturating_add(self.n_gen).saturating_add(self.n_depth);
        let n_ctx = each.max(WARM_UP).saturating_mul(self.runtime.parallel());
        let mut options = self.runtime.options_with_context(n_ctx)?;
        if self.per_node {
            options.mode = ComputeMode::Nodes;
        }
        Ok(options)
    }
}

fn plan(gguf: &Arc<Gguf>, options: RuntimeOptions) -> Result<Report, Failure> {
    let sink: Arc<dyn Sink> = Arc::new(Gate::default());
    Ok(plan_report(&Planned::new(Arc::clone(gguf), options, &sink)?))
}

fn measure(
    args: &SampleArgs,
    gguf: &Arc<Gguf>,
    options: RuntimeOptions,
) -> Result<Report, Failure> {
    let gate = Arc::new(Gate::default());
    let sink: Arc<dyn Sink> = gate.clone();
    let rss_before_bytes = rss_bytes();
    let mut engine = Engine::load(Arc::clone(gguf), options, &sink, &mut |_| ())?;
    let mut sequences = Sequences::new(&engine);
    if !args.no_warmup {
        sequences.prompt(&mut engine, WARM_UP - 1)?;
        sequences.generate(&mut engine, 1, &mut || ())?;
        sequences.forget(&mut engine);
    }
    if args.n_depth > 0 {
        sequences.prompt(&mut engine, args.n_depth)?;
    }
    let before = ProcessorCounters::now();
    gate.open();
    let start_ns = now_ns();
    let mut token_ns = Vec::with_capacity(args.n_gen);
    let mut generated = args.n_gen;
    if args.n_prompt > 0 {
        sequences.prompt(&mut engine, args.n_prompt)?;
        if args.n_gen > 0 {
            // The prompt's last logits give the first token.
            token_ns.push(now_ns() - start_ns);
            generated -= 1;
        }
    }
    sequences.generate(&mut engine, generated, &mut || token_ns.push(now_ns() - start_ns))?;
    let after = ProcessorCounters::now();
    let mut facts = engine_facts(engine.setup(), rss_before_bytes);
    facts.processor_use = before.zip(after).map(|(b, now)| now.since(b).into());
    for text in facts.processor_use.iter().flat_map(contention) {
        sink.record(Event::Warning(Warning { at_ns: now_ns(), text }));
    }
    let token_ns = if token_ns.is_empty() { Vec::new() } else { vec![token_ns] };
    Ok(report::build(&gate.sums, facts, Totals { output: Vec::new(), token_ns }))
}

/// Tokens of each sequence before the test: a prompt and one token more.
const WARM_UP: usize = 16;

/// Sums up what belongs to the test, and loading; the rest passes by.
#[derive(Default)]
struct Gate {
    sums: Accumulator,
    is_open: AtomicBool,
}

impl Gate {
    fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }
}

impl Sink for Gate {
    fn record(&self, event: Event) {
        let passes = match &event {
            Event::Span(s) if matches!(s.kind, SpanKind::Load { .. }) => true,
            Event::Span(_) => self.is_open.load(Ordering::Relaxed),
            _ => true,
        };
        if passes {
            self.sums.record(event);
        }
    }
}

/// Sequences that grow in step.
struct Sequences {
    count: u8,
    /// Tokens that each has in the context.
    filled: usize,
    /// The next token of each.
    next: Vec<u32>,
    random: RandomTokens,
}

impl Sequences {
    fn new(engine: &Engine) -> Self {
        let count = engine.options().n_seq_max;
        let mut sequences = Self {
            count: count as u8,
            filled: 0,
            next: Vec::new(),
            random: RandomTokens::new(engine),
        };
        sequences.begin();
        sequences
    }

    /// What an empty context goes on with.
    fn begin(&mut self) {
        self.filled = 0;
        self.next = (0..self.count).map(|_| self.random.at(0)).collect();
    }

    /// Computes `n` random tokens of every sequence, one sequence after the other, and notes what
    /// follows each.
    fn prompt(&mut self, engine: &mut Engine, n: usize) -> Result<(), Failure> {
        let mut tokens = Vec::with_capacity(n * self.count as usize);
        for seq in 0..self.count {
            for pos in self.filled..self.filled + n {
                let token = self.random.at(pos);
                let logits = pos + 1 == self.filled + n;
                tokens.push(BatchToken { token, pos: pos as i32, seq: SeqId(seq), logits });
            }
        }
        self.filled += n;
        let mut likeliest = Vec::with_capacity(self.count as usize);
        for batch in tokens.chunks(engine.options().n_batch) {
            likeliest.extend(engine.decode_top(batch, 1)?.tokens.iter().map(|&t| t as u32));
        }
        self.next = likeliest;
        Ok(())
    }

    /// Computes `n` tokens of every sequence, all sequences together; `done` is called after each.
    fn generate(
        &mut self,
        engine: &mut Engine,
        n: usize,
        done: &mut dyn FnMut(),
    ) -> Result<(), Failure> {
        for _ in 0..n {
            let pos = self.filled as i32;
            let sequences = self.next.iter().enumerate();
            let batch: Vec<BatchToken> = sequences
                .map(|(seq, &token)| BatchToken { token, pos, seq: SeqId(seq as u8), logits: true })
                .collect();
            self.next = engine.decode_top(&batch, 1)?.tokens.iter().map(|&t| t as u32).collect();
            self.filled += 1;
            done();
        }
        Ok(())
    }

    /// Empties the context.
    fn forget(&mut self, engine: &mut Engine) {
        for seq in 0..self.count {
            engine.truncate(SeqId(seq), 0);
        }
        self.begin();
    }
}
