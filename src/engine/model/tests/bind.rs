//! What a header must hold, and what the errors say when it does not.

use proptest::prelude::*;

use crate::engine::gguf::{Gguf, GgufWriter, Value};
use crate::engine::graph::{RopeMode, WeightId};
use crate::engine::model::{Arch, LayerClass, Model, RopeScaling, WeightKind};
use crate::engine::tensor::DType;

use super::tiny::{HEAD_DIM, N_EMBD, N_FF, N_LAYER, N_VOCAB, Tiny, shape};

#[test]
fn every_architecture_binds_and_uses_all_its_tensors() {
    for arch in Arch::ALL {
        let tiny = Tiny::new(arch);
        let model = tiny.bind().unwrap_or_else(|e| panic!("{arch}: {e}"));
        assert_eq!(model.arch(), arch);
        assert_eq!(model.notes(), [] as [&str; 0], "{arch}");
        // The embedding serves twice, everything else once.
        assert_eq!(model.weights().len(), tiny.tensors.len() + 1, "{arch}");
        assert_eq!(model.hparams().n_vocab, N_VOCAB);
        for weight in model.weights() {
            let tensor = &tiny.tensors[weight.tensor];
            assert_eq!((&weight.name, weight.ne), (&tensor.name, tensor.ne));
            assert_eq!(weight.bytes as u64, tensor.bytes);
        }
    }
}

#[test]
fn a_file_can_be_loaded_and_its_weights_read() {
    let mut tiny = Tiny::new(Arch::Llama);
    let mut writer = GgufWriter::new(tiny.metadata.clone());
    for tensor in &tiny.tensors {
        writer.add_tensor(&tensor.name, tensor.dtype, &tensor.ne[..tensor.n_dims]).unwrap();
    }
    let mut stream = writer.start(Vec::new()).unwrap();
    for (i, tensor) in tiny.tensors.iter().enumerate() {
        stream.write_tensor(&tensor.name, &vec![i as u8; tensor.bytes as usize]).unwrap();
    }
    let bytes = stream.finish().unwrap();
    let model = Model::load(Gguf::from_bytes("tiny", bytes).unwrap().into()).unwrap();
    let (_, weight) = model.weight("blk.1.ffn_down.weight").unwrap();
    let at = tiny.tensors.iter().position(|t| t.name == weight.name).unwrap();
    assert_eq!(model.data(weight), vec![at as u8; weight.bytes]);
    assert_eq!(model.gguf().name(), "tiny");
    assert_eq!(weight.bytes as u64, tiny.tensor("blk.1.ffn_down.weight").bytes);
}

#[test]
fn unknown_architectures_are_named_beside_the_known_ones() {
    let mut tiny = Tiny::new(Arch::Llama);
    tiny.metadata.set("general.architecture", "mamba2");
    assert_eq!(
        tiny.error(),
        "architecture \"mamba2\" is not supported; supported are llama, qwen2, qwen3, qwen3moe, \
         gemma3, phi3"
    );
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    for arch in Arch::ALL {
        let whole = Tiny::new(arch);
        for tensor in &whole.tensors {
            let mut tiny = whole.clone();
            tiny.remove(&tensor.name);
            let optional = tensor.name.contains(".bias");
            match tiny.bind() {
                Ok(_) => assert!(optional, "{arch}: {} is needed", tensor.name),
                // Without the fused matrix, its parts are asked for.
                Err(e) if tensor.name.ends_with("attn_qkv.weight") => {
                    assert!(e.to_string().contains("attn_q.weight"), "{e}");
                }
                // The size of the vocabulary is read off the embedding.
                Err(e) if tensor.name == "token_embd.weight" => {
                    assert!(e.to_string().contains("vocab_size"), "{e}");
                }
                Err(e) => {
                    assert!(e.to_string().starts_with(&format!("tensor \"{}\"", tensor.name)));
                }
            }
        }
    }
    let mut tiny = Tiny::new(Arch::Llama);
    assert_eq!(
        tiny.remove("blk.1.ffn_up.weight").error(),
        "tensor \"blk.1.ffn_up.weight\" is missing; expected shape (64, 96)"
    );
}

