//! What the writer writes, the reader reads back: one file, split files, both versions; and what
//! the writer refuses to write.

#![allow(clippy::unwrap_used, reason = "tests, whose helpers clippy does not know as such")]

use std::fs;
use std::path::{Path, PathBuf};

use gpuwhy::engine::gguf::{
    Array, ErrorKind, Gguf, GgufError, GgufWriter, Metadata, TensorInfo, Value, part_name,
};
use gpuwhy::engine::tensor::DType;

/// Metadata with a value of every type, and arrays of every type.
fn every_type() -> Metadata {
    let mut m = Metadata::new();
    m.set("general.architecture", "llama")
        .set("u8", 255u8)
        .set("i8", -128i8)
        .set("u16", 65_535u16)
        .set("i16", -32_768i16)
        .set("u32", u32::MAX)
        .set("i32", i32::MIN)
        .set("f32", 1.5f32)
        .set("true", true)
        .set("false", false)
        .set("string", "grüße\0\n")
        .set("empty", "")
        .set("u64", u64::MAX)
        .set("i64", i64::MIN)
        .set("f64", -0.1f64)
        .set("a.u8", vec![1u8, 2])
        .set("a.i8", vec![-1i8])
        .set("a.u16", vec![1u16, 2, 3])
        .set("a.i16", vec![-1i16])
        .set("a.u32", vec![7u32])
        .set("a.i32", vec![-7i32; 5])
        .set("a.f32", vec![0.25f32, -0.5])
        .set("a.bool", vec![true, false])
        .set("a.string", vec!["a".to_owned(), String::new(), "ß".to_owned()])
        .set("a.u64", vec![u64::MAX])
        .set("a.i64", vec![i64::MIN])
        .set("a.f64", vec![0.125f64])
        .set("a.empty", Vec::<f32>::new())
        .set("a.a", vec![Array::U8(vec![1]), Array::String(vec!["x".to_owned()])]);
    m
}

/// The tensors of the sample: name, type, shape.
const TENSORS: [(&str, DType, &[usize]); 4] = [
    ("token_embd.weight", DType::Q4_K, &[256, 5]),
    ("blk.0.attn_norm.weight", DType::F32, &[7]),
    ("blk.0.attn_q.weight", DType::Q8_0, &[64, 3, 2]),
    ("output.weight", DType::F16, &[3, 2, 2, 2]),
];

/// Bytes that tell tensors and positions apart.
fn pattern(seed: usize, len: u64) -> Vec<u8> {
    (0..len).map(|i| (i as usize * 31 + seed * 101) as u8).collect()
}

fn writer(metadata: Metadata) -> GgufWriter {
    let mut writer = GgufWriter::new(metadata);
    for (name, dtype, ne) in TENSORS {
        writer.add_tensor(name, dtype, ne).unwrap();
    }
    writer
}

fn to_bytes(writer: GgufWriter) -> Vec<u8> {
    let specs = writer.tensors().to_vec();
    let mut stream = writer.start(Vec::new()).unwrap();
    for (i, spec) in specs.iter().enumerate() {
        stream.write_tensor(&spec.name, &pattern(i, spec.bytes)).unwrap();
    }
    stream.finish().unwrap()
}

fn check_tensors(model: &Gguf) {
    assert_eq!(model.tensors().len(), TENSORS.len());
    for (i, (name, dtype, ne)) in TENSORS.into_iter().enumerate() {
        let info = model.tensor(name).unwrap();
        assert_eq!((info.dtype, info.n_dims), (dtype, ne.len()));
        assert_eq!(info.ne[..ne.len()], *ne);
        assert!(info.ne[ne.len()..].iter().all(|&n| n == 1));
        assert_eq!(model.data(info), pattern(i, info.bytes), "{name}");
    }
}

#[test]
fn both_versions_read_back_from_memory() {
    for version in [2, 3] {
        let mut w = writer(every_type());
        if version == 2 {
            w = w.version_2();
        }
        let bytes = to_bytes(w);
        let len = bytes.len() as u64;
        assert_eq!(len % 32, 0, "the last tensor is padded too");
        let model = Gguf::from_bytes("sample", bytes).unwrap();
        assert_eq!(model.version(), version);
        assert_eq!(*model.metadata(), every_type());
        assert_eq!(model.total_bytes(), len);
        assert!(model.maps().is_empty());
        check_tensors(&model);
    }
}

