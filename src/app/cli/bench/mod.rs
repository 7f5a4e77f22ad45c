//! `gpuwhy bench`: prompt and generation speed with llama-bench's tests, names and raw samples.
//!
//! As there, prompts are random tokens and generation feeds random tokens: speed does not depend on
//! which. An engine serves all tests with its settings, and one warm-up run comes before each test's
//! repetitions.

mod limits;
mod matrix;
mod print;
mod record;
mod workload;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;

use crate::app::report::{count, model_facts};
use crate::base::clock::now_ns;
use crate::base::sink::Sink;
use crate::engine::backend::cpu::default_threads;
use crate::engine::backend::{DeviceKind, DeviceSpec, cuda_device_count};
use crate::engine::gguf::Gguf;
use crate::engine::model::work::Work;
use crate::engine::runtime::{Engine, GpuLayers, RuntimeOptions};
use crate::engine::tensor::DType;

use super::failure::Failure;
use super::flags::{PlacementArgs, cache_type, gpu_layers};
use super::logging::Warnings;
use super::progress::BytesBar;
use super::{output, source, stop};

use limits::{Limits, test_work};
use matrix::{Matrix, Setup, Test, parse_list, parse_pair};
use print::{Form, Printer};
pub(in crate::app::cli) use record::Record;
use workload::Workload;

/// Arguments of `gpuwhy bench`. A list is `512`, `512,1024` or a range like `0-2048+512`, `1-64*2`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// Models: .gguf files, names of the local Ollama store, synth:SHAPE:QUANT; the built-in model
    /// if none is given
    #[arg(value_name = "MODEL")]
    models: Vec<String>,

    /// One more model, as llama-bench spells it
    #[arg(short = 'm', long = "model", value_name = "MODEL")]
    model_flags: Vec<String>,

    /// Tokens of the prompt tests: a list; 0 for none
    #[arg(short = 'p', long, value_name = "LIST", default_value = "512", value_parser = list)]
    n_prompt: Vec<Values>,

    /// Tokens of the generation tests: a list; 0 for none
    #[arg(short = 'n', long, value_name = "LIST", default_value = "128", value_parser = list)]
    n_gen: Vec<Values>,

    /// [-pg] Prompt and generation timed together
    #[arg(long, value_name = "P,N", value_parser = parse_pair)]
    pg: Vec<(usize, usize)>,

    /// Tokens in the context before each test: a list
    #[arg(short = 'd', long, value_name = "LIST", default_value = "0", value_parser = list)]
    n_depth: Vec<Values>,

    /// Repetitions of each test
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    repetitions: usize,

    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,

    /// Do not run each test once before it is timed
    #[arg(long)]
    no_warmup: bool,

    /// [-ngl] Layers on devices: a list of numbers, auto or all
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "auto")]
    #[arg(value_parser = gpu_layers, allow_negative_numbers = true)]
    n_gpu_layers: Vec<GpuLayers>,

    /// Tokens that are taken at once: a list
    #[arg(short = 'b', long, value_name = "LIST", default_value = "2048", value_parser = list)]
    batch_size: Vec<Values>,

    /// [-ub] Tokens that are computed at once: a list
    #[arg(long, value_name = "LIST", default_value = "512", value_parser = list)]
    ubatch_size: Vec<Values>,

    /// Threads: a list; 0 chooses by the machine
    #[arg(short = 't', long, value_name = "LIST", default_value = "0", value_parser = list)]
    threads: Vec<Values>,

    /// [-ctk] Type of the keys in the KV cache: a list
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "f16")]
    #[arg(value_parser = cache_type)]
    cache_type_k: Vec<DType>,

    /// [-ctv] Type of the values in the KV cache: a list
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "f16")]
    #[arg(value_parser = cache_type)]
    cache_type_v: Vec<DType>,

    /// Measure what the machine can do before and after the tests, and print which share of it each
    /// test used; results come at the end then
    #[arg(long)]
    limits: bool,

    #[command(flatten)]
    placement: PlacementArgs,
}

/// The values of one occurrence of a list option.
#[derive(Clone, Debug)]
struct Values(Vec<usize>);

fn list(text: &str) -> Result<Values, String> {
    parse_list(text).map(Values)
}

fn flat(values: &[Values]) -> Vec<usize> {
    values.iter().flat_map(|v| v.0.iter().copied()).collect()
}

