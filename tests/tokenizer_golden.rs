//! Token ids against reference implementations, text for text.
//!
//! `fixtures/tokenizer/golden.json` holds what SentencePiece, Hugging Face `tokenizers` and
//! llama.cpp gave for small vocabularies; `fixtures/tokenizer/README.md` tells how it was made.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use gpuwhy::engine::tokenizer::{DecodeOptions, TokenType, Tokenizer, Vocab};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    vocab: String,
    pre: String,
    reference: String,
    /// Ids per text with `parse_special` off.
    plain: Vec<Vec<u32>>,
    /// Ids with `parse_special` on, for the texts where they differ from `plain`; `None` where the
    /// reference does not read control tokens from text.
    special: Option<BTreeMap<usize, Vec<u32>>>,
}

#[derive(Deserialize)]
struct VocabFile {
    model: String,
    tokens: Vec<String>,
    #[serde(default)]
    scores: Vec<f32>,
    types: Vec<i32>,
    #[serde(default)]
    merges: Vec<String>,
    bos: u32,
    eos: u32,
    unk: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: Option<bool>,
}

fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizer").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn tokenizer(vocab: &str, pre: &str) -> Tokenizer {
    let file: VocabFile = fixture(&format!("{vocab}.json"));
    let tokenizer = Tokenizer::new(Vocab {
        model: file.model,
        pre: pre.to_owned(),
        tokens: file.tokens,
        scores: file.scores,
        types: file.types.into_iter().map(TokenType::from_number).collect(),
        merges: file.merges,
        bos: Some(file.bos),
        eos: Some(file.eos),
        unk: file.unk,
        add_bos: Some(file.add_bos),
        add_eos: Some(file.add_eos),
        add_space_prefix: file.add_space_prefix,
        ..Vocab::default()
    })
    .unwrap();
    assert_eq!(tokenizer.notes(), <[String; 0]>::default(), "{vocab} {pre}");
    tokenizer
}

fn spell(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    ids.iter().fold(String::new(), |mut out, &id| {
        write!(out, "{:?} ", tokenizer.token_text(id).unwrap_or("?")).unwrap();
        out
    })
}

#[test]
fn ids_equal_the_reference() {
    let golden: Golden = fixture("golden.json");
    let mut wrong = String::new();
    let mut compared = 0;
    for case in &golden.cases {
        let tokenizer = tokenizer(&case.vocab, &case.pre);
        assert_eq!(case.plain.len(), golden.texts.len());
        for (i, text) in golden.texts.iter().enumerate() {
            for special in [false, true] {
                let expected = match &case.special {
                    _ if !special => &case.plain[i],
                    Some(differing) => differing.get(&i).unwrap_or(&case.plain[i]),
                    None => continue,
                };
                let ids = tokenizer.encode(text, false, special);
                compared += ids.len();
                if &ids != expected {
                    writeln!(
                        wrong,
                        "{} ({}), text {i} {text:?}, special {special}:\n  want {}\n  have {}",
                        case.name,
                        case.reference,
                        spell(&tokenizer, expected),
                        spell(&tokenizer, &ids)
                    )
                    .unwrap();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(compared > 80_000, "only {compared} tokens were compared");
}

#[test]
fn every_text_comes_back() {
    let golden: Golden = fixture("golden.json");
    for case in golden.cases.iter().filter(|case| case.vocab != "spm_unk") {
        let tokenizer = tokenizer(&case.vocab, &case.pre);
        for text in &golden.texts {
            // U+2581 is SentencePiece's own way to write a space.
            let spm = tokenizer.vocab().model == "llama";
            let expected = if spm { text.replace('\u{2581}', " ") } else { text.clone() };
            let plain = tokenizer.encode(text, true, false);
            assert_eq!(tokenizer.decode(&plain), expected, "{}", case.name);
            let parsed = tokenizer.encode(text, false, true);
            let options = DecodeOptions { special: true, ..DecodeOptions::default() };
            assert_eq!(tokenizer.decode_with(&parsed, options), expected, "{}", case.name);
        }
    }
}

/// What the vocabulary cannot express becomes one `unk` per run, as in SentencePiece.
#[test]
fn unknown_characters_without_byte_tokens() {
    let tokenizer = tokenizer("spm_unk", "default");
    let unk = tokenizer.vocab().unk.unwrap();
    let ids = tokenizer.encode("a\u{10348}\u{10348}b", false, false);
    assert_eq!(ids.iter().filter(|&&id| id == unk).count(), 1);
    assert_eq!(tokenizer.decode(&ids), "ab");
}

#[test]
fn beginning_of_sequence_and_ends() {
    let spm = tokenizer("spm_prefix", "default");
    let (bos, eos) = (spm.vocab().bos.unwrap(), spm.vocab().eos.unwrap());
    assert_eq!(spm.encode("", true, false), [bos]);
    assert_eq!(spm.encode("", false, false), <[u32; 0]>::default());
    assert!(spm.is_eog(eos) && !spm.is_eog(bos));
    let bpe = tokenizer("bpe", "llama-bpe");
    let ends: Vec<_> =
        bpe.end_of_generation().iter().map(|&id| bpe.token_text(id).unwrap()).collect();
    assert_eq!(ends, ["<|end_of_text|>", "<|eot_id|>", "<|im_end|>"]);
}