#[test]
fn a_wrong_shape_is_named_with_the_right_one() {
    for arch in Arch::ALL {
        let whole = Tiny::new(arch);
        for i in 0..whole.tensors.len() {
            let mut tiny = whole.clone();
            tiny.tensors[i].ne[2] += 1;
            let name = tiny.tensors[i].name.clone();
            assert!(tiny.error().contains(&format!("{name}\": expected shape")), "{arch} {name}");
        }
    }
    let mut tiny = Tiny::new(Arch::Llama);
    tiny.tensor("blk.0.ffn_down.weight").ne = [64, 96, 1, 1];
    assert_eq!(
        tiny.error(),
        "tensor \"blk.0.ffn_down.weight\": expected shape (96, 64), found (64, 96)"
    );
}

#[test]
fn norms_in_half_precision_are_refused_by_name() {
    let mut tiny = Tiny::new(Arch::Qwen3);
    tiny.tensor("blk.1.attn_q_norm.weight").dtype = DType::F16;
    assert_eq!(
        tiny.error(),
        "tensor \"blk.1.attn_q_norm.weight\": expected type F32 (norms, biases and tables), found \
         type F16"
    );
    let mut tiny = Tiny::new(Arch::Llama);
    tiny.tensor("blk.1.attn_q.weight").dtype = DType::I32;
    assert!(tiny.error().contains("found type I32"));
}

#[test]
fn numbers_that_make_no_sense_are_named_by_key() {
    let cases: [(Arch, &str, Value, &str); 15] = [
        (Arch::Llama, "block_count", 0u32.into(), "0 layers"),
        (Arch::Llama, "block_count", 4_000_000_000u32.into(), "4000000000 layers"),
        (Arch::Llama, "attention.head_count", 0u32.into(), "layer 0 has 0 heads"),
        (Arch::Llama, "attention.head_count_kv", 0u32.into(), "0 key heads"),
        (Arch::Llama, "attention.head_count_kv", 3u32.into(), "do not divide 4"),
        (Arch::Llama, "attention.head_count_kv", vec![2u32].into(), "1 values for 2 layers"),
        (Arch::Llama, "attention.key_length", 0u32.into(), "0 is not from 1"),
        (Arch::Llama, "embedding_length", 0u32.into(), "0 is not from 1"),
        (Arch::Llama, "context_length", 0u32.into(), "no context"),
        (Arch::Llama, "rope.dimension_count", 16u32.into(), "must be the size of a head"),
        (Arch::Llama, "rope.freq_base", f32::NAN.into(), "positive"),
        (Arch::Llama, "rope.scaling.factor", (-1f32).into(), "positive"),
        (Arch::Qwen2, "rope.dimension_count", 7u32.into(), "cannot rotate 7 of 32"),
        (Arch::Qwen2, "expert_count", 4u32.into(), "4 experts"),
        (Arch::Qwen3Moe, "expert_used_count", 9u32.into(), "9 of 8 experts"),
    ];
    for (arch, key, value, problem) in cases {
        let mut tiny = Tiny::new(arch);
        let message = tiny.set(key, value).error();
        assert!(message.contains(problem), "{key}: {message}");
    }
    let mut tiny = Tiny::new(Arch::Gemma3);
    let message = tiny.set("final_logit_softcapping", 30f32).error();
    assert_eq!(message, "gemma3 models with capped final logits are not supported");
}

#[test]
fn a_missing_key_is_named() {
    for key in [
        "block_count",
        "embedding_length",
        "context_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
    ] {
        let mut tiny = Tiny::new(Arch::Llama);
        let all: Vec<_> = tiny.metadata.iter().map(|(k, v)| (k.to_owned(), v.clone())).collect();
        tiny.metadata = crate::engine::gguf::Metadata::new();
        for (k, v) in all.into_iter().filter(|(k, _)| *k != format!("llama.{key}")) {
            tiny.metadata.set(&k, v);
        }
        let message = tiny.error();
        assert!(message.contains(&format!("llama.{key}")), "{message}");
    }
}

