//! The reference logits of fixtures/parity, and running an engine against them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gpuwhy::base::sink::{NullSink, Sink};
use gpuwhy::engine::gguf::Gguf;
use gpuwhy::engine::runtime::{BatchToken, Engine, RuntimeOptions, SeqId, TopLogits};
use gpuwhy::engine::tensor::DType;

/// A tiny model with the logits that `transformers` computed.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) gguf: PathBuf,
    pub(crate) tokens: Vec<u32>,
    pub(crate) n_prompt: usize,
    pub(crate) n_ctx: usize,
    pub(crate) n_vocab: usize,
    pub(crate) logits: Vec<f32>,
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let number = |key: &str| json[key].as_u64().unwrap() as usize;
        let tokens = json["tokens"].as_array().unwrap();
        let logits = std::fs::read(folder.join(json["logits"]["file"].as_str().unwrap())).unwrap();
        found.push(Case {
            name: json["case"].as_str().unwrap().to_string(),
            gguf: path.with_extension("gguf"),
            tokens: tokens.iter().map(|t| t.as_u64().unwrap() as u32).collect(),
            n_prompt: number("n_prompt"),
            n_ctx: number("n_ctx"),
            n_vocab: number("n_vocab"),
            logits: logits
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        });
    }
    assert_eq!(found.len(), 11, "a reference is missing or new");
    found
}

/// An engine with an F32 cache on the CPU, but for what `change` says.
pub(crate) fn engine(case: &Case, change: impl FnOnce(&mut RuntimeOptions)) -> Engine {
    engine_with(case, &(Arc::new(NullSink) as Arc<dyn Sink>), change)
}

/// As [`engine`], telling `sink` what happens.
pub(crate) fn engine_with(
    case: &Case,
    sink: &Arc<dyn Sink>,
    change: impl FnOnce(&mut RuntimeOptions),
) -> Engine {
    let mut options = RuntimeOptions {
        n_ctx: case.n_ctx,
        n_threads: 2,
        type_k: DType::F32,
        type_v: DType::F32,
        ..RuntimeOptions::default()
    };
    change(&mut options);
    let gguf = Arc::new(Gguf::open(&case.gguf).unwrap());
    Engine::load(gguf, options, sink, &mut |_| {}).unwrap()
}

/// Logits of all positions: the first `n_prompt` as one batch, the rest one by one.
pub(crate) fn run(engine: &mut Engine, case: &Case, n_prompt: usize) -> Vec<f32> {
    let token =
        |i: usize| BatchToken { token: case.tokens[i], pos: i as i32, seq: SeqId(0), logits: true };
    let prompt: Vec<BatchToken> = (0..n_prompt).map(token).collect();
    let mut logits = if prompt.is_empty() { Vec::new() } else { engine.decode(&prompt).unwrap() };
    for i in n_prompt..case.tokens.len() {
        logits.extend(engine.decode(&[token(i)]).unwrap());
    }
    logits
}

/// The `k` largest logits of all positions, computed where the logits are, as [`run`] computes them.
pub(crate) fn run_top(engine: &mut Engine, case: &Case, n_prompt: usize, k: usize) -> TopLogits {
    let token =
        |i: usize| BatchToken { token: case.tokens[i], pos: i as i32, seq: SeqId(0), logits: true };
    let prompt: Vec<BatchToken> = (0..n_prompt).map(token).collect();
    let mut all = engine.decode_top(&prompt, k).unwrap();
    for i in n_prompt..case.tokens.len() {
        let one = engine.decode_top(&[token(i)], k).unwrap();
        all.tokens.extend(one.tokens);
        all.logits.extend(one.logits);
    }
    all
}

/// Checks that the largest logits of each row are those that were found.
pub(crate) fn check_top(top: &TopLogits, logits: &[f32], n_vocab: usize) {
    for (i, row) in logits.chunks_exact(n_vocab).enumerate() {
        let mut order: Vec<usize> = (0..n_vocab).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        order.truncate(top.k);
        let (tokens, values) = top.row(i);
        assert_eq!(tokens, order.iter().map(|&t| t as i32).collect::<Vec<_>>());
        if top.k > 1 {
            assert_eq!(values, order.iter().map(|&t| row[t]).collect::<Vec<_>>());
        }
    }
}

/// The largest `max |a - b| / max |b|` over positions.
pub(crate) fn error(ours: &[f32], reference: &[f32], n_vocab: usize) -> f32 {
    assert_eq!(ours.len(), reference.len());
    let largest = |row: &mut dyn Iterator<Item = f32>| row.fold(0.0f32, |m, v| m.max(v.abs()));
    ours.chunks_exact(n_vocab)
        .zip(reference.chunks_exact(n_vocab))
        .map(|(a, b)| {
            assert!(a.iter().all(|v| v.is_finite()));
            let difference = largest(&mut a.iter().zip(b).map(|(x, y)| x - y));
            difference / largest(&mut b.iter().copied())
        })
        .fold(0.0, f32::max)
}
