//! Structured lines of every form.

use super::*;

fn read(text: &str) -> Vec<(String, String)> {
    let mut pairs = Pairs::default();
    if !pairs.read(text) {
        return Vec::new();
    }
    let of = |p: &Pair| {
        let mut value = String::new();
        if !p.text_into(text, &mut value) {
            value = text[p.value.clone()].to_string();
        }
        (text[p.key.clone()].to_string(), value)
    };
    pairs.iter().map(of).collect()
}

fn has(found: &[(String, String)], key: &str, value: &str) -> bool {
    found.iter().any(|(k, v)| k == key && v == value)
}

#[test]
fn words_quotes_and_quoted_keys() {
    let found = read(concat!(
        r#"time=2025-02-15T16:25:02.007Z level=INFO msg="gpu \"x\" \u00e9" "model layers"=37 "#,
        r#""total vram"="0 B" empty="" split=11,11"#
    ));
    assert!(has(&found, "msg", "gpu \"x\" é"));
    assert!(has(&found, "model layers", "37"));
    assert!(has(&found, "total vram", "0 B"));
    assert!(has(&found, "empty", ""));
    assert!(has(&found, "split", "11,11"));
}

#[test]
fn brackets_may_hold_spaces() {
    let found = read("level=INFO msg=load request={A:1 B:[x y] C:} envs=map[K:a b L:] size=3");
    assert!(has(&found, "request", "{A:1 B:[x y] C:}"));
    assert!(has(&found, "envs", "map[K:a b L:]"));
    assert!(has(&found, "size", "3"));
}

#[test]
fn the_older_forms_have_a_message_too() {
    let found = read(r#"routes.go:1187: INFO server config env="map[A:1 B:]""#);
    assert!(has(&found, "", "server config"));
    assert!(has(&found, "env", "map[A:1 B:]"));
    let found = read("llama.go:239: 8192 MiB VRAM available, loading up to 71 GPU layers");
    assert!(has(&found, "", "8192 MiB VRAM available, loading up to 71 GPU layers"));
    let found = read(r#"INFO [update_slots] input truncated | n_ctx=2048 tid="1 2" timestamp=3"#);
    assert!(has(&found, "", "input truncated"));
    assert!(has(&found, "tid", "1 2"));
}

#[test]
fn a_cut_line_is_open() {
    let mut pairs = Pairs::default();
    assert!(pairs.read(r#"level=INFO msg="starting" cmd="/usr/bin/ollama runner --mod"#));
    assert!(pairs.open);
    assert!(pairs.read(r#"level=INFO msg="starting" cmd=x"#));
    assert!(!pairs.open);
}

#[test]
fn maps_are_cut_at_names() {
    let map = "map[A_B:1 HOST:http://0.0.0.0:11434 LIST:[http://a https://b:*] EMPTY: LAST:a b c]";
    let found = go_map(map);
    let wanted = [
        ("A_B", "1"),
        ("HOST", "http://0.0.0.0:11434"),
        ("LIST", "[http://a https://b:*]"),
        ("EMPTY", ""),
        ("LAST", "a b c"),
    ];
    assert_eq!(found, wanted);
    // A name of one letter is not taken for one: drive letters would be.
    assert_eq!(go_map("map[DIR:C:\\x y D:\\z K2:v]"), [("DIR", "C:\\x y D:\\z"), ("K2", "v")]);
}
