//! Graphs against the logits of an independent implementation: see `fixtures/parity/README.md`.

use std::path::PathBuf;

use crate::engine::gguf::Gguf;
use crate::engine::graph::InputKind;
use crate::engine::model::{CacheShape, GraphShape, Model, Wanted};
use crate::engine::tensor::DType;

use super::interpreter::Interpreter;

/// Largest `max |a - b| / max |b|` of a position. The references were computed in F32 and agree
/// with llama.cpp to 6e-6; the smallest fault that the fixtures list is 0.38.
const TOLERANCE: f32 = 5e-5;

struct Case {
    model: Model,
    tokens: Vec<usize>,
    n_prompt: usize,
    n_ctx: usize,
    logits: Vec<f32>,
}

impl Case {
    fn read(name: &str) -> Self {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity");
        let gguf = Gguf::open(&dir.join(format!("{name}.gguf"))).unwrap();
        let text = std::fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let number = |v: &serde_json::Value| v.as_u64().unwrap() as usize;
        let bytes = std::fs::read(dir.join(format!("{name}.logits.f32"))).unwrap();
        Self {
            model: Model::load(gguf.into()).unwrap(),
            tokens: json["tokens"].as_array().unwrap().iter().map(number).collect(),
            n_prompt: number(&json["n_prompt"]),
            n_ctx: number(&json["n_ctx"]),
            logits: bytes.as_chunks::<4>().0.iter().map(|&w| f32::from_le_bytes(w)).collect(),
        }
    }

    /// Runs tokens `from..to` and returns the logits of the last `n_outputs` of them. A token's
    /// cell is its position; windows keep all cells too, and the mask alone narrows the view.
    fn run(&self, machine: &mut Interpreter<'_>, from: usize, to: usize, n_out: usize) -> Vec<f32> {
        let n_tokens = to - from;
        let cells = self.n_ctx;
        let cache = CacheShape {
            n_cells: cells,
            n_cells_window: cells,
            type_k: DType::F32,
            type_v: DType::F32,
        };
        let graph = self
            .model
            .build(&GraphShape {
                n_tokens,
                n_outputs: n_out,
                wanted: Wanted::Logits,
                n_kv: to,
                n_kv_window: to,
                cache,
                rope_ctx: self.n_ctx,
            })
            .unwrap();
        let positions: Vec<f32> = (from..to).map(|p| p as f32).collect();
        let window = self.model.hparams().sliding_window.map_or(usize::MAX, |n| n as usize);
        let mask = |width: usize| {
            let sees = move |q: usize, k: usize| k <= q && q - k < width;
            let row =
                move |q| (0..to).map(move |k| if sees(q, k) { 0.0 } else { f32::NEG_INFINITY });
            (from..to).flat_map(row).collect::<Vec<f32>>()
        };
        machine.set(InputKind::Tokens, self.tokens[from..to].iter().map(|&t| t as f32).collect());
        for kind in [InputKind::Positions, InputKind::CacheRows, InputKind::CacheRowsWindow] {
            machine.set(kind, positions.clone());
        }
        machine.set(InputKind::Mask, mask(usize::MAX));
        machine.set(InputKind::MaskWindow, mask(window));
        let rows = (n_tokens - n_out..n_tokens).map(|r| r as f32).collect();
        machine.set(InputKind::OutputRows, rows);
        machine.run(&graph)
    }

    /// The largest error of a position among logits that begin at position `first`.
    fn error(&self, first: usize, found: &[f32]) -> f32 {
        let n_vocab = self.model.hparams().n_vocab;
        let expected = self.logits[first * n_vocab..].chunks(n_vocab);
        let largest = |row: &[f32]| row.iter().fold(0f32, |m, x| m.max(x.abs()));
        let error_of = |(a, b): (&[f32], &[f32])| {
            assert!(a.iter().all(|x| x.is_finite()));
            let apart: Vec<f32> = a.iter().zip(b).map(|(x, y)| x - y).collect();
            largest(&apart) / largest(b)
        };
        found.chunks(n_vocab).zip(expected).map(error_of).fold(0.0, f32::max)
    }
}

/// The prompt in one ubatch, some tokens one by one, and the rest in ubatches that ask for no or
/// one row.
fn check(name: &str) {
    let case = Case::read(name);
    assert_eq!(case.model.notes(), [] as [&str; 0]);
    let (machine, n_prompt) = (&mut Interpreter::new(&case.model), case.n_prompt);
    let mut worst = case.error(0, &case.run(machine, 0, n_prompt, n_prompt));
    for at in n_prompt..n_prompt + 4 {
        worst = worst.max(case.error(at, &case.run(machine, at, at + 1, 1)));
    }
    let (from, to) = (n_prompt + 4, case.tokens.len());
    assert_eq!(case.run(machine, from, to - 5, 0), [] as [f32; 0]);
    worst = worst.max(case.error(to - 1, &case.run(machine, to - 5, to, 1)));
    println!("{name}: {worst:.1e}");
    assert!(worst < TOLERANCE, "{name}: {worst}");
}

#[test]
fn llama_and_its_kin_match() {
    for case in ["llama", "llama-tied", "llama-rope3", "mistral"] {
        check(case);
    }
}

#[test]
fn qwen_matches() {
    for case in ["qwen2", "qwen3", "qwen3moe"] {
        check(case);
    }
}

#[test]
fn gemma_3_matches() {
    check("gemma3");
}

#[test]
fn phi_3_matches() {
    for case in ["phi3", "phi3-short", "phi3-long"] {
        check(case);
    }
}
