//! Any bytes as a GGUF file: they parse, or they end in an error that can be printed.
//!
//! What parses is used as a model would use it: every getter on every key, the ends of every
//! tensor's data, and a second pass through the writer, whose output has to read back equal.

#![no_main]

use std::collections::HashSet;
use std::hint::black_box;

use gpuwhy::engine::gguf::{Gguf, GgufError, GgufWriter, Metadata, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    header_alone(bytes);
    match Gguf::from_bytes("fuzz", bytes) {
        Err(error) => show(&error),
        Ok(model) => {
            read_metadata(model.metadata());
            read_tensors(&model, bytes.len() as u64);
            write_again(&model);
        }
    }
});

/// Errors must be printable, and short whatever the names in the file are.
fn show(error: &GgufError) {
    let message = error.to_string();
    assert!(message.len() < 2000, "{message}");
    assert!(!message.contains('\u{1b}'), "{message:?}");
    black_box((error.hint(), error.offset()));
}

/// A header without its data, as a planner reads it; and one of a file that claims to be shorter
/// than its header.
fn header_alone(bytes: &[u8]) {
    if let Ok(header) = header::parse(bytes, u64::MAX, "fuzz") {
        for info in &header.tensors {
            assert!(info.offset.checked_add(info.bytes).is_some());
            assert!(info.n_elements() > 0 && info.n_rows() > 0);
        }
    }
    if let Err(error) = header::parse(bytes, bytes.len() as u64 / 2, "fuzz") {
        show(&error);
    }
}

/// Calls every getter on every key.
fn read_metadata(metadata: &Metadata) {
    let mut keys = HashSet::new();
    for (key, value) in metadata.iter() {
        assert!(keys.insert(key), "duplicate key {key:?}");
        assert_eq!(metadata.get(key).map(|v| v.value_type()), Some(value.value_type()));
        black_box(value.describe());
        let results = [
            metadata.str(key).err(),
            metadata.bool(key).err(),
            metadata.u32(key).err(),
            metadata.u64(key).err(),
            metadata.i32(key).err(),
            metadata.f32(key).err(),
            metadata.strings(key).err(),
            metadata.f32s(key).err(),
            metadata.bools(key).err(),
            metadata.i32s(key).err(),
            metadata.u32s(key).err(),
        ];
        results.iter().flatten().for_each(show);
    }
    assert!(metadata.opt_str("\u{1}absent").is_ok() || keys.contains("\u{1}absent"));
}

/// Reads the first and the last byte of every tensor, and checks that no two share a byte.
fn read_tensors(model: &Gguf, file_len: u64) {
    let mut ranges = Vec::new();
    for info in model.tensors() {
        let data = model.data(info);
        assert_eq!(data.len() as u64, info.bytes);
        black_box((data[0], data[data.len() - 1]));
        assert_eq!(model.tensor(&info.name), Some(info));
        assert!(info.offset + info.bytes <= file_len);
        ranges.push((info.offset, info.offset + info.bytes));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
}

/// Writes what was read and reads it again.
fn write_again(model: &Gguf) {
    let mut writer = GgufWriter::new(model.metadata().clone());
    for info in model.tensors() {
        // The reader takes names one byte longer than the writer makes.
        if writer.add_tensor(&info.name, info.dtype, &info.ne[..info.n_dims]).is_err() {
            assert_eq!(info.name.len(), 64);
            return;
        }
    }
    let mut stream = writer.start(Vec::new()).expect("what was read can be written");
    for info in model.tensors() {
        stream.write_tensor(&info.name, model.data(info)).expect("sizes agree");
    }
    let bytes = stream.finish().expect("all tensors were written");
    let again = Gguf::from_bytes("again", bytes).expect("what was written can be read");
    assert_eq!(again.metadata().len(), model.metadata().len());
    assert_eq!(again.tensors().len(), model.tensors().len());
    for (a, b) in again.tensors().iter().zip(model.tensors()) {
        assert_eq!((&a.name, a.dtype, a.ne, a.n_dims), (&b.name, b.dtype, b.ne, b.n_dims));
        assert_eq!(again.data(a), model.data(b));
    }
}
