//! Ollama, by its own interface.
//!
//! Source of the paths and fields: Ollama's docs/api.md and api/types.go; fields that older releases
//! lack are optional. A generation is raw, without the model's template, and tells counts and times of
//! Ollama's own at its end; the pieces of its text do not say how many tokens they are.

use serde_json::{Value, json};

use super::generation::{Ask, Generate, Generation, Prompt, ServerTimes, check_pieces};
use super::http::{Client, HttpError, Method, error_in};
use super::json::{count, elements, number, text, text_or_empty};
use super::stream::Framing;
use crate::base::clock::now_ns;

/// What Ollama tells of any model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelDetails {
    /// `llama`, `qwen2`.
    pub family: String,
    /// `gguf`.
    pub format: String,
    /// Like `Q4_K_M`.
    pub quantization: String,
    /// Like `3.2B`.
    pub parameter_size: String,
}

/// A loaded model, from `/api/ps`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningModel {
    /// Its name with tag.
    pub name: String,
    /// SHA-256 of its manifest.
    pub digest: String,
    /// Bytes that it takes, on GPUs and beside them.
    pub bytes: Option<u64>,
    /// Of these, the ones on GPUs.
    pub vram_bytes: Option<u64>,
    /// Tokens of context that it was loaded with, in releases that tell.
    pub context_tokens: Option<u64>,
    /// When it will be unloaded, as Ollama writes it.
    pub expires_at: String,
    /// What it is.
    pub details: ModelDetails,
}

/// What `/api/show` tells of a model, loaded or not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// What it is.
    pub details: ModelDetails,
    /// Lines of the Modelfile that set parameters.
    pub parameters: String,
    /// The file of its weights, on the server's machine.
    pub file: String,
    /// The context for which it was trained.
    pub train_context_tokens: Option<u64>,
    /// Layers.
    pub layers: Option<u64>,
    /// Parameters.
    pub params: Option<u64>,
    /// `completion`, `tools`, `vision`.
    pub capabilities: Vec<String>,
}

/// A client of one Ollama.
#[derive(Clone, Debug)]
pub struct Ollama {
    client: Client,
    model: String,
    context_tokens: Option<u32>,
}

impl Ollama {
    /// A client of the Ollama that `client` reaches, for `model`; what concerns no model needs no
    /// name of one.
    pub fn new(client: Client, model: &str) -> Self {
        Self { client, model: model.to_string(), context_tokens: None }
    }

    /// Asks for a context of that many tokens (`num_ctx`); Ollama loads the model anew when it has
    /// another one. Otherwise the context is Ollama's choice.
    #[must_use]
    pub fn with_context(mut self, tokens: Option<u32>) -> Self {
        self.context_tokens = tokens;
        self
    }

    /// The client beneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Ollama's version.
    pub fn version(&self) -> Result<String, HttpError> {
        let value = self.client.document(Method::Get, "/api/version")?;
        text(&value, "/version")
            .ok_or_else(|| HttpError::protocol(self.client.base(), "it tells no version"))
    }

    /// The models that are loaded.
    pub fn running(&self) -> Result<Vec<RunningModel>, HttpError> {
        let value = self.client.document(Method::Get, "/api/ps")?;
        Ok(elements(&value, "/models").iter().map(running_model).collect())
    }

    /// This model among the loaded ones.
    pub fn running_model(&self) -> Result<Option<RunningModel>, HttpError> {
        let mine = full_name(&self.model);
        Ok(self.running()?.into_iter().find(|m| full_name(&m.name) == mine))
    }

    /// The names of all models that it has.
    pub fn installed(&self) -> Result<Vec<String>, HttpError> {
        let value = self.client.document(Method::Get, "/api/tags")?;
        Ok(elements(&value, "/models").iter().filter_map(|m| text(m, "/name")).collect())
    }

    /// What the model is.
    pub fn show(&self) -> Result<Shown, HttpError> {
        let body = json!({"model": self.model, "name": self.model});
        let value = self.client.document(Method::Post(&body), "/api/show")?;
        // Keys of the model's file are named after its architecture: `qwen2.block_count`.
        let of_model = |key: &str| {
            let info = value["model_info"].as_object()?;
            let (_, found) = info.iter().find(|(k, _)| k.ends_with(key))?;
            count(found, "")
        };
        Ok(Shown {
            details: details(&value),
            parameters: text_or_empty(&value, "/parameters"),
            file: weights_file(value["modelfile"].as_str().unwrap_or_default()),
            train_context_tokens: of_model(".context_length"),
            layers: of_model(".block_count"),
            params: of_model("general.parameter_count"),
            capabilities: elements(&value, "/capabilities")
                .iter()
                .filter_map(|c| text(c, ""))
                .take(32)
                .collect(),
        })
    }

