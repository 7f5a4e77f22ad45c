//! Random files: valid ones read back as they were written; mutated ones parse or end in an error,
//! never in a panic, and never take more memory than their size warrants.

#![allow(clippy::unwrap_used, reason = "tests, whose helpers clippy does not know as such")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gpuwhy::engine::gguf::{Array, Gguf, GgufWriter, Metadata, Value};
use gpuwhy::engine::tensor::DType;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: Every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.with(|sum| sum.set(sum.get().saturating_add(layout.size())));
        // SAFETY: The caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: The caller's promises about `at` and `layout` are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that this thread asked for while `run` ran, freed or not.
fn allocated_by<T>(run: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATED.get();
    let result = run();
    (ALLOCATED.get() - before, result)
}

/// Parses hostile bytes, touches all that parsed, and checks the memory it took.
fn survive(bytes: &[u8]) -> Result<(), TestCaseError> {
    // An entry of a table takes some ten times its fewest bytes in the file, growing vectors count
    // twice, and tables are reserved for up to 4096 entries at first, if the file could hold them.
    let limit = 64 * bytes.len() + 16 * 1024;
    let (allocated, result) = allocated_by(|| Gguf::from_bytes("random", bytes));
    prop_assert!(allocated <= limit, "{allocated} bytes for a file of {}", bytes.len());
    match result {
        Ok(model) => {
            for info in model.tensors() {
                prop_assert_eq!(model.data(info).len() as u64, info.bytes);
            }
            for (key, value) in model.metadata().iter() {
                prop_assert_eq!(model.get(key).map(Value::describe), Some(value.describe()));
            }
        }
        Err(error) => prop_assert!(error.to_string().len() < 2000, "{error}"),
    }
    Ok(())
}

fn array() -> impl Strategy<Value = Array> {
    let leaf = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8),
        vec(any::<i8>(), 0..9).prop_map(Array::I8),
        vec(any::<u16>(), 0..9).prop_map(Array::U16),
        vec(any::<i16>(), 0..9).prop_map(Array::I16),
        vec(any::<u32>(), 0..9).prop_map(Array::U32),
        vec(any::<i32>(), 0..9).prop_map(Array::I32),
        vec(any::<f32>(), 0..9).prop_map(Array::F32),
        vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        vec(any::<String>(), 0..9).prop_map(Array::String),
        vec(any::<u64>(), 0..9).prop_map(Array::U64),
        vec(any::<i64>(), 0..9).prop_map(Array::I64),
        vec(any::<f64>(), 0..9).prop_map(Array::F64),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| vec(inner, 0..4).prop_map(Array::Array))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        array().prop_map(Value::from),
    ]
}

/// A random model: what goes in.
#[derive(Clone, Debug)]
struct Model {
    version_2: bool,
    alignment: u32,
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, DType, Vec<usize>)>,
    fill: u8,
}

fn model() -> impl Strategy<Value = Model> {
    let dtype = prop::sample::select(DType::WEIGHTS.to_vec());
    let shape = (dtype, 1usize..3, vec(1usize..4, 0..4));
    (
        any::<bool>(),
        0u32..8,
        btree_map("[a-z.ß]{0,20}", value(), 0..8),
        btree_map("[a-z0-9.]{0,30}", shape, 0..6),
        any::<u8>(),
    )
        .prop_map(|(version_2, log2, metadata, tensors, fill)| Model {
            version_2,
            alignment: 1 << log2,
            metadata: metadata.into_iter().collect(),
            tensors: tensors
                .into_iter()
                .map(|(name, (dtype, blocks, more))| {
                    let ne0 = blocks * dtype.block_len();
                    (name, dtype, [vec![ne0], more].concat())
                })
                .collect(),
            fill,
        })
}

