//! Headers built byte by byte, each broken in one place: every check has its error, which names
//! the file, the field and the byte.

#![allow(clippy::unwrap_used, reason = "tests, whose helpers clippy does not know as such")]

use gpuwhy::engine::gguf::header::{self, Header};
use gpuwhy::engine::gguf::{ErrorKind, GgufError};

/// Bytes of a header, appended field by field.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    /// Magic, version 3 and the counts.
    fn start(tensors: u64, metadata: u64) -> Self {
        Self::default().raw(b"GGUF").u32(3).u64(tensors).u64(metadata)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, v: u32) -> Self {
        self.raw(&v.to_le_bytes())
    }

    fn u64(self, v: u64) -> Self {
        self.raw(&v.to_le_bytes())
    }

    fn text(self, text: &[u8]) -> Self {
        self.u64(text.len() as u64).raw(text)
    }

    /// A key with the type of the value that follows.
    fn key(self, name: &str, value_type: u32) -> Self {
        self.text(name.as_bytes()).u32(value_type)
    }

    /// A tensor's entry.
    fn tensor(self, name: &str, ne: &[u64], ggml_type: u32, offset: u64) -> Self {
        let head = self.text(name.as_bytes()).u32(ne.len() as u32);
        ne.iter().fold(head, |bytes, &n| bytes.u64(n)).u32(ggml_type).u64(offset)
    }

    /// The padding, then `len` bytes of data.
    fn data(mut self, len: usize) -> Self {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + len, 0xda);
        self
    }

    fn parse(&self) -> Result<Header, GgufError> {
        header::parse(&self.0, self.0.len() as u64, "bad.gguf")
    }

    /// Parses, and requires an error of exactly this message.
    #[track_caller]
    fn fails(&self, message: &str) -> GgufError {
        let error = self.parse().expect_err("the header is broken");
        assert_eq!(error.to_string(), format!("bad.gguf: {message}"));
        error
    }
}

const U8: u32 = 0;
const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const F32: u32 = 0;
const Q4_K: u32 = 12;

#[test]
fn the_untouched_header_parses() {
    let header = Bytes::start(2, 1)
        .key("k", U32)
        .u32(7)
        .tensor("a", &[8], F32, 0)
        .tensor("b", &[256, 2], Q4_K, 32)
        .data(32 + 288)
        .parse()
        .unwrap();
    assert_eq!(header.metadata.u32("k").unwrap(), 7);
    assert_eq!(header.tensors[1].bytes, 288);
    assert_eq!(header.tensors[1].offset, header.data_start + 32);
}

#[test]
fn other_files_and_other_versions() {
    let magic = Bytes::default().raw(b"PK\x03\x04 and so on");
    magic.fails(
        "magic at byte 0: not a GGUF file: it starts with the bytes 50 4b 03 04, not with \"GGUF\"",
    );
    let pointer = Bytes::default().raw(b"version https://git-lfs.github.com/spec/v1\n");
    let error = pointer
        .fails("magic at byte 0: not a GGUF file: it starts with \"vers\", not with \"GGUF\"");
    assert!(error.hint().unwrap().contains("git lfs pull"));

    let turned = Bytes::default().raw(b"GGUF\0\0\0\x03").u64(0).u64(0);
    let big = "the file is big-endian; only little-endian files are supported";
    turned.fails(&format!("version at byte 4: {big}"));
    Bytes::default().raw(b"FUGG\0\0\0\x03").fails(&format!("magic at byte 0: {big}"));
    for version in [0, 1, 4, 4711] {
        let error = Bytes::default().raw(b"GGUF").u32(version).u64(0).u64(0).fails(&format!(
            "version at byte 4: version {version} is not supported; versions 2 and 3 are"
        ));
        assert!(error.hint().is_some());
    }
}

