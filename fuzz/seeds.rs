//! Makes the seed corpus: small valid files of every shape, and the header of a file that is
//! broken in one place, so that the fuzzer starts behind the checks and not in front of them.
//!
//! Usage: `cargo +nightly fuzz build seeds`, then run the program with the folder to fill.

use std::path::Path;
use std::{env, fs, process::ExitCode};

use gpuwhy::engine::gguf::{Array, GgufError, GgufWriter, Metadata, Value};
use gpuwhy::engine::tensor::DType;

fn main() -> ExitCode {
    let folder = env::args().nth(1).unwrap_or_else(|| "corpus/gguf".to_owned());
    match write_all(Path::new(&folder)) {
        Ok(count) => {
            println!("{count} seeds in {folder}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{folder}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(folder: &Path) -> Result<usize, Box<dyn std::error::Error>> {
    fs::create_dir_all(folder)?;
    let mut seeds = vec![
        ("empty".to_owned(), file(Metadata::new(), &[], 3)?),
        ("empty_v2".to_owned(), file(Metadata::new(), &[], 2)?),
        ("vocabulary".to_owned(), file(vocabulary(), &[], 3)?),
        ("model".to_owned(), file(vocabulary(), &SHAPES, 3)?),
    ];
    for (i, value) in values().into_iter().enumerate() {
        let mut metadata = Metadata::new();
        metadata.set("k", value);
        seeds.push((format!("value_{i}"), file(metadata, &[], 3)?));
    }
    for dtype in DType::WEIGHTS.into_iter().chain([DType::I32]) {
        let bytes = file(Metadata::new(), &[(dtype, &[dtype.block_len(), 2])], 3)?;
        seeds.push((format!("type_{dtype}"), bytes));
    }
    for alignment in [1u32, 64, 24] {
        let mut metadata = Metadata::new();
        metadata.set("general.alignment", 32u32);
        let mut bytes = file(metadata, &SHAPES[..2], 3)?;
        // The value stands right before the first tensor's name; 24 is no valid alignment.
        let at = 24 + 8 + "general.alignment".len() + 4;
        bytes[at..at + 4].copy_from_slice(&alignment.to_le_bytes());
        seeds.push((format!("alignment_{alignment}"), bytes));
    }
    let mut split = vocabulary();
    split.set("split.no", 0u16).set("split.count", 2u16).set("split.tensors.count", 3i32);
    seeds.push(("split".to_owned(), file(split, &SHAPES[..1], 3)?));
    for (name, bytes) in &seeds {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(seeds.len())
}

/// Shapes of one to four dimensions.
const SHAPES: [(DType, &[usize]); 4] = [
    (DType::F32, &[3]),
    (DType::Q4_0, &[32, 2]),
    (DType::F16, &[2, 1, 3]),
    (DType::I32, &[1, 2, 1, 2]),
];

fn file(
    metadata: Metadata,
    shapes: &[(DType, &[usize])],
    version: u32,
) -> Result<Vec<u8>, GgufError> {
    let mut writer = GgufWriter::new(metadata);
    if version == 2 {
        writer = writer.version_2();
    }
    for (i, (dtype, ne)) in shapes.iter().enumerate() {
        writer.add_tensor(&format!("t{i}"), *dtype, ne)?;
    }
    let mut stream = writer.start(Vec::new())?;
    while let Some(spec) = stream.expects().cloned() {
        stream.write_tensor(&spec.name, &vec![1; spec.bytes as usize])?;
    }
    stream.finish()
}

fn vocabulary() -> Metadata {
    let mut m = Metadata::new();
    m.set("general.architecture", "llama")
        .set("llama.block_count", 2u32)
        .set("tokenizer.ggml.tokens", vec!["<s>".to_owned(), "a".to_owned(), "ß".to_owned()])
        .set("tokenizer.ggml.scores", vec![0f32, -1.0, -2.0])
        .set("tokenizer.ggml.token_type", vec![3i32, 1, 1]);
    m
}

/// One value of every type, one array of every type, and nested ones.
fn values() -> Vec<Value> {
    let mut all: Vec<Value> = vec![
        1u8.into(),
        (-1i8).into(),
        1u16.into(),
        (-1i16).into(),
        1u32.into(),
        (-1i32).into(),
        1f32.into(),
        true.into(),
        "text".into(),
        1u64.into(),
        (-1i64).into(),
        1f64.into(),
        vec![1u8, 2].into(),
        vec![-1i8].into(),
        vec![1u16].into(),
        vec![-1i16].into(),
        vec![1u32].into(),
        vec![-1i32].into(),
        vec![1f32].into(),
        vec![true, false].into(),
        vec!["a".to_owned(), String::new()].into(),
        vec![1u64].into(),
        vec![-1i64].into(),
        vec![1f64].into(),
    ];
    let mut nested = Array::U8(vec![1]);
    for _ in 0..3 {
        nested = Array::Array(vec![nested]);
        all.push(nested.clone().into());
    }
    all
}