#[test]
fn a_model_can_be_read_from_the_program_itself_at_any_address() {
    let mut bytes = vec![0u8];
    bytes.extend(to_bytes(writer(every_type())));
    let bytes: &'static [u8] = Box::leak(bytes.into_boxed_slice());
    // Starting one byte in, the model cannot be aligned to anything.
    check_tensors(&Gguf::from_static(&bytes[1..]).unwrap());
}

#[test]
fn the_alignment_of_the_metadata_is_kept() {
    for alignment in [1u32, 8, 64, 4096] {
        let mut metadata = every_type();
        metadata.set("general.alignment", alignment);
        let model = Gguf::from_bytes("sample", to_bytes(writer(metadata))).unwrap();
        assert!(model.tensors().iter().all(|info| info.offset % u64::from(alignment) == 0));
        check_tensors(&model);
    }
}

#[test]
fn a_file_is_mapped_and_the_mapping_outlives_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, to_bytes(writer(every_type()))).unwrap();
    let model = Gguf::open(&path).unwrap();
    check_tensors(&model);
    let info: TensorInfo = model.tensor("output.weight").unwrap().clone();
    let map = model.maps()[info.file].clone();
    assert_eq!(map.path(), path);
    assert!(map.is_unchanged());
    drop(model);
    assert_eq!(map[info.offset as usize..][..info.bytes as usize], pattern(3, info.bytes));
    fs::write(&path, b"something else").unwrap();
    assert!(!map.is_unchanged());
}

#[test]
fn a_file_has_its_name_only_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let part = dir.path().join("model.gguf.part");
    // A part that a killed process left behind is no obstacle.
    fs::write(&part, b"stale").unwrap();

    let mut stream = writer(every_type()).create(&path).unwrap();
    assert!(part.exists() && !path.exists());
    let second = writer(every_type()).create(&path).unwrap_err();
    assert!(matches!(second.kind(), ErrorKind::Locked), "{second}");
    while let Some(spec) = stream.expects().cloned() {
        let i = TENSORS.iter().position(|t| t.0 == spec.name).unwrap();
        for piece in pattern(i, spec.bytes).chunks(100) {
            stream.write_piece(&spec.name, piece).unwrap();
        }
    }
    stream.commit().unwrap();
    assert!(path.exists() && !part.exists());
    check_tensors(&Gguf::open(&path).unwrap());

    let unfinished = writer(Metadata::new()).create(&path).unwrap();
    assert!(unfinished.commit().is_err());
    assert!(!part.exists(), "an unfinished part is removed");
    check_tensors(&Gguf::open(&path).unwrap());
}

#[test]
fn the_writer_refuses_what_would_not_read_back() {
    let kind = |error: GgufError| error.to_string();
    let mut w = GgufWriter::new(Metadata::new());
    w.add_tensor("a", DType::F32, &[4]).unwrap();
    for (name, ne, says) in [
        ("a", &[4][..], "two tensors"),
        ("b", &[], "1 to 4 dimensions, found 0"),
        ("b", &[1, 1, 1, 1, 1], "1 to 4 dimensions, found 5"),
        ("b", &[4, 0], "dimension 1 is zero"),
        ("b", &[usize::MAX, 2], "overflows"),
        (&"n".repeat(64), &[4], "64 bytes long"),
    ] {
        let message = kind(w.add_tensor(name, DType::F32, ne).unwrap_err());
        assert!(message.contains(says), "{message}");
    }
    let message = kind(w.add_tensor("b", DType::Q4_0, &[33]).unwrap_err());
    assert!(message.contains("cannot be cut into Q4_0 blocks of 32"), "{message}");
    w.add_tensor("b", DType::F32, &[2]).unwrap();

    let mut stream = w.clone().start(Vec::new()).unwrap();
    for (name, len, says) in [
        ("b", 8, "data of tensor \"a\": has to come before \"b\""),
        ("c", 8, "no such tensor is left"),
        ("a", 15, "holds 16 bytes, but 15 were written"),
        ("a", 17, "holds 16 bytes, but 17 were written"),
    ] {
        let message = kind(stream.write_tensor(name, &pattern(0, len)).unwrap_err());
        assert!(message.contains(says), "{message}");
    }
    stream.write_tensor("a", &[0; 16]).unwrap();
    let message = kind(stream.write_tensor("a", &[0; 16]).unwrap_err());
    assert!(message.contains("no such tensor is left"), "{message}");
    let message = kind(stream.finish().unwrap_err());
    assert!(message.contains("tensor \"b\": holds 8 bytes, but 0 were written"), "{message}");

    let mut deep = Array::U8(vec![1]);
    for _ in 0..4 {
        deep = Array::Array(vec![deep]);
    }
    for (key, value) in [
        ("k", Value::Array(deep)),
        ("general.alignment", Value::U32(24)),
        (&"k".repeat(65_536), Value::U8(0)),
    ] {
        let mut metadata = Metadata::new();
        metadata.set(key, value);
        assert!(GgufWriter::new(metadata).start(Vec::new()).is_err());
    }
}

