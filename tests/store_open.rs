//! Paths, the built-in model, and names in an Ollama store.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use gpuwhy::engine::model::Model;
use gpuwhy::engine::model::store::{
    ModelRef, StoreError, StoreOptions, builtin, builtin_prompt, ollama_models, open, parse,
};
use gpuwhy::engine::tokenizer::Tokenizer;

const MODEL_LAYER: &str = "application/vnd.ollama.image.model";

/// A store with models made of the built-in file.
struct Store {
    dir: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("blobs")).unwrap();
        Self { dir }
    }

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    fn blob(&self, digit: char) -> PathBuf {
        self.dir.path().join("blobs").join(Self::digest(digit).replace(':', "-"))
    }

    /// Writes a manifest; `path` is `REGISTRY/NAMESPACE/MODEL/TAG`.
    fn manifest(&self, path: &str, text: &str) {
        let path = self.dir.path().join("manifests").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Adds a model whose weights are the blob of this digit.
    fn model(&self, path: &str, digit: char) {
        let layers = [
            ("application/vnd.ollama.image.license", Self::digest('e')),
            (MODEL_LAYER, Self::digest(digit)),
        ];
        self.manifest(path, &manifest(&layers));
        fs::write(self.blob(digit), builtin()).unwrap();
    }

    fn options(&self) -> StoreOptions {
        // The first does not exist, which is no error.
        let dirs = vec![self.dir.path().join("none"), self.dir.path().to_owned()];
        StoreOptions { ollama_dirs: dirs, ..StoreOptions::default() }
    }

    fn open(&self, name: &str) -> Result<String, StoreError> {
        let gguf = open(&parse(Some(name)).unwrap(), &self.options(), &mut |_| {})?;
        Ok(gguf.name().to_owned())
    }
}

fn manifest(layers: &[(&str, String)]) -> String {
    let layers: Vec<String> = layers
        .iter()
        .map(|(kind, digest)| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1}}"#))
        .collect();
    format!(r#"{{"schemaVersion":2,"config":{{}},"layers":[{}]}}"#, layers.join(","))
}

#[test]
fn names_of_every_form_are_found() {
    let store = Store::new();
    store.model("registry.ollama.ai/library/llama3.2/3b", 'a');
    store.model("registry.ollama.ai/library/llama3.2/latest", 'b');
    store.model("registry.ollama.ai/me/mine/latest", 'c');
    store.model("hf.co/Some.One/Repo-GGUF/Q4_K_M", 'd');
    for (name, digit) in [
        ("llama3.2:3b", 'a'),
        ("Llama3.2:3B", 'a'),
        ("library/llama3.2:3b", 'a'),
        ("registry.ollama.ai/library/llama3.2:3b", 'a'),
        ("llama3.2", 'b'),
        ("me/mine", 'c'),
        ("hf.co/Some.One/Repo-GGUF:Q4_K_M", 'd'),
        ("hf.co/some.one/repo-gguf:q4_k_m", 'd'),
    ] {
        assert_eq!(Path::new(&store.open(name).unwrap()), store.blob(digit), "{name}");
    }
}

#[test]
fn models_are_listed_by_name_and_broken_ones_left_out() {
    let store = Store::new();
    store.model("registry.ollama.ai/me/mine/latest", 'c');
    store.model("registry.ollama.ai/library/llama3.2/3b", 'a');
    store.manifest("registry.ollama.ai/library/cloud/latest", &manifest(&[]));
    store.manifest("registry.ollama.ai/library/broken/latest", "{");
    store.manifest("registry.ollama.ai/library/.hidden", "");
    let models = ollama_models(&store.options().ollama_dirs).unwrap();
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["llama3.2:3b", "me/mine:latest"]);
    assert_eq!(models[0].size_bytes, builtin().len() as u64);
    assert_eq!(models[0].path, store.blob('a'));
    assert!(ollama_models(&[]).unwrap().is_empty());
}

#[test]
fn a_missing_model_names_where_it_was_looked_for_and_what_looks_like_it() {
    let store = Store::new();
    store.model("registry.ollama.ai/library/llama3.2/3b", 'a');
    let error = store.open("lama3.2:3b").unwrap_err();
    assert!(matches!(error, StoreError::NoOllamaModel { .. }));
    let text = error.to_string();
    assert!(text.contains("registry.ollama.ai/library/lama3.2:3b"), "{text}");
    assert!(text.contains(store.dir.path().to_str().unwrap()), "{text}");
    assert_eq!(error.hint().unwrap(), "similar names: llama3.2:3b");
    assert!(store.open("zzz").unwrap_err().hint().unwrap().contains("OLLAMA_MODELS"));

    let nowhere = open(&parse(Some("x")).unwrap(), &StoreOptions::default(), &mut |_| {});
    assert!(nowhere.unwrap_err().to_string().contains("no home folder is known"));
}

#[test]
fn a_manifest_is_not_trusted() {
    let store = Store::new();
    let outside = store.dir.path().join("outside.gguf");
    fs::write(&outside, builtin()).unwrap();
    let path = "registry.ollama.ai/library/x/latest";
    let layer = |digest: &str| manifest(&[(MODEL_LAYER, digest.to_owned())]);
    for (text, expected) in [
        ("{".to_owned(), "is no manifest"),
        (manifest(&[]), "no layer with weights"),
        (layer("sha256:../outside.gguf"), "is no digest"),
        (layer(&format!("sha256:{}", "A".repeat(64))), "is no digest"),
        (layer(&format!("sha256:{}", "a".repeat(63))), "is no digest"),
        (layer(&format!("sha512:{}", "a".repeat(64))), "is no digest"),
        (layer(&Store::digest('a')), "are missing"),
    ] {
        store.manifest(path, &text);
        let error = store.open("x").unwrap_err();
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains("latest"), "{message}");
        assert!(error.hint().unwrap().contains("ollama pull x:latest"));
    }
    fs::write(store.blob('a'), "not a model").unwrap();
    let error = store.open("x").unwrap_err();
    assert!(matches!(error, StoreError::Gguf(_)), "{error}");
}

#[test]
fn no_argument_means_the_built_in_model() {
    let gguf = open(&parse(None).unwrap(), &StoreOptions::default(), &mut |_| {}).unwrap();
    let tokenizer = Tokenizer::from_metadata(gguf.metadata()).unwrap();
    assert!(tokenizer.encode(builtin_prompt(), false, false).len() < 10);
    for tensor in gguf.tensors() {
        assert_eq!(gguf.data(tensor).as_ptr() as usize % 32, 0, "{}", tensor.name);
    }
    Model::load(gguf).unwrap();
}

#[test]
fn a_path_is_opened_whatever_it_is_called() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["model.gguf", "model.bin"] {
        let path = dir.path().join(name);
        fs::write(&path, builtin()).unwrap();
        let reference = parse(path.to_str()).unwrap();
        assert_eq!(reference, ModelRef::Path(path));
        assert!(open(&reference, &StoreOptions::default(), &mut |_| {}).is_ok());
    }
    let missing = parse(Some("no/such.gguf")).unwrap();
    let error = open(&missing, &StoreOptions::default(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("no/such.gguf"), "{error}");
}
