//! Models in the local store of Ollama: from a name to the file with the weights.
//!
//! A store has `manifests/REGISTRY/NAMESPACE/MODEL/TAG`, each a JSON document that lists layers by
//! digest, and `blobs/sha256-HEX` with their content; the layer with the weights is a GGUF file.
//! Nothing in a manifest is used as a path: a digest has to be 64 hexadecimal digits, and parts of
//! names have no characters that mean something to a file system.
//! Source: Ollama's `types/model/name.go` and `server/manifest.go`.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::close::close_names;
use super::error::StoreError;
use crate::engine::model::hparams::cut;

/// What Ollama takes for the parts that a name leaves out.
const REGISTRY: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";

/// The media type of the layer with the weights.
const MODEL_LAYER: &str = "application/vnd.ollama.image.model";

/// Manifests have a few hundred bytes; what is larger is none.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// A model of a local Ollama store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OllamaModel {
    /// The name as Ollama prints it, such as `llama3.2:3b`.
    pub name: String,
    /// Bytes of the file with the weights.
    pub size_bytes: u64,
    /// The file with the weights.
    pub path: PathBuf,
}

/// `[[REGISTRY/]NAMESPACE/]MODEL[:TAG]` with every part filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OllamaName {
    registry: String,
    namespace: String,
    model: String,
    tag: String,
}

impl OllamaName {
    /// Reads a name; the registry may have a scheme before it.
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let fault = |problem: String| StoreError::Argument { arg: cut(text), problem };
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (path, last) = rest.rsplit_once('/').map_or(("", rest), |(path, last)| (path, last));
        let (model, tag) = last.split_once(':').unwrap_or((last, TAG));
        let (registry, namespace) = match path.split_once('/') {
            Some(pair) => pair,
            None if rest.contains('/') => (REGISTRY, path),
            None => (REGISTRY, NAMESPACE),
        };
        for (part, what, extra) in [
            (registry, "registry", "-_.:"),
            (namespace, "namespace", "-_."),
            (model, "model name", "-_."),
            (tag, "tag", "-_."),
        ] {
            if !is_part(part, extra) {
                return Err(fault(format!("{:?} is no {what}", cut(part))));
            }
        }
        let [registry, namespace, model, tag] =
            [registry, namespace, model, tag].map(str::to_owned);
        Ok(Self { registry, namespace, model, tag })
    }

    /// The parts in the order of the folders.
    fn parts(&self) -> [&str; 4] {
        [&self.registry, &self.namespace, &self.model, &self.tag]
    }

    fn full(&self) -> String {
        format!("{}/{}/{}:{}", self.registry, self.namespace, self.model, self.tag)
    }
}

/// The name as Ollama prints it: without the parts it would fill in, but with the tag.
impl fmt::Display for OllamaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, namespace, model, tag } = self;
        if registry != REGISTRY {
            write!(f, "{registry}/{namespace}/")?;
        } else if namespace != NAMESPACE {
            write!(f, "{namespace}/")?;
        }
        write!(f, "{model}:{tag}")
    }
}