    /// Loads the model and returns how long that took here, in nanoseconds.
    pub fn load(&self) -> Result<u64, HttpError> {
        let mut body = json!({"model": self.model, "stream": false});
        if let Some(tokens) = self.context_tokens {
            body["options"] = json!({"num_ctx": tokens});
        }
        let began = now_ns();
        let value = self.client.slow_document(Method::Post(&body), "/api/generate")?;
        let took = now_ns() - began;
        self.done(&value)?;
        Ok(took)
    }

    /// Has the model taken out of memory. That goes on for a moment after this returns.
    pub fn unload(&self) -> Result<(), HttpError> {
        let body = json!({"model": self.model, "keep_alive": 0, "stream": false});
        let value = self.client.slow_document(Method::Post(&body), "/api/generate")?;
        self.done(&value)
    }

    fn done(&self, value: &Value) -> Result<(), HttpError> {
        if let Some(said) = error_in(value) {
            return Err(self.client.told(&said));
        }
        if value["done"] == true {
            return Ok(());
        }
        Err(HttpError::protocol(self.client.base(), "its answer does not say that it is done"))
    }
}

/// The file that a Modelfile's first `FROM` names; Ollama writes it with the path of the weights.
fn weights_file(modelfile: &str) -> String {
    let from = modelfile.lines().find_map(|line| line.strip_prefix("FROM "));
    let file = from.map(str::trim).filter(|file| file.contains(['/', '\\']) && file.len() < 4096);
    file.unwrap_or_default().to_string()
}

/// A name with its tag.
fn full_name(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') { name.to_string() } else { format!("{name}:latest") }
}

fn details(value: &Value) -> ModelDetails {
    ModelDetails {
        family: text_or_empty(value, "/details/family"),
        format: text_or_empty(value, "/details/format"),
        quantization: text_or_empty(value, "/details/quantization_level"),
        parameter_size: text_or_empty(value, "/details/parameter_size"),
    }
}

fn running_model(value: &Value) -> RunningModel {
    RunningModel {
        name: text(value, "/name").or_else(|| text(value, "/model")).unwrap_or_default(),
        digest: text_or_empty(value, "/digest"),
        bytes: count(value, "/size"),
        vram_bytes: count(value, "/size_vram"),
        context_tokens: count(value, "/context_length").filter(|n| *n > 0),
        expires_at: text_or_empty(value, "/expires_at"),
        details: details(value),
    }
}

impl Generate for Ollama {
    fn generate(&self, ask: &Ask) -> Result<Generation, HttpError> {
        let Prompt::Text(prompt) = &ask.prompt else {
            return Err(HttpError::protocol(self.client.base(), "it takes prompts only as text"));
        };
        let mut options =
            json!({"num_predict": ask.generate_tokens, "temperature": 0.0, "seed": ask.seed});
        if let Some(tokens) = self.context_tokens {
            options["num_ctx"] = json!(tokens);
        }
        let body = json!({
            "model": self.model, "prompt": prompt, "raw": true, "stream": true, "options": options,
        });
        let (mut stream, sent_ns) =
            self.client.stream("/api/generate", &body, Framing::JsonLines)?;
        let mut generation = Generation { sent_ns, ..Generation::default() };
        let mut pieces = 0;
        while let Some(event) = stream.next_event()? {
            let value: Value = serde_json::from_str(&event.data).map_err(|_| {
                HttpError::protocol(self.client.base(), "a line of /api/generate is no JSON")
            })?;
            if let Some(said) = error_in(&value) {
                return Err(self.client.told(&said));
            }
            let has_text = |field: &str| value[field].as_str().is_some_and(|text| !text.is_empty());
            if has_text("response") || has_text("thinking") {
                generation.arrived(event.at_ns, None);
            }
            if value["done"] == true {
                generation.ended_ns = event.at_ns;
                finish(&mut generation, &value);
                generation.settle();
                return Ok(generation);
            }
            pieces += 1;
            check_pieces(self.client.base(), ask.generate_tokens, pieces)?;
        }
        Err(self.client.cut_off())
    }
}

/// Takes the counts and times of the last line. Ollama leaves out what is 0.
fn finish(generation: &mut Generation, value: &Value) {
    generation.prompt_tokens = count(value, "/prompt_eval_count");
    generation.generated_tokens = count(value, "/eval_count");
    generation.server = ServerTimes {
        load_ns: number(value, "/load_duration"),
        prompt_ns: number(value, "/prompt_eval_duration"),
        decode_ns: number(value, "/eval_duration"),
    };
    generation.finish = text_or_empty(value, "/done_reason");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_are_where_the_modelfile_says() {
        let text =
            "# made by ollama show\n# FROM x:latest\n\nFROM /m/blobs/sha256-2b\nTEMPLATE x\n";
        assert_eq!(weights_file(text), "/m/blobs/sha256-2b");
        assert_eq!(weights_file("FROM llama3.2"), "");
    }

    #[test]
    fn a_name_without_tag_is_the_latest() {
        assert_eq!(full_name("llama3"), "llama3:latest");
        assert_eq!(full_name("host:5000/a/b"), "host:5000/a/b:latest");
        assert_eq!(full_name("a/b:7b"), "a/b:7b");
    }
}