impl Model {
    fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new();
        for (key, value) in &self.metadata {
            metadata.set(key, value.clone());
        }
        metadata.set("general.alignment", self.alignment);
        metadata
    }

    fn data(&self, i: usize, bytes: u64) -> Vec<u8> {
        (0..bytes).map(|at| self.fill.wrapping_add(at as u8).wrapping_mul(i as u8 + 1)).collect()
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = GgufWriter::new(self.metadata());
        if self.version_2 {
            writer = writer.version_2();
        }
        for (name, dtype, ne) in &self.tensors {
            writer.add_tensor(name, *dtype, ne).unwrap();
        }
        let specs = writer.tensors().to_vec();
        let mut stream = writer.start(Vec::new()).unwrap();
        for (i, spec) in specs.iter().enumerate() {
            stream.write_tensor(&spec.name, &self.data(i, spec.bytes)).unwrap();
        }
        stream.finish().unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_was_written_reads_back(model in model()) {
        let read = Gguf::from_bytes("random", model.to_bytes()).unwrap();
        prop_assert_eq!(read.version(), if model.version_2 { 2 } else { 3 });
        prop_assert_eq!(read.metadata(), &model.metadata());
        prop_assert_eq!(read.tensors().len(), model.tensors.len());
        for (i, (info, (name, dtype, ne))) in read.tensors().iter().zip(&model.tensors).enumerate() {
            prop_assert_eq!((&info.name, info.dtype, info.n_dims), (name, *dtype, ne.len()));
            prop_assert_eq!(&info.ne[..info.n_dims], &ne[..]);
            prop_assert_eq!(info.n_elements(), ne.iter().product::<usize>());
            prop_assert_eq!(info.offset % u64::from(model.alignment), 0);
            prop_assert_eq!(read.data(info), model.data(i, info.bytes));
        }
    }

    #[test]
    fn flipped_bytes_are_survived(
        model in model(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = model.to_bytes();
        for (at, to) in flips {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        survive(&bytes)?;
    }

    #[test]
    fn lengths_overwritten_with_extremes_are_survived(
        model in model(),
        at in any::<prop::sample::Index>(),
        to in prop::sample::select(vec![0u64, 1, 0xffff, 1 << 31, 1 << 32, 1 << 60, 1 << 63, !0]),
    ) {
        let mut bytes = model.to_bytes();
        let at = at.index(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&to.to_le_bytes());
        survive(&bytes)?;
    }

    #[test]
    fn cut_and_spliced_files_are_survived(
        a in model(),
        b in model(),
        cut in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
    ) {
        let (a, b) = (a.to_bytes(), b.to_bytes());
        let head = &a[..cut.index(a.len())];
        survive(head)?;
        survive(&[head, &b[from.index(b.len())..]].concat())?;
    }

    #[test]
    fn noise_after_a_good_start_is_survived(
        tensors in 0u64..4, metadata in 0u64..4, noise in vec(any::<u8>(), 0..600),
    ) {
        let start = [&b"GGUF\x03\0\0\0"[..], &tensors.to_le_bytes(), &metadata.to_le_bytes()];
        survive(&[&start.concat(), &noise[..]].concat())?;
    }
}

#[test]
fn a_claim_that_the_file_could_hold_reserves_little() {
    // 2^20 strings could stand in the 8 MiB that follow, but the first one is broken.
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend([0u64.to_le_bytes(), 1u64.to_le_bytes(), 1u64.to_le_bytes()].concat());
    bytes.push(b'k');
    bytes.extend([9u32.to_le_bytes(), 8u32.to_le_bytes()].concat());
    bytes.extend((1u64 << 20).to_le_bytes());
    bytes.extend(u64::MAX.to_le_bytes());
    bytes.resize(bytes.len() + (8 << 20), 0);
    let parse = gpuwhy::engine::gguf::header::parse;
    let (allocated, result) = allocated_by(|| parse(&bytes, bytes.len() as u64, "claim"));
    assert!(result.is_err());
    assert!(allocated < 1 << 20, "{allocated} bytes");
}