/// Writes the sample as three parts, the first without tensors, after `change` had its way with
/// the metadata of each.
fn write_parts(dir: &Path, change: impl Fn(u16, &mut Metadata)) -> Vec<PathBuf> {
    (0..3u16)
        .map(|no| {
            let mut metadata = if no == 0 { every_type() } else { Metadata::new() };
            metadata.set("split.no", no).set("split.count", 3u16).set("split.tensors.count", 4i32);
            change(no, &mut metadata);
            let mut w = GgufWriter::new(metadata);
            let mine = [0..0, 0..1, 1..4][usize::from(no)].clone();
            for (name, dtype, ne) in &TENSORS[mine.clone()] {
                w.add_tensor(name, *dtype, ne).unwrap();
            }
            let path = dir.join(part_name("model-Q4", u64::from(no), 3));
            let mut stream = w.create(&path).unwrap();
            for i in mine {
                let spec = stream.expects().unwrap().clone();
                stream.write_tensor(&spec.name, &pattern(i, spec.bytes)).unwrap();
            }
            stream.commit().unwrap();
            path
        })
        .collect()
}

#[test]
fn a_split_model_opens_from_any_of_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let paths = write_parts(dir.path(), |_, _| ());
    for path in &paths {
        let model = Gguf::open(path).unwrap();
        check_tensors(&model);
        assert_eq!(model.metadata().str("general.architecture").unwrap(), "llama");
        assert_eq!(model.maps().len(), 3);
        let files: Vec<usize> = model.tensors().iter().map(|info| info.file).collect();
        assert_eq!(files, [1, 2, 2, 2]);
        let sizes = paths.iter().map(|p| fs::metadata(p).unwrap().len());
        assert_eq!(model.total_bytes(), sizes.sum::<u64>());
    }
    // In memory there is no folder to look for the others in.
    let alone = Gguf::from_bytes("part", fs::read(&paths[1]).unwrap()).unwrap_err();
    assert!(matches!(alone.kind(), ErrorKind::MissingParts { count: 3, .. }), "{alone}");
}

#[test]
fn parts_that_are_missing_or_renamed_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let paths = write_parts(dir.path(), |_, _| ());
    fs::remove_file(&paths[1]).unwrap();
    let error = Gguf::open(&paths[0]).unwrap_err();
    assert!(error.to_string().contains("1 of 3 parts missing"), "{error}");
    assert!(error.to_string().contains("model-Q4-00002-of-00003.gguf"), "{error}");
    assert!(error.hint().unwrap().contains("one folder"));

    let renamed = dir.path().join("renamed.gguf");
    fs::rename(&paths[2], &renamed).unwrap();
    let error = Gguf::open(&renamed).unwrap_err();
    assert!(error.to_string().contains("-00003-of-00003.gguf"), "{error}");
}

