//! Bytes and operations of ubatches against what the shapes of the tiny models imply.

use crate::engine::model::work::{UbatchShape, Work};
use crate::engine::model::{Arch, Blueprint, LayerClass, WeightKind};
use crate::engine::tensor::DType;

use super::tiny::{
    HEAD_DIM, N_EMBD, N_EXPERT, N_EXPERT_USED, N_FF, N_FF_EXPERT, N_HEAD, N_HEAD_KV, N_LAYER,
    N_VOCAB, Tiny,
};

fn work(model: &Blueprint, n_past: usize, n_tokens: usize, n_outputs: usize) -> Work {
    let (type_k, type_v) = (DType::F16, DType::F16);
    model.work(&UbatchShape { n_past, n_tokens, n_outputs, type_k, type_v }).unwrap()
}

/// Weights of the products of one layer's attention.
fn attention() -> usize {
    N_EMBD * HEAD_DIM * (2 * N_HEAD + 2 * N_HEAD_KV)
}

#[test]
fn a_decode_step_reads_every_weight_but_the_embedding_once() {
    let model = Tiny::new(Arch::Llama).bind().unwrap();
    let step = work(&model, 99, 1, 1);
    let all: usize = model.weights().iter().map(|w| w.bytes).sum();
    let embedding = &model.weights()[0];
    assert_eq!((embedding.class, embedding.kind), (LayerClass::Input, WeightKind::Embedding));
    let expected = all - embedding.bytes + embedding.bytes / N_VOCAB;
    assert_eq!(step.weight_bytes, expected as u64);
    assert_eq!(step.kv_bytes, (N_LAYER * 2 * N_HEAD_KV * HEAD_DIM * 2 * 100) as u64);
    let products = N_LAYER * (attention() + 3 * N_EMBD * N_FF) + N_EMBD * N_VOCAB;
    assert_eq!(step.int8_ops + step.f32_ops, 2 * products as u64);
}

#[test]
fn a_prompt_multiplies_each_token_but_reads_weights_once() {
    let model = Tiny::new(Arch::Llama).bind().unwrap();
    let (one, many) = (work(&model, 0, 1, 1), work(&model, 0, 64, 64));
    assert_eq!(many.int8_ops + many.f32_ops, 64 * (one.int8_ops + one.f32_ops));
    let rows = many.weight_bytes - one.weight_bytes;
    assert_eq!(rows, 63 * (model.weights()[0].bytes / N_VOCAB) as u64);
    // Of the last layer only the wanted row goes on.
    let last = work(&model, 0, 64, 1);
    let saved = 63 * (3 * N_EMBD * N_FF + N_EMBD * N_VOCAB);
    let ops = |w: Work| w.int8_ops + w.f32_ops;
    assert_eq!(ops(many) - ops(last), 2 * saved as u64);
}

#[test]
fn only_used_experts_are_read() {
    let model = Tiny::new(Arch::Qwen3Moe).bind().unwrap();
    let (one, many) = (work(&model, 0, 1, 1), work(&model, 0, 64, 64));
    let experts: usize =
        model.weights().iter().filter(|w| w.kind == WeightKind::Expert).map(|w| w.bytes).sum();
    let unused = experts * (N_EXPERT - N_EXPERT_USED) / N_EXPERT;
    let rows = 63 * (model.weights()[0].bytes / N_VOCAB);
    assert_eq!(many.weight_bytes - one.weight_bytes, (unused + rows) as u64);
    // The router's weights are F32.
    let router = 2 * N_LAYER * N_EMBD * N_EXPERT;
    assert_eq!(one.f32_ops, router as u64);
    let blocks = 3 * N_EXPERT_USED * N_EMBD * N_FF_EXPERT;
    let products = N_LAYER * (attention() + blocks) + N_EMBD * N_VOCAB;
    assert_eq!(one.int8_ops, 2 * products as u64);
}

#[test]
fn windows_bound_what_is_seen() {
    let model = Tiny::new(Arch::Gemma3).bind().unwrap();
    let window = model.hparams().sliding_window.unwrap() as usize;
    let layer = 2 * N_HEAD_KV * HEAD_DIM * 2;
    let n_window = (0..N_LAYER).filter(|&il| model.hparams().is_window_layer(il)).count();
    let seen = 4 * window;
    let step = work(&model, seen - 1, 1, 1);
    let expected = layer * (n_window * window + (N_LAYER - n_window) * seen);
    assert_eq!(step.kv_bytes, expected as u64);
}
