//! The flags that several commands share: what configures the runtime and the sampler.
//!
//! What was typed becomes the engine's settings here; meanings and names are llama.cpp's.

use clap::{Args, ValueEnum};

use crate::engine::backend::DeviceSpec;
use crate::engine::runtime::{GpuLayers, RuntimeOptions, SamplerOptions};
use crate::engine::sched::placement::{
    PlacementOptions, SplitMode, TensorOverride, experts_on_cpu, first_experts_on_cpu,
    parse_overrides,
};
use crate::engine::tensor::DType;

use super::failure::Failure;

/// Context of a sequence when neither `-c` nor the model says less.
const N_CTX_DEFAULT: usize = 4096;

/// How a command prints its report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Tables for people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// For an issue or a chat
    Markdown,
}

/// Devices and what goes where.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Placement")]
pub(super) struct PlacementArgs {
    /// [-dev] Devices beside the CPU: auto (every GPU), none, CUDA0, or virtual:12GiB with optional
    /// parts (virtual:12GiB/link=16GB/latency=10us/lacks=ROPE+GLU), several separated by commas
    #[arg(long, value_name = "LIST", default_value = "auto")]
    device: String,

    /// [-sm] How the model is spread over devices: none, layer, or row (the rows of large matrices)
    #[arg(long, value_name = "MODE", default_value = "layer", value_parser = split_mode)]
    split_mode: SplitMode,

    /// [-ts] Share of each device in layers or rows, like 3,1; by free memory if not given
    #[arg(long, value_name = "SHARES", value_delimiter = ',')]
    tensor_split: Vec<f32>,

    /// [-mg] The device that -sm none uses, and that holds with -sm row what is not spread
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    main_gpu: usize,

    /// [-ot] Weights whose name matches go to a device: PATTERN=DEVICE, several separated by commas
    #[arg(long, value_name = "RULES")]
    override_tensor: Vec<String>,

    /// [-cmoe] Keep all experts on the CPU
    #[arg(long)]
    cpu_moe: bool,

    /// [-ncmoe] Keep the experts of the first N layers on the CPU
    #[arg(long, value_name = "N", default_value_t = 0)]
    n_cpu_moe: usize,

    /// [-nkvo] Keep the KV cache on the CPU
    #[arg(long)]
    no_kv_offload: bool,

    /// [-nopo] Never bring weights of the CPU to a device for a large batch
    #[arg(long)]
    no_op_offload: bool,

    /// [-fa] Attention without a score matrix, the only kind there is here: on or auto
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = flash_attn)]
    flash_attn: FlashAttn,
}

/// `-fa`: any value that parses means the same.
#[derive(Clone, Copy, Debug)]
struct FlashAttn;

fn split_mode(text: &str) -> Result<SplitMode, String> {
    match text {
        "none" => Ok(SplitMode::None),
        "layer" => Ok(SplitMode::Layer),
        "row" => Ok(SplitMode::Row),
        "tensor" => {
            Err("dividing attention and feed-forward blocks over devices without gathering \
                         every product (tensor) is not built; row is the nearest"
                .to_string())
        }
        _ => Err("it is none, layer or row".to_string()),
    }
}

fn flash_attn(text: &str) -> Result<FlashAttn, String> {
    match text {
        "on" | "auto" | "1" => Ok(FlashAttn),
        "off" | "0" => {
            Err("attention never makes a score matrix here, so it cannot be turned off".to_string())
        }
        _ => Err("it is on or auto".to_string()),
    }
}

impl PlacementArgs {
    /// The devices beside the CPU.
    pub(super) fn devices(&self) -> Result<Vec<DeviceSpec>, Failure> {
        Ok(DeviceSpec::parse_list(&self.device)?)
    }

    /// The names of the `-sm` and `-ts` values, for reports.
    pub(super) fn split_mode_name(&self) -> &'static str {
        match self.split_mode {
            SplitMode::None => "none",
            SplitMode::Layer => "layer",
            SplitMode::Row => "row",
        }
    }

    /// `-mg`.
    pub(super) fn main_gpu(&self) -> usize {
        self.main_gpu
    }

    /// `-ts`.
    pub(super) fn tensor_split(&self) -> &[f32] {
        &self.tensor_split
    }

    /// `-ncmoe`.
    pub(super) fn n_cpu_moe(&self) -> usize {
        self.n_cpu_moe
    }

    /// `-nkvo`.
    pub(super) fn no_kv_offload(&self) -> bool {
        self.no_kv_offload
    }

    /// `-nopo`.
    pub(super) fn no_op_offload(&self) -> bool {
        self.no_op_offload
    }

    /// `-ot`, as typed.
    pub(super) fn override_tensor(&self) -> &[String] {
        &self.override_tensor
    }

    /// The settings that place weights. Rules that were typed come before `-cmoe` and `-ncmoe`.
    fn placement(&self) -> Result<PlacementOptions, Failure> {
        let mut overrides: Vec<TensorOverride> = Vec::new();
        for rules in &self.override_tensor {
            overrides.extend(parse_overrides(rules).map_err(Failure::new)?);
        }
        if self.cpu_moe {
            overrides.push(experts_on_cpu());
        }
        overrides.extend(first_experts_on_cpu(self.n_cpu_moe));
        Ok(PlacementOptions {
            gpu_layers: 0,
            split_mode: self.split_mode,
            tensor_split: self.tensor_split.clone(),
            main_gpu: self.main_gpu,
            overrides,
            kv_on_host: self.no_kv_offload,
        })
    }

    /// Puts these settings into an engine's.
    pub(super) fn apply(&self, options: &mut RuntimeOptions) -> Result<(), Failure> {
        options.devices = self.devices()?;
        options.placement = self.placement()?;
        options.op_offload = !self.no_op_offload;
        Ok(())
    }
}

