//! What must hold for every text and every sequence of tokens: round trips, and streams that equal
//! whole decodes.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

use std::path::Path;
use std::sync::LazyLock;

use gpuwhy::engine::tokenizer::{DecodeOptions, TokenType, Tokenizer, Vocab};
use proptest::prelude::*;
use serde_json::Value;

fn tokenizer(name: &str, pre: &str) -> Tokenizer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizer").join(name);
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let strings = |key: &str| -> Vec<String> {
        file[key].as_array().into_iter().flatten().map(|v| v.as_str().unwrap().into()).collect()
    };
    let list = |key: &str| file[key].as_array().cloned().unwrap_or_default();
    Tokenizer::new(Vocab {
        model: file["model"].as_str().unwrap().into(),
        pre: pre.into(),
        tokens: strings("tokens"),
        scores: list("scores").iter().map(|v| v.as_f64().unwrap() as f32).collect(),
        types: list("types")
            .iter()
            .map(|v| TokenType::from_number(v.as_i64().unwrap() as i32))
            .collect(),
        merges: strings("merges"),
        bos: Some(1),
        add_bos: Some(false),
        add_space_prefix: file["add_space_prefix"].as_bool(),
        ..Vocab::default()
    })
    .unwrap()
}

static ALL: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let mut all: Vec<_> =
        ["gpt-2", "llama-bpe", "tekken", "smollm", "deepseek-v3", "default", "viking"]
            .map(|pre| tokenizer("bpe.json", pre))
            .into();
    all.extend(["spm_prefix.json", "spm_plain.json"].map(|name| tokenizer(name, "")));
    all
});

/// Texts in which the classes that the rules distinguish meet often.
fn texts() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        4 => "[ \t\r\n\u{a0}\u{2028}\u{3000}]{1,4}",
        4 => "[a-zA-Zäßж中の한ǅ]{1,6}",
        2 => "[0-9٣½]{1,5}",
        2 => "[!-/:-@\\[-`{-~…“€]{1,4}",
        1 => "\u{301}|\u{93f}|👩\u{200d}👧|🇩🇪",
        1 => "'(s|S|ll|RE|ſ|d|x)",
        1 => "<\\|im_start\\|>|</think>|<s>|<0x0A>|\n\n\n",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_text_comes_back(text in texts(), arbitrary in ".{0,40}", special in any::<bool>()) {
        for tokenizer in &*ALL {
            for text in [&text, &arbitrary] {
                // U+2581 is SentencePiece's own way to write a space.
                let spm = tokenizer.vocab().model == "llama";
                let expected = if spm { text.replace('\u{2581}', " ") } else { text.clone() };
                let tokens = tokenizer.encode(text, false, special);
                let options = DecodeOptions { special: true, ..DecodeOptions::default() };
                prop_assert_eq!(tokenizer.decode_with(&tokens, options), expected);
            }
        }
    }

    /// Any tokens, valid or not, in any order: the stream's pieces joined are the decoding of all
    /// bytes, and each piece alone is final.
    #[test]
    fn a_stream_equals_the_whole(tokens in prop::collection::vec(0u32..1600, 0..60)) {
        for tokenizer in &*ALL {
            // After a control token SentencePiece's space goes; the whole bytes do not show that.
            let drops = tokenizer.vocab().add_space_prefix == Some(true);
            let tokens: Vec<u32> =
                tokens.iter().copied().filter(|&id| !(drops && tokenizer.is_special(id))).collect();
            let bytes = tokens.iter().map(|&id| tokenizer.piece(id)).collect::<Vec<_>>().concat();
            let options = DecodeOptions { continues: true, special: true };
            let mut stream = tokenizer.detokenizer(options);
            let mut text = String::new();
            for &token in &tokens {
                text.push_str(stream.push(token));
            }
            text.push_str(&stream.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
