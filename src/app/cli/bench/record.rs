//! One measured test, with llama-bench's field names (`tools/llama-bench/llama-bench.cpp`), so that
//! scripts made for it read ours. JSON Schema: `docs/schemas/bench-1.json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::stats;

/// The `schema` of a record.
pub(super) const BENCH_SCHEMA: &str = "gpuwhy.bench/1";

/// See the module. Each element of the JSON array, and each line of JSON lines, is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct Record {
    /// Always `gpuwhy.bench/1`.
    pub(super) schema: String,
    /// This program's version.
    pub(super) build_commit: String,
    /// Always 0: this program counts versions, not builds.
    pub(super) build_number: u64,
    /// The processor.
    pub(super) cpu_info: String,
    /// The other devices, virtual ones labelled.
    pub(super) gpu_info: String,
    /// Kinds of devices that take part.
    pub(super) backends: String,
    /// The model's file.
    pub(super) model_filename: String,
    /// Architecture, size and mix of types.
    pub(super) model_type: String,
    /// Bytes of the weights.
    pub(super) model_size: u64,
    /// Weights as numbers.
    pub(super) model_n_params: u64,
    /// `-b`.
    pub(super) n_batch: usize,
    /// `-ub`.
    pub(super) n_ubatch: usize,
    /// `-t`.
    pub(super) n_threads: usize,
    /// `-ctk`.
    pub(super) type_k: String,
    /// `-ctv`.
    pub(super) type_v: String,
    /// Layers that were offloaded, the output counted as one.
    pub(super) n_gpu_layers: usize,
    /// `-ncmoe`.
    pub(super) n_cpu_moe: usize,
    /// `-sm`.
    pub(super) split_mode: String,
    /// `-mg`.
    pub(super) main_gpu: usize,
    /// `-nkvo`.
    pub(super) no_kv_offload: bool,
    /// Always true: attention never makes a score matrix here.
    pub(super) flash_attn: bool,
    /// `-dev`, by name.
    pub(super) devices: String,
    /// `-ts`.
    pub(super) tensor_split: String,
    /// `-ot`.
    pub(super) tensor_buft_overrides: String,
    /// Always true: weights of the CPU are used from the mapped file.
    pub(super) use_mmap: bool,
    /// `-nopo`.
    pub(super) no_op_offload: bool,
    /// Tokens of the prompt.
    pub(super) n_prompt: usize,
    /// Tokens generated.
    pub(super) n_gen: usize,
    /// Tokens in the context before.
    pub(super) n_depth: usize,
    /// When the test began, in UTC.
    pub(super) test_time: String,
    /// Mean time of a repetition.
    pub(super) avg_ns: u64,
    /// Standard deviation of the times.
    pub(super) stddev_ns: u64,
    /// Mean of the tokens per second.
    pub(super) avg_ts: f64,
    /// Standard deviation of the tokens per second.
    pub(super) stddev_ts: f64,
    /// Time of each repetition.
    pub(super) samples_ns: Vec<u64>,
    /// Tokens per second of each repetition.
    pub(super) samples_ts: Vec<f64>,
    /// Splits of a full prompt ubatch.
    pub(super) splits_prompt: usize,
    /// Splits of a decode step.
    pub(super) splits_decode: usize,
    /// With `--limits`: what the machine can do, and which share of it this test used.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<LimitRecord>,
}