/// True for letters, digits and `extra`, beginning with a letter, a digit or `_`. So no part is
/// `.` or `..`, and none holds a separator.
fn is_part(part: &str, extra: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    part.len() <= 350
        && part.starts_with(plain)
        && part.chars().all(|c| plain(c) || extra.contains(c))
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

/// The file with the weights of the model `name`, from the first of `stores` that has it. As in
/// Ollama, case does not matter.
pub(super) fn find(name: &str, stores: &[PathBuf]) -> Result<PathBuf, StoreError> {
    let wanted = OllamaName::parse(name)?;
    let mut names = Vec::new();
    for store in stores {
        let in_store = names_in(store)?;
        let exact = in_store.iter().find(|found| **found == wanted);
        let same = |a: &OllamaName| {
            a.parts().iter().zip(wanted.parts()).all(|(a, b)| a.eq_ignore_ascii_case(b))
        };
        if let Some(found) = exact.or_else(|| in_store.iter().find(|found| same(found))) {
            return weights_of(store, found);
        }
        names.extend(in_store.iter().map(ToString::to_string));
    }
    let close = close_names(&wanted.to_string(), names.iter().map(String::as_str));
    let (name, full, searched) = (cut(name), wanted.full(), stores.to_vec());
    Err(StoreError::NoOllamaModel { name, full, searched, close })
}

/// Every model of these stores whose weights are there, by name. Models without weights of their
/// own (those that run elsewhere) and damaged ones are left out.
///
/// # Errors
/// When a store exists but cannot be read.
pub fn ollama_models(stores: &[PathBuf]) -> Result<Vec<OllamaModel>, StoreError> {
    let mut models: Vec<OllamaModel> = Vec::new();
    for store in stores {
        for name in names_in(store)? {
            let Ok(path) = weights_of(store, &name) else { continue };
            let Ok(file) = fs::metadata(&path) else { continue };
            let name = name.to_string();
            if models.iter().all(|model| model.name != name) {
                models.push(OllamaModel { name, size_bytes: file.len(), path });
            }
        }
    }
    models.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(models)
}

/// The names of all manifests of a store; none when there is no store.
fn names_in(store: &Path) -> Result<Vec<OllamaName>, StoreError> {
    let mut names = Vec::new();
    let root = store.join("manifests");
    for registry in entries(&root)? {
        for namespace in entries(&root.join(&registry))? {
            for model in entries(&root.join(&registry).join(&namespace))? {
                for tag in entries(&root.join(&registry).join(&namespace).join(&model))? {
                    let text = format!("{registry}/{namespace}/{model}:{tag}");
                    // What is not a name was not put there by Ollama.
                    names.extend(OllamaName::parse(&text));
                }
            }
        }
    }
    names.sort_by(|a, b| a.parts().cmp(&b.parts()));
    Ok(names)
}

/// The names in a folder; none when it does not exist or is no folder.
fn entries(dir: &Path) -> Result<Vec<String>, StoreError> {
    use io::ErrorKind::{NotADirectory, NotFound};
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(e) if matches!(e.kind(), NotFound | NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::io(dir, e)),
    };
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|e| StoreError::io(dir, e))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// The file that a model's manifest names for the weights.
fn weights_of(store: &Path, name: &OllamaName) -> Result<PathBuf, StoreError> {
    let path = name.parts().iter().fold(store.join("manifests"), |path, part| path.join(part));
    let fault = |problem: String| StoreError::Manifest {
        path: path.clone(),
        problem,
        pull: format!("ollama pull {name}"),
    };
    let mut text = Vec::new();
    let file = fs::File::open(&path).map_err(|e| StoreError::io(&path, e))?;
    file.take(MAX_MANIFEST_BYTES).read_to_end(&mut text).map_err(|e| StoreError::io(&path, e))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|e| fault(format!("is no manifest: {e}")))?;
    let layer = manifest.layers.iter().find(|layer| layer.media_type == MODEL_LAYER);
    let layer = layer.ok_or_else(|| fault("lists no layer with weights".to_owned()))?;
    let hex = layer.digest.strip_prefix("sha256:").filter(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    });
    let hex = hex.ok_or_else(|| fault(format!("{:?} is no digest", cut(&layer.digest))))?;
    let blob = store.join("blobs").join(format!("sha256-{hex}"));
    match blob.try_exists() {
        Ok(true) => Ok(blob),
        Ok(false) => Err(fault(format!("its weights {} are missing", blob.display()))),
        Err(e) => Err(StoreError::io(&blob, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        OllamaName::parse(text).unwrap().full()
    }

    #[test]
    fn missing_parts_are_filled_in() {
        assert_eq!(full("llama3.2"), "registry.ollama.ai/library/llama3.2:latest");
        assert_eq!(full("llama3.2:3b"), "registry.ollama.ai/library/llama3.2:3b");
        assert_eq!(full("me/mine"), "registry.ollama.ai/me/mine:latest");
        assert_eq!(full("hf.co/me/Mine-GGUF:Q4_K_M"), "hf.co/me/Mine-GGUF:Q4_K_M");
        assert_eq!(full("http://localhost:5000/me/mine:x"), "localhost:5000/me/mine:x");
    }

    #[test]
    fn names_print_as_ollama_prints_them() {
        for (text, shown) in [
            ("llama3.2", "llama3.2:latest"),
            ("registry.ollama.ai/library/x:1", "x:1"),
            ("me/mine", "me/mine:latest"),
            ("hf.co/me/mine:q", "hf.co/me/mine:q"),
        ] {
            assert_eq!(OllamaName::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn no_part_can_leave_its_folder() {
        for text in ["..", "../x", "a/../b", "x:..", "x:.", "/x", "x/", "a/b/c/d", "x:a/b", "x\\y"]
        {
            assert!(OllamaName::parse(text).is_err(), "{text}");
        }
    }
}
