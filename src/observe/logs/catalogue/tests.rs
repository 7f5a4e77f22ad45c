//! The patterns that come with the program, and what is refused.

use std::fs;
use std::path::Path;

use super::*;

#[test]
fn the_files_of_the_program_hold() {
    let (catalogue, file_of) = Catalogue::read(builtin::FILES.iter().copied()).unwrap();
    let faults: Vec<_> = catalogue.faults(&file_of).iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_file_of_patterns_is_part_of_the_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/engines");
    let names =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter(|n| n.contains(".toml") && !n.starts_with("settings")).collect();
    names.sort();
    let listed: Vec<_> = builtin::FILES.iter().map(|f| f.0).collect();
    assert_eq!(listed, names, "keep the list in catalogue/builtin.rs sorted and complete");
}

fn refused(text: &str) -> String {
    Catalogue::load([("test.toml", text)]).unwrap_err().to_string()
}

const A: &str = r#"
[[pattern]]
id = "a"
kind = "ignore"
literal = "layers"
regex = 'offloaded (?<n>\d+) layers'
[[pattern.sample]]
line = "offloaded 5 layers"
fields = { n = "5" }
"#;

#[test]
fn a_sound_file_is_taken() {
    Catalogue::load([("test.toml", A)]).unwrap();
}

#[test]
fn faults_are_refused_and_named() {
    let without_sample = A.split("[[pattern.sample]]").next().unwrap();
    assert!(refused(without_sample).contains("\"a\" has no sample"));
    let twice = refused(&format!("{A}{A}"));
    assert!(twice.contains("has an id that is taken"), "{twice}");
    let both = refused(&format!("{A}{}", A.replace("\"a\"", "\"b\"")));
    assert!(both.contains("matched by b"), "{both}");
    let none = refused(&A.replace("offloaded 5", "offloaded five"));
    assert!(none.contains("no pattern matches it"), "{none}");
    let field = refused(&A.replace("n = \"5\"", "n = \"6\""));
    assert!(field.contains("should be \"6\" and is Some(\"5\")"), "{field}");
    let kind = refused(&A.replace("\"ignore\"", "\"dance\""));
    assert!(kind.contains("unknown variant"), "{kind}");
    let literal = refused(&A.replace("\"layers\"", "\"no\""));
    assert!(literal.contains("needs a `literal`"), "{literal}");
    let notice = refused(&A.replace("\"ignore\"", "\"notice\""));
    assert!(notice.contains("does not say which"), "{notice}");
    let lost = refused(&A.replace("literal = \"layers\"", "literal = [\"layers\", \"GPU\"]"));
    assert!(lost.contains("no pattern matches it"), "{lost}");
}

/// An answer for one line must not be remembered for another whose digits make a difference.
#[test]
fn what_digits_decide_is_not_remembered() {
    let exact = A
        .replace("\"a\"", "\"exact\"")
        .replace("literal = \"layers\"", "literal = [\"layers\", \"offloaded\"]")
        .replace(r"offloaded (?<n>\d+) layers", "offloaded 35 layers");
    let both = format!("{exact}{A}");
    let (catalogue, _) = Catalogue::read([("test.toml", both.as_str())]).unwrap();
    let mut search = Search::default();
    let mut find = |line: &str| catalogue.find(line, &mut search).map(|p| p.id.clone());
    for _ in 0..2 {
        assert_eq!(find("offloaded 7 layers").as_deref(), Some("a"));
        assert_eq!(find("offloaded 35 layers").as_deref(), Some("exact"));
        assert_eq!(find("offloaded no layers"), None);
    }
}