#[test]
fn parts_that_disagree_are_refused() {
    type Change = fn(u16, &mut Metadata);
    let cases: [(Change, &str); 6] = [
        (
            |no, m| {
                m.set("split.no", no % 2);
            },
            "\"split.no\": the parts disagree",
        ),
        (
            |no, m| {
                m.set("split.count", 3 + no / 2);
            },
            "\"split.count\"",
        ),
        (
            |no, m| {
                m.set("split.tensors.count", 4 + i32::from(no));
            },
            "split.tensors.count",
        ),
        (
            |_, m| {
                m.set("split.tensors.count", 5);
            },
            "found 4 in all parts together",
        ),
        (
            |no, m| {
                m.set("general.architecture", format!("arch{no}"));
            },
            "expected \"arch0\", found \"arch1\"",
        ),
        (
            |_, m| {
                m.set("split.count", 70_000);
            },
            "at most 65535 parts",
        ),
    ];
    for (change, says) in cases {
        let dir = tempfile::tempdir().unwrap();
        let paths = write_parts(dir.path(), change);
        let message = Gguf::open(&paths[0]).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn two_parts_with_the_same_tensor_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for no in 0..2u16 {
        let mut metadata = Metadata::new();
        metadata.set("split.no", no).set("split.count", 2u16);
        let mut w = GgufWriter::new(metadata);
        w.add_tensor("same", DType::F32, &[1]).unwrap();
        let mut stream = w.create(&dir.path().join(part_name("m", no.into(), 2))).unwrap();
        stream.write_tensor("same", &[0; 4]).unwrap();
        stream.commit().unwrap();
    }
    let error = Gguf::open(&dir.path().join(part_name("m", 0, 2))).unwrap_err();
    assert!(error.to_string().contains("00002-of-00002.gguf: name of tensor \"same\""), "{error}");
}

#[test]
fn what_is_no_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = Gguf::open(dir.path()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotAFile), "{error}");
    let error = Gguf::open(&dir.path().join("absent.gguf")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io(_)), "{error}");
    let empty = dir.path().join("empty.gguf");
    fs::write(&empty, b"").unwrap();
    let error = Gguf::open(&empty).unwrap_err();
    assert!(error.to_string().ends_with("magic at byte 0: needs 4 bytes, but 0 are left"));
}

#[test]
fn a_file_of_the_reference_writer_reads_and_is_written_again_byte_for_byte() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gguf/reference.gguf");
    let model = Gguf::open(&path).unwrap();
    let m = model.metadata();
    assert_eq!(m.str("general.name").unwrap(), "reference");
    assert_eq!(m.u32("llama.block_count").unwrap(), 2);
    assert_eq!(m.f32("llama.attention.layer_norm_rms_epsilon").unwrap(), 1e-5);
    assert_eq!(m.strings("tokenizer.ggml.tokens").unwrap(), ["<s>", "grüße", "\u{2581}a"]);
    assert_eq!(m.f32s("tokenizer.ggml.scores").unwrap(), [0.0, -1.0, -2.5]);
    assert_eq!(*m.i32s("tokenizer.ggml.token_type").unwrap(), [3, 1, 1]);
    assert_eq!(m.get("test.i64"), Some(&Value::I64(-(1 << 40))));
    assert_eq!(m.u64("test.u64").unwrap(), 1 << 63);
    assert_eq!(m.get("test.f64"), Some(&Value::F64(0.1)));
    assert!(m.bool("test.bool").unwrap());
    assert_eq!(m.bools("test.bools").unwrap(), [true, false]);

    let half = model.tensor("half").unwrap();
    assert_eq!((half.dtype, half.n_dims, half.ne), (DType::F16, 2, [3, 2, 1, 1]));
    // 5.0 in f16, the last of six counting numbers.
    assert_eq!(model.data(half)[10..], [0x00, 0x45]);
    let quantised = model.tensor("quantised").unwrap();
    assert_eq!((quantised.dtype, quantised.ne), (DType::Q8_0, [64, 2, 1, 1]));
    assert_eq!(quantised.bytes, 4 * 34);

    let mut w = GgufWriter::new(m.clone());
    for info in model.tensors() {
        w.add_tensor(&info.name, info.dtype, &info.ne[..info.n_dims]).unwrap();
    }
    let mut stream = w.start(Vec::new()).unwrap();
    for info in model.tensors() {
        stream.write_tensor(&info.name, model.data(info)).unwrap();
    }
    assert!(stream.finish().unwrap() == fs::read(&path).unwrap(), "the copies differ");
}
