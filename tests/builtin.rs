//! The model built into the program: it learned what its README says, and our engine agrees with
//! the reference about it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gpuwhy::base::sink::{NullSink, Sink};
use gpuwhy::engine::gguf::Gguf;
use gpuwhy::engine::runtime::{BatchToken, Engine, RuntimeOptions, SeqId};

/// How far our perplexity may be from the reference's, which computes in F32: activations are
/// rounded to 8 bits here.
const TOLERANCE: f64 = 0.005;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/builtin")
}

#[test]
fn held_out_perplexity_is_the_reference() {
    let recorded: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder().join("heldout.json")).unwrap()).unwrap();
    let text = std::fs::read_to_string(folder().join("heldout.txt")).unwrap();
    let gguf = Arc::new(Gguf::open(&folder().join("builtin.gguf")).unwrap());
    let options = RuntimeOptions { n_ctx: 512, n_threads: 2, ..RuntimeOptions::default() };
    let sink = Arc::new(NullSink) as Arc<dyn Sink>;
    let mut engine = Engine::load(gguf, options, &sink, &mut |_| {}).unwrap();
    let tokenizer = Arc::clone(engine.tokenizer());
    let (mut sum, mut count, mut documents) = (0.0, 0u64, 0);
    for document in text.split("\n---\n") {
        let mut tokens = tokenizer.encode(document, true, false);
        tokens.truncate(512);
        sum += negative_log_likelihood(&mut engine, &tokens);
        count += tokens.len() as u64 - 1;
        documents += 1;
    }
    assert_eq!(Some(documents), recorded["documents"].as_i64());
    assert_eq!(Some(count), recorded["tokens"].as_u64());
    let perplexity = (sum / count as f64).exp();
    let expected = recorded["perplexity_q8_0"].as_f64().unwrap();
    println!("perplexity {perplexity:.4}, reference {expected}");
    assert!((perplexity / expected - 1.0).abs() < TOLERANCE, "{perplexity}, not {expected}");
    // It learned: counting pairs of tokens does far worse.
    assert!(perplexity < recorded["perplexity_bigram"].as_f64().unwrap() / 2.0);
}

/// Sum of `-ln p` over all tokens but the first, in nats.
fn negative_log_likelihood(engine: &mut Engine, tokens: &[u32]) -> f64 {
    let batch: Vec<BatchToken> = tokens
        .iter()
        .enumerate()
        .map(|(i, &token)| BatchToken { token, pos: i as i32, seq: SeqId(0), logits: true })
        .collect();
    let logits = engine.decode(&batch).unwrap();
    engine.truncate(SeqId(0), 0);
    let rows = logits.chunks_exact(engine.model().hparams().n_vocab);
    rows.zip(&tokens[1..])
        .map(|(row, &next)| {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = row.iter().map(|&l| f64::from(l - top).exp()).sum();
            total.ln() - f64::from(row[next as usize] - top)
        })
        .sum()
}
