//! `--limits`: what the machine can do, measured around the tests, and which share of it each used.
//!
//! A test's share is the time that its bytes or operations would take at the limit, over the time
//! that it took. The bytes and operations are the least that the test needs (`engine::model::work`),
//! so a share is what a person can still gain at most, not what the caches and units really did.

use crate::app::cli::failure::Failure;
use crate::base::units::Bytes;
use crate::engine::backend::cpu::limits::{MachineLimits, Rate};
use crate::engine::backend::cpu::{Isa, ThreadPool};
use crate::engine::model::Blueprint;
use crate::engine::model::work::{UbatchShape, Work};

use super::matrix::{Setup, Test};
use super::record::{LimitRecord, Record};

/// Above this share the two measurements differ enough to be worth a line.
const DRIFT_MAX: f64 = 0.1;

/// The limits with one number of threads, before and after the tests.
pub(super) struct Measured {
    n_threads: usize,
    before: MachineLimits,
    after: Option<MachineLimits>,
}

/// The limits of every number of threads that was used.
#[derive(Default)]
pub(super) struct Limits {
    measured: Vec<Measured>,
}

impl Limits {
    /// Measures for a number of threads that was not met before.
    pub(super) fn before(&mut self, n_threads: usize) -> Result<(), Failure> {
        if self.measured.iter().all(|m| m.n_threads != n_threads) {
            let before = measure(n_threads)?;
            self.measured.push(Measured { n_threads, before, after: None });
        }
        Ok(())
    }

    /// Measures everything once more.
    pub(super) fn after(&mut self) -> Result<(), Failure> {
        for one in &mut self.measured {
            one.after = Some(measure(one.n_threads)?);
        }
        Ok(())
    }

    /// Adds limits and shares to a record.
    pub(super) fn judge(&self, record: &mut Record, work: Work) {
        let Some(measured) = self.measured.iter().find(|m| m.n_threads == record.n_threads) else {
            return;
        };
        let mut limits = measured.record();
        set_shares(&mut limits, work, record.n_prompt + record.n_gen, record.avg_ns);
        record.limits = Some(limits);
    }

    /// The limits as lines for people.
    pub(super) fn lines(&self) -> String {
        self.measured.iter().map(Measured::lines).collect()
    }
}

fn measure(n_threads: usize) -> Result<MachineLimits, Failure> {
    let limits = MachineLimits::measure(&ThreadPool::new(n_threads), Isa::detect());
    limits.map_err(|e| Failure::new(format!("--limits: {e}")))
}

impl Measured {
    fn larger(&self) -> MachineLimits {
        self.after.map_or(self.before, |after| self.before.larger(after))
    }

    fn drift(&self) -> f64 {
        self.after.map_or(0.0, |after| self.before.drift(&after))
    }

    fn record(&self) -> LimitRecord {
        let all = self.larger();
        let ends = |of: fn(&MachineLimits) -> Rate| {
            let ends = [Some(self.before), self.after];
            ends.iter().flatten().map(|l| of(l).best / 1e9).collect()
        };
        LimitRecord {
            isa: all.isa.to_string(),
            limit_read_gb_s: all.read.best / 1e9,
            limit_read_median_gb_s: all.read.median / 1e9,
            limit_read_ends_gb_s: ends(|l| l.read),
            limit_read_buffer_bytes: all.buffer_bytes,
            limit_read_cache_bytes: all.cache_bytes.unwrap_or(0),
            limit_read_streams: all.streams,
            limit_int8_instruction: all.int8.instruction.to_string(),
            limit_int8_gop_s: all.int8.rate.best / 1e9,
            limit_int8_median_gop_s: all.int8.rate.median / 1e9,
            limit_int8_ends_gop_s: ends(|l| l.int8.rate),
            limit_int8_short_gop_s: all.int8_short.map_or(0.0, |s| s.rate.best / 1e9),
            limit_f32_instruction: all.f32.instruction.to_string(),
            limit_f32_gflop_s: all.f32.rate.best / 1e9,
            limit_f32_median_gflop_s: all.f32.rate.median / 1e9,
            limit_f32_ends_gflop_s: ends(|l| l.f32.rate),
            limit_drift: self.drift(),
            ..LimitRecord::default()
        }
    }

    fn lines(&self) -> String {
        let all = self.larger();
        let rate = |rate: Rate, unit: &str| {
            format!("{:.2} {unit} (median {:.2})", rate.best / 1e9, rate.median / 1e9)
        };
        let of = match all.cache_bytes {
            Some(cache) => format!("{} with {} of cache", Bytes(all.buffer_bytes), Bytes(cache)),
            None => Bytes(all.buffer_bytes).to_string(),
        };
        let mut lines = vec![
            format!("limits: {} threads, {}", self.n_threads, all.isa),
            format!(
                "- memory read: {}, {of}, {} streams for each thread",
                rate(all.read, "GB/s"),
                all.streams
            ),
            format!("- int8: {}, {}", rate(all.int8.rate, "GOP/s"), all.int8.instruction),
        ];
        if let Some(short) = all.int8_short {
            let (rate, instruction) = (rate(short.rate, "GOP/s"), short.instruction);
            lines.push(format!("- int8, sums of 16 bits: {rate}, {instruction}"));
        }
        lines.push(format!("- f32: {}, {}", rate(all.f32.rate, "GFLOP/s"), all.f32.instruction));
        if let Some(after) = self.after.filter(|_| self.drift() > DRIFT_MAX) {
            let ends = |of: fn(&MachineLimits) -> f64| {
                format!("{:.2} and {:.2}", of(&self.before) / 1e9, of(&after) / 1e9)
            };
            lines.push(format!(
                "- before and after the tests: memory {} GB/s, int8 {} GOP/s, f32 {} GFLOP/s; the \
                 larger counts, and the machine was not quiet",
                ends(|l| l.read.best),
                ends(|l| l.int8.rate.best),
                ends(|l| l.f32.rate.best)
            ));
        }
        lines.join("\n") + "\n"
    }
}