#[test]
fn an_output_matrix_of_its_own_is_used_and_else_the_embedding_again() {
    let mut tiny = Tiny::new(Arch::Llama);
    let tied = tiny.bind().unwrap();
    let last = tied.weights().last().unwrap();
    assert_eq!(last.name, "token_embd.weight");
    assert_eq!((last.class, last.kind), (LayerClass::Output, WeightKind::Output));
    assert_eq!(last.duplicate_of, Some(WeightId(0)));
    assert_eq!(tied.weights()[0].class, LayerClass::Input);

    let own = tiny.add("output.weight", DType::Q6_K, &[256, N_VOCAB]).error();
    assert_eq!(own, "tensor \"output.weight\": expected shape (64, 100), found (256, 100)");
    tiny.remove("output.weight").add("output.weight", DType::F16, &[N_EMBD, N_VOCAB]);
    let model = tiny.bind().unwrap();
    let (_, own) = model.weight("output.weight").unwrap();
    assert_eq!((own.class, own.duplicate_of), (LayerClass::Output, None));
}

#[test]
fn frequency_tables_belong_to_every_layer_but_are_stored_once() {
    let mut tiny = Tiny::new(Arch::Llama);
    tiny.add("rope_freqs.weight", DType::F32, &[HEAD_DIM / 2]);
    let model = tiny.bind().unwrap();
    let uses: Vec<_> = model.weights().iter().filter(|w| w.kind == WeightKind::Rope).collect();
    assert_eq!(uses.len(), N_LAYER);
    assert_eq!((uses[0].class, uses[0].duplicate_of), (LayerClass::Repeating(0), None));
    let (first, _) = model.weight("rope_freqs.weight").unwrap();
    assert_eq!((uses[1].class, uses[1].duplicate_of), (LayerClass::Repeating(1), Some(first)));
}

#[test]
fn tensors_that_nobody_asked_for_are_noted() {
    let mut tiny = Tiny::new(Arch::Qwen3);
    tiny.add("blk.0.attn_sinks.weight", DType::F32, &[4]);
    let model = tiny.bind().unwrap();
    assert_eq!(model.notes(), ["tensor \"blk.0.attn_sinks.weight\" is not used"]);
}

#[test]
fn rope_follows_the_metadata() {
    let rope = |tiny: &Tiny| tiny.bind().unwrap().hparams().rope;
    let mut tiny = Tiny::new(Arch::Llama);
    assert_eq!(rope(&tiny).mode, RopeMode::Norm);
    assert_eq!((rope(&tiny).freq_base, rope(&tiny).freq_scale), (10000.0, 1.0));
    tiny.set("rope.scaling.factor", 4f32).set("rope.freq_base", 5e5f32);
    assert_eq!((rope(&tiny).freq_base, rope(&tiny).freq_scale), (5e5, 0.25));
    assert_eq!(rope(&tiny).ext_factor, 0.0);
    tiny.set("rope.scaling.type", "none");
    assert_eq!(rope(&tiny).freq_scale, 1.0);

    let mut tiny = Tiny::new(Arch::Qwen2);
    tiny.set("rope.scaling.type", "yarn")
        .set("rope.scaling.factor", 4f32)
        .set("rope.scaling.original_context_length", 1024u32);
    let yarn = rope(&tiny);
    assert_eq!((yarn.mode, yarn.scaling), (RopeMode::Neox, RopeScaling::Yarn));
    assert_eq!((yarn.ext_factor, yarn.n_ctx_orig), (1.0, 1024));
    // The operation itself adds YaRN's magnitude; the factor must not add it again.
    assert!((yarn.attn_factor - 1.0).abs() < 1e-6, "{}", yarn.attn_factor);
    let message = tiny.set("rope.scaling.type", "su").error();
    assert!(message.contains("unknown kind of scaling \"su\""), "{message}");
}

#[test]
fn gemma_3_turns_by_other_rules_in_its_windows() {
    let model = Tiny::new(Arch::Gemma3).bind().unwrap();
    let h = model.hparams();
    assert_eq!((h.is_window_layer(0), h.is_window_layer(1)), (true, false));
    let (window, global) = (h.rope_params(0), h.rope_params(1));
    assert_eq!((window.freq_base, window.freq_scale), (10000.0, 1.0));
    assert_eq!((global.freq_base, global.freq_scale), (1e6, 0.125));
    assert_eq!(h.embedding_scale, 8.0);
    assert_eq!(h.attention_scale, 1.0 / (HEAD_DIM as f32).sqrt());

    let mut tiny = Tiny::new(Arch::Gemma3);
    tiny.set("attention.sliding_window_pattern", vec![false, true]);
    let model = tiny.bind().unwrap();
    assert_eq!(model.hparams().window_layers, [false, true]);
}