/// Layers, context, batches and threads: one value each.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Runtime")]
pub(super) struct RuntimeArgs {
    /// [-ngl] Layers on devices, the output counted as the last: a number, auto (as many as fit) or
    /// all
    #[arg(long, value_name = "N", default_value = "auto", value_parser = gpu_layers)]
    #[arg(allow_negative_numbers = true)]
    n_gpu_layers: GpuLayers,

    /// Context of all sequences together; 0 takes the model's [default: 4096 for each sequence, or
    /// the model's if that is less]
    #[arg(short = 'c', long, value_name = "TOKENS")]
    ctx_size: Option<usize>,

    /// Tokens that are taken at once
    #[arg(short = 'b', long, value_name = "TOKENS", default_value_t = 2048)]
    batch_size: usize,

    /// [-ub] Tokens that are computed at once
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    ubatch_size: usize,

    /// [-np] Sequences that run at the same time
    #[arg(long, value_name = "N", default_value_t = 1)]
    parallel: usize,

    /// Threads; chosen by the machine if not given
    #[arg(short = 't', long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,

    /// [-tb] Threads for prompts; as -t if not given
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads_batch: usize,

    /// [-ctk] Type of the keys in the KV cache: f32, f16, q8_0, q4_0
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = cache_type)]
    cache_type_k: DType,

    /// [-ctv] Type of the values in the KV cache: f32, f16, q8_0, q4_0
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = cache_type)]
    cache_type_v: DType,

    #[command(flatten)]
    placement: PlacementArgs,
}

/// `-ngl`.
pub(super) fn gpu_layers(text: &str) -> Result<GpuLayers, String> {
    match text {
        "auto" | "-1" => Ok(GpuLayers::Auto),
        "all" | "max" | "-2" => Ok(GpuLayers::Count(usize::MAX)),
        _ => text.parse().map(GpuLayers::Count).map_err(|_| "it is a number, auto or all".into()),
    }
}

/// `-ctk` and `-ctv`.
pub(super) fn cache_type(text: &str) -> Result<DType, String> {
    let known = [DType::F32, DType::F16, DType::Q8_0, DType::Q4_0];
    DType::from_name(text)
        .filter(|dtype| known.contains(dtype))
        .ok_or_else(|| "it is f32, f16, q8_0 or q4_0".to_string())
}

impl RuntimeArgs {
    /// `-np`.
    pub(super) fn parallel(&self) -> usize {
        self.parallel
    }

    /// `-c` as typed.
    pub(super) fn ctx_size(&self) -> Option<usize> {
        self.ctx_size
    }

    /// The engine's settings with a context of `n_ctx` tokens, unless `-c` was typed.
    pub(super) fn options_with_context(&self, n_ctx: usize) -> Result<RuntimeOptions, Failure> {
        let mut options = self.options(n_ctx)?;
        options.n_ctx = self.ctx_size.unwrap_or(n_ctx);
        Ok(options)
    }

    /// The engine's settings for a model that was trained with `n_ctx_train` tokens.
    pub(super) fn options(&self, n_ctx_train: usize) -> Result<RuntimeOptions, Failure> {
        let by_default = n_ctx_train.min(N_CTX_DEFAULT).saturating_mul(self.parallel);
        let mut options = RuntimeOptions {
            n_ctx: self.ctx_size.unwrap_or(by_default),
            n_batch: self.batch_size,
            n_ubatch: self.ubatch_size,
            n_seq_max: self.parallel,
            n_threads: self.threads,
            n_threads_batch: self.threads_batch,
            type_k: self.cache_type_k,
            type_v: self.cache_type_v,
            gpu_layers: self.n_gpu_layers,
            ..RuntimeOptions::default()
        };
        self.placement.apply(&mut options)?;
        Ok(options)
    }
}

/// How tokens are chosen.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(super) struct SamplingArgs {
    /// Seed of the draws; -1 takes a new one each time
    #[arg(short = 's', long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    seed: i64,

    /// Temperature; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.8, alias = "temperature")]
    temp: f32,

    /// Keep the K likeliest tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 40)]
    top_k: usize,

    /// Keep the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,

    /// Keep tokens at least this share as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    min_p: f32,

    /// Divide the logits of recent tokens by this
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repeat_penalty: f32,

    /// How many tokens count as recent; 0 turns the penalties off, -1 takes the context
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true)]
    repeat_last_n: i64,

    /// Subtract this from the logit of a recent token, for each time it came
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,

    /// Subtract this from the logit of a recent token, once
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
}