#[test]
fn truncated_at_any_byte() {
    let whole = Bytes::start(1, 4)
        .key("n", U32)
        .u32(7)
        .key("s", STRING)
        .text(b"text")
        .key("b", BOOL)
        .raw(&[1])
        .key("a", ARRAY)
        .u32(STRING)
        .u64(2)
        .text(b"x")
        .text(b"yz")
        .tensor("t", &[4, 2], F32, 0)
        .data(32);
    whole.parse().unwrap();
    for len in 0..whole.0.len() {
        let error = Bytes(whole.0[..len].to_vec()).parse().expect_err("cut short");
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Truncated { .. }
                    | ErrorKind::Count { .. }
                    | ErrorKind::OutOfRange { .. }
            ),
            "{len}: {error}"
        );
        assert!(error.offset().unwrap() <= len as u64, "{len}: {error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn counts_that_the_file_cannot_hold() {
    Bytes::start(u64::MAX, 0).data(64).fails(
        "tensor count at byte 8: claims 18446744073709551615 entries, which cannot fit into the \
         80 bytes left",
    );
    Bytes::start(0, 1 << 60).data(64).fails(
        "metadata count at byte 16: claims 1152921504606846976 entries, which cannot fit into the \
         72 bytes left",
    );
    for element in [0, 4, 6, 7, 8, 9, 12] {
        let array = Bytes::start(0, 1).key("k", ARRAY).u32(element).u64(1 << 61).data(64);
        array.fails(
            "metadata key \"k\" at byte 41: claims 2305843009213693952 entries, which cannot fit \
             into the 79 bytes left",
        );
    }
    // Twelve bytes are left, which is one element short of four floats.
    let array = Bytes::start(0, 1).key("k", ARRAY).u32(6).u64(4).raw(&[0; 12]);
    array.fails(
        "metadata key \"k\" at byte 41: claims 4 entries, which cannot fit into the 12 bytes left",
    );
}

#[test]
fn strings_that_are_too_long() {
    Bytes::start(0, 1)
        .key("k", STRING)
        .u64(1 << 62)
        .raw(b"abc")
        .fails("metadata key \"k\" at byte 45: needs 4611686018427387904 bytes, but 3 are left");
    let key = "k".repeat(65_536);
    Bytes::start(0, 1)
        .key(&key, U8)
        .raw(&[0])
        .fails("name of metadata key 0 at byte 24: is 65536 bytes long; at most 65535 are allowed");
    let name = "n".repeat(65);
    Bytes::start(1, 0)
        .tensor(&name, &[1], F32, 0)
        .data(4)
        .fails("name of tensor 0 at byte 24: is 65 bytes long; at most 64 are allowed");
    Bytes::start(1, 0).tensor(&name[..64], &[1], F32, 0).data(4).parse().unwrap();
}

#[test]
fn text_that_is_not_utf_8() {
    let broken = b"ab\xff";
    let says = "is not valid UTF-8 (after 2 valid bytes)";
    let key = Bytes::start(0, 1).text(broken).u32(U8).raw(&[0]);
    key.fails(&format!("name of metadata key 0 at byte 24: {says}"));
    let value = Bytes::start(0, 1).key("k", STRING).text(broken);
    value.fails(&format!("metadata key \"k\" at byte 37: {says}"));
    let element = Bytes::start(0, 1).key("k", ARRAY).u32(STRING).u64(2).text(b"ok").text(broken);
    element.fails(&format!("metadata key \"k\", element 1 at byte 59: {says}"));
    let name = Bytes::start(1, 0).text(broken).u32(1).u64(1).u32(F32).u64(0).data(4);
    name.fails(&format!("name of tensor 0 at byte 24: {says}"));
}

#[test]
fn names_that_appear_twice() {
    let keys = Bytes::start(0, 2).key("k", U8).raw(&[0]).key("k", U8).raw(&[0]);
    keys.fails("metadata key \"k\" at byte 38: appears twice; first at byte 24");
    let tensors = Bytes::start(2, 0).tensor("t", &[1], F32, 0).tensor("t", &[1], F32, 32).data(36);
    tensors.fails("name of tensor 1 (\"t\") at byte 57: there are two tensors of this name");
}

#[test]
fn values_that_do_not_exist() {
    Bytes::start(0, 1)
        .key("k", 13)
        .u64(0)
        .fails("metadata key \"k\" at byte 33: unknown value type 13");
    let element = Bytes::start(0, 1).key("k", ARRAY).u32(13).u64(0);
    element.fails("metadata key \"k\" at byte 37: unknown value type 13");
    let flag = Bytes::start(0, 1).key("k", BOOL).raw(&[2]);
    flag.fails("metadata key \"k\" at byte 37: a bool must be 0 or 1, found 2");
    let flags = Bytes::start(0, 1).key("k", ARRAY).u32(BOOL).u64(3).raw(&[0, 1, 255]);
    flags.fails("metadata key \"k\", element 2 at byte 51: a bool must be 0 or 1, found 255");
}