impl BenchArgs {
    fn matrix(&self) -> Matrix {
        Matrix {
            n_prompt: flat(&self.n_prompt),
            n_gen: flat(&self.n_gen),
            pairs: self.pg.clone(),
            n_depth: flat(&self.n_depth),
            gpu_layers: self.n_gpu_layers.clone(),
            n_batch: flat(&self.batch_size),
            n_ubatch: flat(&self.ubatch_size),
            n_threads: flat(&self.threads),
            type_k: self.cache_type_k.clone(),
            type_v: self.cache_type_v.clone(),
        }
    }

    fn models(&self) -> Vec<Option<&str>> {
        let named: Vec<Option<&str>> =
            self.models.iter().chain(&self.model_flags).map(|m| Some(m.as_str())).collect();
        if named.is_empty() { vec![None] } else { named }
    }
}

/// Runs the command.
pub(super) fn run(args: &BenchArgs) -> Result<(), Failure> {
    if args.repetitions == 0 {
        return Err(Failure::new("-r: at least one repetition is needed"));
    }
    let matrix = args.matrix();
    // Without a GPU, `auto` is the CPU alone.
    let is_there =
        |d: &DeviceSpec| *d != DeviceSpec::Auto || cuda_device_count().is_ok_and(|count| count > 0);
    let has_devices = args.placement.devices()?.iter().any(is_there);
    if args.limits && has_devices {
        let message = "--limits measures the processor, and -dev adds another device";
        return Err(Failure::new(message).hint("-dev none uses the CPU alone"));
    }
    let opened: Vec<Arc<Gguf>> =
        args.models().iter().map(|m| source::open(*m, false)).collect::<Result<_, _>>()?;
    let mut printer = Printer::new(args.output, &matrix, has_devices);
    if args.limits {
        printer = printer.with_limits();
    }
    printer.begin()?;
    // With devices, how many layers fit depends on the context, so each test has its own.
    let largest = matrix.tests().iter().map(Test::n_ctx).max().unwrap_or(0);
    let n_ctx_shared = if has_devices { 0 } else { largest };
    let mut limits = args.limits.then(Limits::default);
    let (stop, mut held) = (stop::on_ctrl_c(), Vec::new());
    'all: for gguf in &opened {
        for setup in matrix.setups() {
            let mut engines = Engines { args, gguf, setup, n_ctx: n_ctx_shared, loaded: None };
            for test in matrix.tests() {
                if stop.load(Ordering::Relaxed) {
                    break 'all;
                }
                if let Some(limits) = &mut limits {
                    limits.before(threads(setup))?;
                }
                let Some((record, work)) = engines.measure(test)? else { continue };
                if limits.is_some() {
                    held.push((record, work));
                } else {
                    printer.record(&record)?;
                }
            }
        }
    }
    let mut notes = String::new();
    if let Some(limits) = &mut limits {
        limits.after()?;
        for (mut record, work) in held {
            limits.judge(&mut record, work);
            printer.record(&record)?;
        }
        notes = limits.lines();
    }
    printer.end(&notes)
}

/// How many threads a setup means.
fn threads(setup: Setup) -> usize {
    if setup.n_threads == 0 { default_threads().count } else { setup.n_threads }
}

/// The engine of one model with one setup, kept from test to test while its context suffices.
struct Engines<'a> {
    args: &'a BenchArgs,
    gguf: &'a Arc<Gguf>,
    setup: Setup,
    /// Context for all tests together; 0 gives each its own.
    n_ctx: usize,
    loaded: Option<Loaded>,
}

struct Loaded {
    engine: Engine,
    workload: Workload,
    n_ctx: usize,
}

