//! Models with random weights: every shape binds under every mix and has the published number of
//! parameters; a small one is written, kept, and read back whole.

use std::fs;

use gpuwhy::engine::gguf::TensorInfo;
use gpuwhy::engine::model::Model;
use gpuwhy::engine::model::store::{
    ModelRef, StoreError, StoreOptions, open, parse, shape, shapes, synth_path, synthesize,
};
use gpuwhy::engine::tensor::{DType, FileType, dequantize};
use gpuwhy::engine::tokenizer::Tokenizer;

/// A cache of its own and no shapes but those built in.
fn options(dir: &tempfile::TempDir) -> StoreOptions {
    StoreOptions { cache_dir: Some(dir.path().join("cache")), ..StoreOptions::default() }
}

/// A shape small enough to be written in no time.
const TINY: &str = r#"
[general]
architecture = "qwen3moe"
[qwen3moe]
block_count = 2
context_length = 64
embedding_length = 64
feed_forward_length = 96
vocab_size = 300
expert_count = 4
expert_used_count = 2
expert_feed_forward_length = 32
attention.head_count = 4
attention.head_count_kv = 2
attention.key_length = 32
attention.value_length = 32
attention.layer_norm_rms_epsilon = 1e-6
rope.dimension_count = 32
rope.freq_base = 1000000.0
[weights]
qk_norm = true
"#;

#[test]
fn every_shape_binds_and_has_the_published_number_of_parameters() {
    let shapes = shapes(&StoreOptions::default()).unwrap();
    assert!(shapes.len() >= 26);
    for shape in &shapes {
        for file_type in [FileType::Q4_K_M, FileType::F16, FileType::IQ4_XS, FileType::Q2_K] {
            let model = shape.blueprint(file_type).unwrap();
            let (name, notes) = (&shape.name, model.notes());
            assert!(notes.iter().all(|note| note.contains("sliding window")), "{name}: {notes:?}");
            let (_, tensors) = shape.header(file_type).unwrap();
            // The table of divisors follows from the shape and is no parameter.
            let weights = tensors.iter().filter(|t| t.name != "rope_freqs.weight");
            let parameters: usize = weights.map(TensorInfo::n_elements).sum();
            assert_eq!(parameters as u64, shape.parameter_count, "{name}");
            let embedding = tensors.iter().find(|t| t.name == "token_embd.weight").unwrap();
            if file_type == FileType::Q4_K_M && shape.tied_embeddings && embedding.ne[0] % 256 == 0
            {
                assert_eq!(embedding.dtype, DType::Q6_K, "{name}");
            }
        }
    }
}

#[test]
fn mixes_without_a_fallback_bind_too() {
    let options = StoreOptions::default();
    for name in ["qwen3-30b-a3b", "gemma3-1b", "phi3-mini", "stories15m"] {
        for file_type in FileType::ALL {
            shape(name, &options).unwrap().blueprint(file_type).unwrap();
        }
    }
}