#[test]
fn arrays_nest_to_a_limit() {
    let nested = |levels: usize| {
        let outer = Bytes::start(0, 1).key("k", ARRAY);
        (1..levels).fold(outer, |b, _| b.u32(ARRAY).u64(1)).u32(U8).u64(1).raw(&[7])
    };
    nested(4).parse().unwrap();
    nested(5).fails("metadata key \"k\", element 0 at byte 85: arrays nest deeper than 4 levels");
    assert!(nested(100_000).parse().is_err());
}

#[test]
fn alignments_that_make_no_sense() {
    for alignment in [0, 3, 24, 1 << 21, u32::MAX] {
        Bytes::start(0, 1).key("general.alignment", U32).u32(alignment).fails(&format!(
            "metadata key \"general.alignment\" at byte 24: the alignment must be a power of two \
             up to 1048576, found {alignment}"
        ));
    }
    Bytes::start(0, 1).key("general.alignment", STRING).text(b"32").fails(
        "metadata key \"general.alignment\" at byte 24: expected an unsigned integer, found string",
    );
}

#[test]
fn shapes_that_make_no_sense() {
    let dims = |ne: &[u64], ggml_type| Bytes::start(1, 0).tensor("t", ne, ggml_type, 0).data(64);
    let place = "dimensions of tensor \"t\" at byte";
    dims(&[], F32).data(64).fails(&format!("{place} 33: a tensor has 1 to 4 dimensions, found 0"));
    dims(&[1; 5], F32).fails(&format!("{place} 33: a tensor has 1 to 4 dimensions, found 5"));
    dims(&[4, 0], F32).fails(&format!("{place} 37: dimension 1 is zero"));
    dims(&[1 << 33, 1 << 33], F32)
        .fails(&format!("{place} 37: the size overflows: [8589934592, 8589934592, 1, 1]"));
    dims(&[u64::MAX], F32)
        .fails(&format!("{place} 37: the size overflows: [18446744073709551615, 1, 1, 1]"));
    dims(&[100], Q4_K)
        .fails(&format!("{place} 37: rows of 100 elements cannot be cut into Q4_K blocks of 256"));
}

#[test]
fn tensor_types_that_cannot_be_read() {
    let error = Bytes::start(1, 0).tensor("blk.0.ffn_up.weight", &[256], 19, 0).data(64).fails(
        "type of tensor \"blk.0.ffn_up.weight\" at byte 63: type IQ1_S (ggml id 19) is not \
             supported",
    );
    assert!(error.hint().unwrap().contains("Q4_K_M"));
    Bytes::start(1, 0)
        .tensor("t", &[256], 999, 0)
        .data(64)
        .fails("type of tensor \"t\" at byte 45: type with ggml id 999 is not supported");
}

#[test]
fn tensors_in_the_wrong_place() {
    let at = |offset| Bytes::start(1, 0).tensor("t", &[8], F32, offset).data(64);
    let place = "offset of tensor \"t\" at byte 49";
    at(0).parse().unwrap();
    at(32).parse().unwrap();
    at(33).fails(&format!("{place}: offset 33 is not a multiple of the alignment 32"));
    for offset in [64, 1 << 40, u64::MAX - 31] {
        let start = 64u64.saturating_add(offset);
        at(offset).fails(&format!(
            "{place}: 32 bytes at {offset} of the data section (byte {start} of the file) reach \
             past the end of the file at 128"
        ));
    }
    // One byte short.
    let mut short = at(32);
    short.0.pop();
    assert!(matches!(short.parse().unwrap_err().kind(), ErrorKind::OutOfRange { .. }));

    let two = |first, second| {
        Bytes::start(2, 0).tensor("a", &[9], F32, first).tensor("b", &[8], F32, second).data(96)
    };
    two(0, 64).parse().unwrap();
    two(32, 0).parse().unwrap();
    two(0, 32).fails("data of tensor \"b\" at byte 128: shares bytes with tensor \"a\"");
    two(0, 0).fails("data of tensor \"b\" at byte 96: shares bytes with tensor \"a\"");
}

#[test]
fn names_cannot_drive_the_terminal() {
    let error = Bytes::start(0, 1).key("\u{1b}[2J\n", 99).parse().unwrap_err().to_string();
    assert_eq!(error, r#"bad.gguf: metadata key "\u{1b}[2J\n" at byte 37: unknown value type 99"#);
}

#[test]
fn a_header_without_data_serves_a_planner() {
    let bytes = Bytes::start(1, 0).tensor("t", &[1 << 40], F32, 0);
    let header = header::parse(&bytes.0, u64::MAX, "header").unwrap();
    assert_eq!(header.tensors[0].bytes, 1 << 42);
    assert!(bytes.parse().is_err());
}