#[test]
fn phi_3_notes_the_window_that_it_ignores() {
    let mut tiny = Tiny::new(Arch::Phi3);
    tiny.set("attention.sliding_window", 2047u32);
    let model = tiny.bind().unwrap();
    assert!(!model.hparams().is_window_layer(0));
    assert!(model.notes()[0].contains("2047"));
    assert_eq!(model.hparams().rope.attn_factor, 1.19);
}

#[test]
fn caches_need_whole_blocks_per_head() {
    let model = Tiny::new(Arch::Llama).bind().unwrap();
    assert!(model.check_cache_types(DType::Q8_0, DType::Q4_0).is_ok());
    let message = model.check_cache_types(DType::F16, DType::Q4_K).unwrap_err().to_string();
    assert!(message.contains("llama.attention.value_length"), "{message}");
    assert!(message.contains("32 elements"), "{message}");
}

#[test]
fn a_llama_with_experts_is_mixtral() {
    let mut tiny = Tiny::new(Arch::Llama);
    tiny.set("expert_count", 4u32).set("expert_used_count", 2u32);
    for il in 0..N_LAYER {
        for part in ["gate", "up", "down"] {
            tiny.remove(&format!("blk.{il}.ffn_{part}.weight"));
        }
        tiny.add(&format!("blk.{il}.ffn_gate_inp.weight"), DType::F32, &[N_EMBD, 4])
            .add(&format!("blk.{il}.ffn_gate_exps.weight"), DType::Q4_0, &[N_EMBD, N_FF, 4])
            .add(&format!("blk.{il}.ffn_up_exps.weight"), DType::Q4_0, &[N_EMBD, N_FF, 4])
            .add(&format!("blk.{il}.ffn_down_exps.weight"), DType::Q4_0, &[N_FF, N_EMBD, 4]);
    }
    let model = tiny.bind().unwrap();
    assert_eq!(model.hparams().n_ff_expert, N_FF);
    model.build(&shape(3, 1)).unwrap();
}

/// Values that have broken loaders before: zeros, ones, primes, powers of two and their neighbours,
/// the ends of the range.
fn nasty_number() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u32::MAX),
        Just(1 << 31),
        0u32..200,
        (0u32..32).prop_map(|b| 1 << b),
        any::<u32>()
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever the numbers in a header are, it is refused or its graphs can be built.
    #[test]
    fn bent_headers_end_in_errors_or_graphs(
        arch in prop::sample::select(Arch::ALL.to_vec()),
        numbers in prop::collection::vec((any::<prop::sample::Index>(), nasty_number()), 1..4),
        extents in prop::collection::vec(
            (any::<prop::sample::Index>(), 0usize..3, nasty_number()), 0..3),
    ) {
        let mut tiny = Tiny::new(arch);
        let keys: Vec<String> = tiny.metadata.iter().map(|(k, _)| k.to_owned()).collect();
        for (which, number) in numbers {
            let key = &keys[which.index(keys.len())];
            match tiny.metadata.get(key) {
                Some(Value::U32(_)) => { tiny.metadata.set(key, number); }
                Some(Value::F32(_)) => { tiny.metadata.set(key, f32::from_bits(number)); }
                _ => {}
            }
        }
        for (which, axis, number) in extents {
            let n = tiny.tensors.len();
            tiny.tensors[which.index(n)].ne[axis] = (number as usize).max(1);
        }
        if let Ok(model) = tiny.bind() {
            for n_outputs in [0, 1, 3] {
                let mut shape = shape(3, n_outputs);
                shape.cache.type_v = DType::F16;
                prop_assert!(model.build(&shape).is_ok());
                model.cache_tensors(&shape.cache);
            }
        }
    }
}
