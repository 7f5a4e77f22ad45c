//! The whole engine against an independent implementation: logits of tiny models from
//! `transformers`, kept in fixtures/parity with the script that made them. Every architecture runs
//! on the CPU alone and cut over virtual devices; every way must give the same numbers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use gpuwhy::engine::backend::DeviceSpec;
use gpuwhy::engine::runtime::{BatchToken, GpuLayers, RuntimeOptions, SeqId};
use gpuwhy::engine::sched::placement::{PlacementOptions, parse_overrides};
use gpuwhy::engine::tensor::DType;

use support::parity::{cases, engine, error, run};

/// Largest relative error of a position's logits against the reference, with F32 weights and an F32
/// cache. The kernels reach about 1e-5; the rest is room for another order of sums.
const TOLERANCE: f32 = 1e-4;

/// The same with the KV cache in F16, as by default.
const TOLERANCE_F16_CACHE: f32 = 2e-2;

fn devices(list: &str) -> impl FnOnce(&mut RuntimeOptions) + '_ {
    move |o| {
        o.devices = DeviceSpec::parse_list(list).unwrap();
        o.gpu_layers = GpuLayers::Count(999);
    }
}

#[test]
fn prompt_and_decode_match_the_reference() {
    for case in cases() {
        let logits = run(&mut engine(&case, |_| {}), &case, case.n_prompt);
        let e = error(&logits, &case.logits, case.n_vocab);
        println!("{}: {e:.1e}", case.name);
        assert!(e < TOLERANCE, "{}: {e}", case.name);
    }
}

#[test]
fn token_by_token_gives_the_same_as_a_prompt() {
    for case in cases() {
        let logits = run(&mut engine(&case, |_| {}), &case, 0);
        let e = error(&logits, &case.logits, case.n_vocab);
        assert!(e < TOLERANCE, "{}: {e}", case.name);
    }
}

#[test]
fn small_ubatches_give_the_same() {
    for case in cases() {
        let mut engine = engine(&case, |o| (o.n_batch, o.n_ubatch) = (48, 7));
        let mut logits = Vec::new();
        for start in (0..case.tokens.len()).step_by(48) {
            let part = start..(start + 48).min(case.tokens.len());
            let seq = SeqId(0);
            let batch: Vec<BatchToken> = part
                .map(|i| BatchToken { token: case.tokens[i], pos: i as i32, seq, logits: true })
                .collect();
            logits.extend(engine.decode(&batch).unwrap());
        }
        let e = error(&logits, &case.logits, case.n_vocab);
        assert!(e < TOLERANCE, "{}: {e}", case.name);
    }
}

#[test]
fn cut_over_devices_it_gives_the_same() {
    for case in cases() {
        let lacking = "virtual:1GiB/lacks=FLASH_ATTN_EXT+ROPE";
        for (list, splits) in
            [("virtual:1GiB", Some(2)), ("virtual:1GiB,virtual:1GiB", Some(3)), (lacking, None)]
        {
            let mut engine = engine(&case, devices(list));
            if let Some(expected) = splits {
                assert_eq!(engine.setup().summary.splits_decode, expected, "{}", case.name);
            }
            let e = error(&run(&mut engine, &case, case.n_prompt), &case.logits, case.n_vocab);
            assert!(e < TOLERANCE, "{} on {list}: {e}", case.name);
        }
    }
}

#[test]
fn partial_offload_and_a_cache_on_the_host_give_the_same() {
    for case in cases() {
        let mut partial = engine(&case, |o| {
            o.devices = DeviceSpec::parse_list("virtual:1GiB").unwrap();
            o.gpu_layers = GpuLayers::Count(2);
        });
        let e = error(&run(&mut partial, &case, case.n_prompt), &case.logits, case.n_vocab);
        assert!(e < TOLERANCE, "{} partly offloaded: {e}", case.name);
        let mut on_host = engine(&case, |o| {
            devices("virtual:1GiB")(o);
            o.placement = PlacementOptions {
                kv_on_host: true,
                overrides: parse_overrides("ffn_(up|down).*=CPU").unwrap(),
                ..PlacementOptions::default()
            };
        });
        let e = error(&run(&mut on_host, &case, case.n_prompt), &case.logits, case.n_vocab);
        assert!(e < TOLERANCE, "{} with -nkvo and -ot: {e}", case.name);
    }
}

#[test]
fn the_default_cache_type_stays_close() {
    for case in cases() {
        let mut engine = engine(&case, |o| (o.type_k, o.type_v) = (DType::F16, DType::F16));
        let e = error(&run(&mut engine, &case, case.n_prompt), &case.logits, case.n_vocab);
        assert!(e < TOLERANCE_F16_CACHE, "{}: {e}", case.name);
    }
}

#[test]
fn sequences_in_one_batch_do_not_see_each_other() {
    for case in cases() {
        let mut engine = engine(&case, |o| (o.n_ctx, o.n_seq_max) = (2 * case.n_ctx, 2));
        // The second sequence runs the same tokens 20 steps behind the first.
        let lag = 20;
        let mut logits = [Vec::new(), Vec::new()];
        for step in 0..case.tokens.len() + lag {
            let at = [Some(step), step.checked_sub(lag)];
            let running = at
                .iter()
                .enumerate()
                .filter_map(|(s, i)| i.filter(|&i| i < case.tokens.len()).map(|i| (s, i)));
            let running: Vec<(usize, usize)> = running.collect();
            let batch: Vec<BatchToken> = running
                .iter()
                .map(|&(s, i)| BatchToken {
                    token: case.tokens[i],
                    pos: i as i32,
                    seq: SeqId(s as u8),
                    logits: true,
                })
                .collect();
            let rows = engine.decode(&batch).unwrap();
            for (&(s, _), row) in running.iter().zip(rows.chunks_exact(case.n_vocab)) {
                logits[s].extend_from_slice(row);
            }
        }
        for sequence in &logits {
            let e = error(sequence, &case.logits, case.n_vocab);
            assert!(e < TOLERANCE, "{}: {e}", case.name);
        }
    }
}

#[test]
fn a_wrong_token_shows() {
    let mut case = cases().remove(0);
    let reference = case.logits.clone();
    case.tokens[3] = (case.tokens[3] + 1) % case.n_vocab as u32;
    let logits = run(&mut engine(&case, |_| {}), &case, case.n_prompt);
    assert!(error(&logits, &reference, case.n_vocab) > 10.0 * TOLERANCE);
}
