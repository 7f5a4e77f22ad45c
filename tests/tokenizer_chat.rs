//! Prompts against Python's Jinja2, set up as `transformers` sets it up.
//!
//! `fixtures/tokenizer/chat_golden.json` holds templates with the constructs of published ones,
//! conversations, and what Jinja2 made of them.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use gpuwhy::engine::tokenizer::chat::Message;
use gpuwhy::engine::tokenizer::{ChatError, ChatTemplate};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Golden {
    now_unix_s: i64,
    templates: BTreeMap<String, String>,
    conversations: BTreeMap<String, Vec<Value>>,
    extras: BTreeMap<String, Map<String, Value>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    extra: String,
    generate: bool,
    /// What Jinja2 rendered, or ...
    prompt: Option<String>,
    /// ... the message of `raise_exception`; neither when Jinja2 itself failed.
    refused: Option<String>,
}

#[test]
fn prompts_equal_jinja2() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizer/chat_golden.json");
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut wrong = String::new();
    assert!(golden.cases.len() > 80);
    for case in &golden.cases {
        let template = ChatTemplate::new(&golden.templates[&case.template], "<s>", "</s>")
            .unwrap_or_else(|error| panic!("{}: {error}", case.template))
            .at_time(golden.now_unix_s);
        let messages = &golden.conversations[&case.conversation];
        let result = template.render(messages, case.generate, &golden.extras[&case.extra]);
        let right = match (&result, &case.prompt, &case.refused) {
            (Ok(have), Some(want), None) => have == want,
            (Err(ChatError::Refused { message, line }), None, Some(want)) => {
                message == want && *line > 0
            }
            (Err(ChatError::Render { line, .. }), None, None) => *line > 0,
            _ => false,
        };
        if !right {
            let want = case.prompt.as_ref().or(case.refused.as_ref());
            let (name, conversation, extra) = (&case.template, &case.conversation, &case.extra);
            let have = result.map_err(|error| error.to_string());
            writeln!(wrong, "{name}, {conversation}, {extra}:\n want {want:?}\n have {have:?}")
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn error(source: &str) -> ChatError {
    match ChatTemplate::new(source, "", "") {
        Err(error) => error,
        Ok(template) => {
            template.render(&[Message::new("user", "hi")], true, &Map::new()).unwrap_err()
        }
    }
}

#[test]
fn errors_name_the_line() {
    let syntax = error("a\nb\n{% if %}\n");
    assert!(matches!(syntax, ChatError::Syntax { line: 3, .. }), "{syntax:?}");
    let unknown = error("a\n{{ messages | no_such_filter }}");
    assert!(matches!(unknown, ChatError::Render { line: 2, .. }), "{unknown:?}");
    let deep = error("a\n{{ nothing.at.all }}");
    assert!(matches!(deep, ChatError::Render { line: 2, .. }), "{deep:?}");
    let refused = error(
        "{% macro no() %}\n{{ raise_exception('Not like this') }}{% endmacro %}\n\n{{ no() }}",
    );
    let ChatError::Refused { line, message } = &refused else { panic!("{refused:?}") };
    assert_eq!((*line, message.as_str()), (2, "Not like this"));
}

/// A template comes from a file that nobody vouches for: it must not hang the program.
#[test]
fn a_template_that_loops_is_stopped() {
    let nested = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}\
                  {% endfor %}{% endfor %}{% endfor %}";
    assert!(matches!(error(nested), ChatError::Render { .. }));
}