/// Fills in what the work of a repetition that took `ns` means against the limits.
fn set_shares(limits: &mut LimitRecord, work: Work, tokens: usize, ns: u64) {
    let (seconds, tokens) = (ns as f64 / 1e9, tokens.max(1) as u64);
    limits.weight_bytes_per_token = work.weight_bytes / tokens;
    limits.kv_bytes_per_token = work.kv_bytes / tokens;
    limits.int8_ops_per_token = work.int8_ops / tokens;
    limits.f32_ops_per_token = work.f32_ops / tokens;
    let share = |needed_seconds: f64| if seconds > 0.0 { needed_seconds / seconds } else { 0.0 };
    let at = |amount: u64, giga: f64| if giga > 0.0 { amount as f64 / (giga * 1e9) } else { 0.0 };
    limits.read_share = share(at(work.weight_bytes + work.kv_bytes, limits.limit_read_gb_s));
    limits.compute_share = share(
        at(work.int8_ops, limits.limit_int8_gop_s) + at(work.f32_ops, limits.limit_f32_gflop_s),
    );
}

/// The least that one repetition of a test needs, cut into ubatches as the test runs them.
pub(super) fn test_work(model: &Blueprint, setup: Setup, test: Test) -> Result<Work, Failure> {
    let Setup { type_k, type_v, n_batch, n_ubatch, .. } = setup;
    let mut sum = Work::default();
    let mut add = |n_past, n_tokens, n_outputs| {
        let work = model.work(&UbatchShape { n_past, n_tokens, n_outputs, type_k, type_v });
        sum += work.map_err(|e| Failure::new(format!("--limits: {e}")))?;
        Ok::<(), Failure>(())
    };
    let prompt_end = test.n_depth + test.n_prompt;
    let mut n_past = test.n_depth;
    while n_past < prompt_end {
        let batch_end = prompt_end.min(n_past + n_batch.max(1));
        while n_past < batch_end {
            let n_tokens = n_ubatch.max(1).min(batch_end - n_past);
            add(n_past, n_tokens, usize::from(n_past + n_tokens == prompt_end))?;
            n_past += n_tokens;
        }
    }
    for n_past in prompt_end..prompt_end + test.n_gen {
        add(n_past, 1, 1)?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::Model;
    use crate::engine::model::store::{self, StoreOptions};
    use crate::engine::runtime::GpuLayers;
    use crate::engine::tensor::DType;

    #[test]
    fn shares_are_time_at_the_limit_over_time_taken() {
        let mut limits = LimitRecord {
            limit_read_gb_s: 20.0,
            limit_int8_gop_s: 1000.0,
            limit_f32_gflop_s: 100.0,
            ..LimitRecord::default()
        };
        let work = Work {
            weight_bytes: 9_000_000_000,
            kv_bytes: 1_000_000_000,
            int8_ops: 500_000_000_000,
            f32_ops: 50_000_000_000,
        };
        set_shares(&mut limits, work, 10, 2_000_000_000);
        // 10 GB at 20 GB/s are 0.5 s of 2 s; 0.5 s of int8 and 0.5 s of f32 are half of them.
        assert_eq!((limits.read_share, limits.compute_share), (0.25, 0.5));
        assert_eq!(limits.weight_bytes_per_token, 900_000_000);
        assert_eq!(limits.kv_bytes_per_token, 100_000_000);
        assert_eq!(limits.int8_ops_per_token, 50_000_000_000);
        set_shares(&mut limits, work, 0, 0);
        assert_eq!((limits.read_share, limits.compute_share), (0.0, 0.0));
    }

    #[test]
    fn a_tests_work_is_that_of_its_ubatches() {
        let reference = store::parse(None).unwrap();
        let gguf = store::open(&reference, &StoreOptions::from_env(), &mut |_| ()).unwrap();
        let model = Model::load(gguf).unwrap();
        let (type_k, type_v) = (DType::F16, DType::F16);
        let setup = Setup {
            gpu_layers: GpuLayers::Auto,
            n_batch: 12,
            n_ubatch: 8,
            n_threads: 0,
            type_k,
            type_v,
        };
        let one = |n_past, n_tokens, n_outputs| {
            model.work(&UbatchShape { n_past, n_tokens, n_outputs, type_k, type_v }).unwrap()
        };
        let sum = |works: &[Work]| {
            let mut all = Work::default();
            for &work in works {
                all += work;
            }
            all
        };
        let test = Test { n_prompt: 20, n_gen: 2, n_depth: 100 };
        let expected =
            sum(&[one(100, 8, 0), one(108, 4, 0), one(112, 8, 1), one(120, 1, 1), one(121, 1, 1)]);
        assert_eq!(test_work(&model, setup, test).unwrap(), expected);
        assert!(expected.int8_ops + expected.f32_ops > 0 && expected.kv_bytes > 0);
    }
}