impl SamplingArgs {
    /// The sampler's settings; `n_ctx` is what `--repeat-last-n -1` stands for.
    pub(super) fn options(&self, n_ctx: usize) -> Result<SamplerOptions, Failure> {
        let in_0_1 = [("--top-p", self.top_p), ("--min-p", self.min_p)];
        if let Some((flag, value)) = in_0_1.iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return Err(Failure::new(format!("{flag} {value}: a share lies between 0 and 1")));
        }
        if !(self.repeat_penalty > 0.0 && self.repeat_penalty.is_finite()) {
            let problem = format!("--repeat-penalty {}: must be above 0", self.repeat_penalty);
            return Err(Failure::new(problem));
        }
        if !self.temp.is_finite() {
            return Err(Failure::new(format!("--temp {}: must be a number", self.temp)));
        }
        let repeat_last_n = usize::try_from(self.repeat_last_n).unwrap_or(n_ctx);
        Ok(SamplerOptions {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            repeat_last_n,
            seed: u64::try_from(self.seed).unwrap_or_else(|_| fresh_seed()),
        })
    }
}

/// A seed that differs from run to run.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Probe {
        #[command(flatten)]
        runtime: RuntimeArgs,
        #[command(flatten)]
        sampling: SamplingArgs,
    }

    fn parse(line: &str) -> Result<Probe, String> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        Probe::try_parse_from(words).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_of_the_parser_are_those_of_the_engine() {
        let probe = parse("").unwrap();
        let a = probe.runtime.options(2048).unwrap();
        let devices = vec![DeviceSpec::Auto];
        let engine = RuntimeOptions { n_ctx: 2048, devices, ..RuntimeOptions::default() };
        assert_eq!(format!("{a:?}"), format!("{engine:?}"));
        assert_eq!(probe.sampling.options(1).unwrap(), SamplerOptions::default());
    }

    #[test]
    fn values_reach_the_engine() {
        let line = "--n-gpu-layers 12 -c 512 -b 64 --ubatch-size 32 --parallel 2 -t 3 \
            --threads-batch 4 --cache-type-k q8_0 --cache-type-v q4_0 --device virtual:1GiB \
            --split-mode none --main-gpu 0 --tensor-split 1 --no-kv-offload --no-op-offload \
            --cpu-moe --n-cpu-moe 2 --override-tensor a=CPU,b=CPU --override-tensor c=CPU";
        let o = parse(line).unwrap().runtime.options(4096).unwrap();
        assert_eq!(o.gpu_layers, GpuLayers::Count(12));
        assert_eq!((o.n_ctx, o.n_batch, o.n_ubatch, o.n_seq_max), (512, 64, 32, 2));
        assert_eq!((o.n_threads, o.n_threads_batch), (3, 4));
        assert_eq!((o.type_k, o.type_v), (DType::Q8_0, DType::Q4_0));
        assert_eq!((o.devices.len(), o.op_offload), (1, false));
        let p = o.placement;
        assert_eq!((p.split_mode, p.main_gpu, p.kv_on_host), (SplitMode::None, 0, true));
        assert_eq!(p.tensor_split, [1.0]);
        let origins: Vec<&str> = p.overrides.iter().map(|r| r.origin.as_str()).collect();
        assert_eq!(
            origins,
            ["-ot a=CPU", "-ot b=CPU", "-ot c=CPU", "-cmoe", "-ncmoe 2", "-ncmoe 2"]
        );
    }

    #[test]
    fn layers_are_a_number_or_a_word() {
        for (text, layers) in [
            ("auto", GpuLayers::Auto),
            ("-1", GpuLayers::Auto),
            ("all", GpuLayers::Count(usize::MAX)),
            ("max", GpuLayers::Count(usize::MAX)),
            ("0", GpuLayers::Count(0)),
        ] {
            assert_eq!(gpu_layers(text), Ok(layers));
        }
        assert!(gpu_layers("many").is_err());
    }

    #[test]
    fn what_is_not_there_is_refused_with_a_reason() {
        for (line, part) in [
            ("--flash-attn off", "cannot be turned off"),
            ("--split-mode tensor", "is not built"),
            ("--cache-type-k q6_k", "f32, f16, q8_0 or q4_0"),
            ("--n-gpu-layers x", "a number, auto or all"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let bad = parse("--device Vulkan9").unwrap().runtime.options(8).unwrap_err();
        assert!(matches!(bad, Failure::Error { hint: Some(_), .. }), "{bad:?}");
        assert!(parse("--top-p 1.5").unwrap().sampling.options(1).is_err());
        assert!(parse("--repeat-penalty 0").unwrap().sampling.options(1).is_err());
    }

    #[test]
    fn minus_one_recent_tokens_are_the_context() {
        let probe = parse("--repeat-last-n -1 --seed 7").unwrap();
        let options = probe.sampling.options(99).unwrap();
        assert_eq!((options.repeat_last_n, options.seed), (99, 7));
    }
}