impl Engines<'_> {
    /// The engine for a test, loaded unless the last one will do.
    fn engine(&mut self, test: Test) -> Result<&mut Loaded, Failure> {
        let own = test.n_ctx();
        let suits = |n_ctx: usize| if self.n_ctx == 0 { n_ctx == own } else { n_ctx >= own };
        let loaded = match self.loaded.take().filter(|l| suits(l.n_ctx)) {
            Some(loaded) => loaded,
            None => match self.load(self.n_ctx.max(own)) {
                // What is too large for the largest test may do for this one.
                Err(_) if self.n_ctx > own => self.load(own)?,
                other => other?,
            },
        };
        Ok(self.loaded.insert(loaded))
    }

    fn load(&self, n_ctx: usize) -> Result<Loaded, Failure> {
        let setup = self.setup;
        let mut options = RuntimeOptions {
            n_ctx,
            n_batch: setup.n_batch,
            n_ubatch: setup.n_ubatch,
            n_threads: setup.n_threads,
            type_k: setup.type_k,
            type_v: setup.type_v,
            gpu_layers: setup.gpu_layers,
            ..RuntimeOptions::default()
        };
        self.args.placement.apply(&mut options)?;
        let mut bar = BytesBar::new("loading weights", false);
        let sink: Arc<dyn Sink> = Arc::new(Warnings);
        let engine = Engine::load(Arc::clone(self.gguf), options, &sink, &mut |p| bar.load(p))?;
        Ok(Loaded { workload: Workload::new(&engine), engine, n_ctx })
    }

    /// Runs one test, and with `--limits` counts its work; `None` when Ctrl-C came before its first
    /// sample.
    fn measure(&mut self, test: Test) -> Result<Option<(Record, Work)>, Failure> {
        let (args, gguf, setup) = (self.args, self.gguf, self.setup);
        let Loaded { engine, workload, .. } = self.engine(test)?;
        let mut record = describe(args, gguf, engine, setup, test);
        let stop = stop::on_ctrl_c();
        workload.set(test);
        if !args.no_warmup {
            workload.warm_up(engine)?;
        }
        let mut samples = Vec::with_capacity(args.repetitions);
        for _ in 0..args.repetitions {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            workload.fill_depth(engine)?;
            let start_ns = now_ns();
            workload.run(engine)?;
            samples.push(now_ns() - start_ns);
        }
        if samples.is_empty() {
            return Ok(None);
        }
        record.set_samples(samples);
        let model = engine.model();
        let work = if args.limits { test_work(model, setup, test)? } else { Work::default() };
        Ok(Some((record, work)))
    }
}

/// Everything about a test but its times.
fn describe(args: &BenchArgs, gguf: &Gguf, engine: &Engine, setup: Setup, test: Test) -> Record {
    let facts = model_facts(gguf, engine.model());
    let placement = &args.placement;
    let others = || engine.devices().iter().filter(|d| d.info().kind != DeviceKind::Cpu);
    let mut backends: Vec<&str> = others().map(|d| kind_name(d.info().kind)).collect();
    backends.push(kind_name(DeviceKind::Cpu));
    backends.dedup();
    let names: Vec<String> = others().map(|d| d.info().name.clone()).collect();
    let info: Vec<String> = others().map(|d| d.info().description.clone()).collect();
    let shares: Vec<String> = placement.tensor_split().iter().map(f32::to_string).collect();
    let summary = engine.setup().summary;
    let size = count(facts.parameters).replace(' ', "");
    Record {
        schema: record::BENCH_SCHEMA.to_string(),
        build_commit: env!("CARGO_PKG_VERSION").to_string(),
        build_number: 0,
        cpu_info: cpu_info(),
        gpu_info: info.join(", "),
        backends: backends.join(","),
        model_filename: facts.file,
        model_type: format!("{} {size} {}", facts.architecture, facts.file_type),
        model_size: facts.weight_bytes,
        model_n_params: facts.parameters,
        n_batch: setup.n_batch,
        n_ubatch: setup.n_ubatch,
        n_threads: thread_count(engine),
        type_k: setup.type_k.name().to_ascii_lowercase(),
        type_v: setup.type_v.name().to_ascii_lowercase(),
        n_gpu_layers: engine.setup().fit.gpu_layers,
        n_cpu_moe: placement.n_cpu_moe(),
        split_mode: placement.split_mode_name().to_string(),
        main_gpu: placement.main_gpu(),
        no_kv_offload: placement.no_kv_offload(),
        flash_attn: true,
        devices: if names.is_empty() { "none".to_string() } else { names.join("/") },
        tensor_split: shares.join("/"),
        tensor_buft_overrides: placement.override_tensor().join(","),
        use_mmap: true,
        no_op_offload: placement.no_op_offload(),
        n_prompt: test.n_prompt,
        n_gen: test.n_gen,
        n_depth: test.n_depth,
        test_time: output::utc_now(),
        splits_prompt: summary.splits_prompt,
        splits_decode: summary.splits_decode,
        ..Record::default()
    }
}

/// The number that the engine's sentence about its threads begins with.
fn thread_count(engine: &Engine) -> usize {
    engine.setup().threads.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn kind_name(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Cpu => "CPU",
        DeviceKind::Virtual => "virtual",
        DeviceKind::Cuda => "CUDA",
    }
}

/// The processor's name, as Linux knows it.
fn cpu_info() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("model name"));
    let name = line.and_then(|l| l.split_once(':')).map(|(_, name)| name.trim().to_string());
    name.unwrap_or_else(|| std::env::consts::ARCH.to_string())
}