#[test]
fn a_model_is_made_once_and_can_be_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir);
    let reference = parse(Some("synth:stories15m:Q8_0")).unwrap();
    let mut seen = Vec::new();
    let mut total = 0;
    let gguf = open(&reference, &options, &mut |progress| {
        assert_eq!(progress.what, "synth:stories15m:Q8_0");
        seen.push(progress.done_bytes);
        total = progress.total_bytes;
    })
    .unwrap();
    assert_eq!((seen[0], *seen.last().unwrap()), (0, total));
    assert!(seen.is_sorted() && seen.len() > 10);
    let data: u64 = gguf.tensors().iter().map(|t| t.bytes.next_multiple_of(32)).sum();
    assert_eq!(data, total);

    let model = Model::load(gguf.clone()).unwrap();
    assert_eq!((model.hparams().n_layer, model.hparams().n_vocab), (6, 32000));
    let tokenizer = Tokenizer::from_metadata(gguf.metadata()).unwrap();
    assert_eq!(tokenizer.n_tokens(), 32000);

    let weights = |name: &str| {
        let tensor = gguf.tensor(name).unwrap();
        let mut numbers = vec![0.0; tensor.n_elements()];
        dequantize(tensor.dtype, gguf.data(tensor), &mut numbers).unwrap();
        numbers
    };
    let norm = weights("blk.3.attn_norm.weight");
    assert!(norm.iter().all(|x| (0.8..1.2).contains(x)) && norm[0] != norm[1]);
    let down = weights("blk.5.ffn_down.weight");
    let square = down.iter().map(|x| x * x).sum::<f32>() / down.len() as f32;
    assert!((square * 768.0 - 1.0).abs() < 0.05, "{square}");
    assert_ne!(weights("blk.0.attn_q.weight"), weights("blk.0.attn_k.weight"));

    let again = open(&reference, &options, &mut |_| panic!("made twice")).unwrap();
    assert_eq!(again.name(), gguf.name());
    let files: Vec<_> = fs::read_dir(dir.path().join("cache")).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[test]
fn an_edited_shape_and_a_damaged_file_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let shapes = dir.path().join("shapes");
    fs::create_dir(&shapes).unwrap();
    let options = StoreOptions { shape_dirs: vec![shapes.clone()], ..options(&dir) };
    let ModelRef::Synth(spec) = parse(Some("synth:Tiny:q4_0")).unwrap() else { panic!() };
    let reference = ModelRef::Synth(spec.clone());
    let make = || {
        let mut made = false;
        let gguf = open(&reference, &options, &mut |_| made = true).unwrap();
        (Model::load(gguf).unwrap().hparams().n_ctx_train, made)
    };
    fs::write(shapes.join("tiny.toml"), TINY).unwrap();
    assert_eq!(make(), (64, true));
    assert_eq!(make(), (64, false));
    fs::write(shapes.join("tiny.toml"), TINY.replace("length = 64\nemb", "length = 65\nemb"))
        .unwrap();
    assert_eq!(make(), (65, true));

    let mut spec = spec;
    spec.shape = "tiny".to_owned();
    let path = synth_path(&spec, &options).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(make(), (65, true));
    assert_eq!(fs::read(&path).unwrap(), whole, "the same model has the same bytes");
}

#[test]
fn faulty_shapes_and_names_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let shapes = dir.path().join("shapes");
    fs::create_dir(&shapes).unwrap();
    let options = StoreOptions { shape_dirs: vec![shapes.clone()], ..options(&dir) };
    let error = |arg| open(&parse(Some(arg)).unwrap(), &options, &mut |_| {}).unwrap_err();
    let unknown = error("synth:llama3.2-1:F16");
    assert!(matches!(unknown, StoreError::UnknownShape { .. }));
    assert!(unknown.hint().unwrap().contains("llama3.2-1b"));

    for (from, to, expected) in [
        ("vocab_size = 300", "vocab_size = 100", "vocab_size is 100; at least 261"),
        ("qk_norm = true", "qk_norm = false", "\"blk.0.attn_q_norm.weight\" is missing"),
    ] {
        fs::write(shapes.join("tiny.toml"), TINY.replace(from, to)).unwrap();
        let text = error("synth:tiny:F16").to_string();
        assert!(text.contains(expected) && text.contains("tiny"), "{text}");
    }
    fs::write(shapes.join("tiny.toml"), "[general]\nx = 1\n").unwrap();
    let text = error("synth:stories15m:F16").to_string();
    assert!(text.contains("tiny.toml") && text.contains("unknown field `x`"), "{text}");
    assert!(!dir.path().join("cache").exists(), "nothing was written");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let shape = shape("stories15m", &StoreOptions::default()).unwrap();
    let error = synthesize(&shape, FileType::Q4_0, &file.join("x.gguf"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(error.to_string().contains("file"));
}