/// What the machine can do at most, measured before and after the tests with as many threads, and
/// what this test made of it. A limit is the best pass of the better one of the two measurements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct LimitRecord {
    /// The instruction set of the kernels, and of the measured loops.
    pub(super) isa: String,
    /// Memory that all threads together read, in GB/s.
    pub(super) limit_read_gb_s: f64,
    /// The same of the median pass.
    pub(super) limit_read_median_gb_s: f64,
    /// The limit before and after the tests.
    pub(super) limit_read_ends_gb_s: Vec<f64>,
    /// Bytes that each pass read.
    pub(super) limit_read_buffer_bytes: u64,
    /// Bytes of the largest cache; 0 where the system does not tell.
    pub(super) limit_read_cache_bytes: u64,
    /// Streams that each thread read side by side.
    pub(super) limit_read_streams: usize,
    /// The instructions of the integer loop.
    pub(super) limit_int8_instruction: String,
    /// Operations on 8-bit integers with sums of 32 bits, in GOP/s; a multiply-add is two.
    pub(super) limit_int8_gop_s: f64,
    /// The same of the median pass.
    pub(super) limit_int8_median_gop_s: f64,
    /// The limit before and after the tests.
    pub(super) limit_int8_ends_gop_s: Vec<f64>,
    /// The same with sums of 16 bits, where that is another way; else 0.
    pub(super) limit_int8_short_gop_s: f64,
    /// The instructions of the F32 loop.
    pub(super) limit_f32_instruction: String,
    /// F32 operations, in GFLOP/s; a multiply-add is two.
    pub(super) limit_f32_gflop_s: f64,
    /// The same of the median pass.
    pub(super) limit_f32_median_gflop_s: f64,
    /// The limit before and after the tests.
    pub(super) limit_f32_ends_gflop_s: Vec<f64>,
    /// The largest difference between the limits before and after, as a share of the larger one.
    pub(super) limit_drift: f64,
    /// Bytes of weights that the test must read, by token.
    pub(super) weight_bytes_per_token: u64,
    /// Bytes of the KV cache that the test must read, by token.
    pub(super) kv_bytes_per_token: u64,
    /// Operations of the products with quantised weights, by token.
    pub(super) int8_ops_per_token: u64,
    /// Operations of the products with weights of 16 or 32 bits, by token.
    pub(super) f32_ops_per_token: u64,
    /// Time that reading the bytes takes at the limit, over the test's mean time.
    pub(super) read_share: f64,
    /// Time that the operations take at the limits, over the test's mean time.
    pub(super) compute_share: f64,
}

impl Record {
    /// Takes the measured times.
    pub(super) fn set_samples(&mut self, samples_ns: Vec<u64>) {
        let tokens = (self.n_prompt + self.n_gen) as f64;
        let ns: Vec<f64> = samples_ns.iter().map(|&ns| ns as f64).collect();
        self.samples_ts = ns.iter().map(|&ns| tokens * 1e9 / ns.max(1.0)).collect();
        self.avg_ns = stats::mean(&ns) as u64;
        self.stddev_ns = stats::std_dev(&ns) as u64;
        self.avg_ts = stats::mean(&self.samples_ts);
        self.stddev_ts = stats::std_dev(&self.samples_ts);
        self.samples_ns = samples_ns;
    }

    /// Names and values of all fields but the samples, as CSV has them.
    pub(super) fn fields(&self) -> Vec<(String, String)> {
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else { return Vec::new() };
        fields
            .into_iter()
            .filter(|(_, value)| !value.is_array())
            .map(|(name, value)| match value {
                Value::String(text) => (name, text),
                Value::Bool(b) => (name, u8::from(b).to_string()),
                other => (name, other.to_string()),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_follow_from_the_samples() {
        let mut record = Record { n_prompt: 100, ..Record::default() };
        record.set_samples(vec![1_000_000_000, 2_000_000_000]);
        assert_eq!((record.avg_ns, record.stddev_ns), (1_500_000_000, 707_106_781));
        assert_eq!(record.samples_ts, [100.0, 50.0]);
        assert_eq!(record.avg_ts, 75.0);
        assert!((record.stddev_ts - 35.355_339).abs() < 1e-5);
    }

    #[test]
    fn fields_leave_the_samples_out() {
        let record = Record { samples_ns: vec![1], no_kv_offload: true, ..Record::default() };
        let fields = record.fields();
        assert!(fields.iter().all(|(name, _)| !name.starts_with("samples")));
        assert!(fields.contains(&("no_kv_offload".to_string(), "1".to_string())));
        assert!(fields.contains(&("avg_ts".to_string(), "0.0".to_string())));
    }
}
