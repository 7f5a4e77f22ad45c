//! llama.cpp's `llama-server`, by its own interface.
//!
//! Source of the paths and fields: llama.cpp's tools/server/README.md and the answers of builds b11434
//! and b11549; fields that older builds lack are optional. Prompts can be given as tokens, so that
//! their length is exact, and a generation tells the tokens of every piece and the server's own times.

use serde_json::{Value, json};

use super::generation::{Ask, Generate, Generation, Prompt, ServerTimes, check_pieces};
use super::http::{Client, HttpError, Method, error_in};
use super::json::{count, elements, number, text, text_or_empty};
use super::prometheus::Exposition;
use super::stream::Framing;

/// What `/props` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Props {
    /// Like `b11434-0a1b2c3`; empty in old builds.
    pub build: String,
    /// The file of the model, on the server's machine.
    pub model_path: String,
    /// The name that the model was given; empty in old builds.
    pub model_alias: String,
    /// Like `Q4_K - Medium`, in builds that tell.
    pub model_file_type: Option<String>,
    /// Tokens of context that each slot has.
    pub context_tokens: Option<u64>,
    /// Requests that it works on at once.
    pub slots: Option<u64>,
    /// Whether it hands requests on to servers of several models.
    pub is_router: bool,
    /// Whether it has put its model away until the next request.
    pub is_sleeping: bool,
}

/// One of `/slots`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub id: u64,
    /// Tokens of context that it has.
    pub context_tokens: Option<u64>,
    /// Whether it works.
    pub is_busy: bool,
    /// The number of its request, or of the last one, in builds that tell.
    pub task: Option<u64>,
    /// Tokens of its request's prompt, in builds that tell.
    pub prompt_tokens: Option<u64>,
    /// Tokens that it wrote for its request, in builds that tell.
    pub decoded_tokens: Option<u64>,
}

/// What `/v1/models` tells of the loaded model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelMeta {
    /// Its name.
    pub id: String,
    /// How many different tokens there are.
    pub vocab_tokens: Option<u64>,
    /// The context for which it was trained.
    pub train_context_tokens: Option<u64>,
    /// Width of the hidden state.
    pub embedding_width: Option<u64>,
    /// Parameters.
    pub params: Option<u64>,
    /// Bytes of its weights.
    pub bytes: Option<u64>,
}

/// A client of one llama-server.
#[derive(Clone, Debug)]
pub struct LlamaServer {
    client: Client,
}

impl LlamaServer {
    /// A client of the server that `client` reaches.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client beneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether it is ready: an error of kind [`super::ErrorKind::Busy`] while it loads.
    pub fn health(&self) -> Result<(), HttpError> {
        self.client.document(Method::Get, "/health").map(drop)
    }

    /// Its properties.
    pub fn props(&self) -> Result<Props, HttpError> {
        let value = self.client.document(Method::Get, "/props")?;
        props_of(&value).ok_or_else(|| {
            HttpError::protocol(self.client.base(), "/props is not as llama-server's")
        })
    }

    /// What its slots do. An error where it was started with `--no-slots`.
    pub fn slots(&self) -> Result<Vec<Slot>, HttpError> {
        let value = self.client.document(Method::Get, "/slots")?;
        let slots = elements(&value, "").iter().enumerate().map(|(i, slot)| Slot {
            id: count(slot, "/id").unwrap_or(i as u64),
            context_tokens: count(slot, "/n_ctx"),
            // Before 2025 a state, 0 for idle, stood for it.
            is_busy: slot["is_processing"].as_bool().unwrap_or(slot["state"] == 1),
            task: count(slot, "/id_task"),
            prompt_tokens: count(slot, "/n_prompt_tokens"),
            decoded_tokens: count(slot, "/next_token/0/n_decoded")
                .or_else(|| count(slot, "/next_token/n_decoded")),
        });
        Ok(slots.collect())
    }

    /// Its counters. An error of kind [`super::ErrorKind::Status`] where it was started without
    /// `--metrics`.
    pub fn metrics(&self) -> Result<Exposition, HttpError> {
        Ok(Exposition::parse(&self.client.text(Method::Get, "/metrics")?))
    }

    /// What it tells of its model.
    pub fn model(&self) -> Result<ModelMeta, HttpError> {
        let value = self.client.document(Method::Get, "/v1/models")?;
        let first = elements(&value, "/data").first();
        let first =
            first.ok_or_else(|| HttpError::protocol(self.client.base(), "it names no model"))?;
        Ok(ModelMeta {
            id: text_or_empty(first, "/id"),
            vocab_tokens: count(first, "/meta/n_vocab"),
            train_context_tokens: count(first, "/meta/n_ctx_train"),
            embedding_width: count(first, "/meta/n_embd"),
            params: count(first, "/meta/n_params"),
            bytes: count(first, "/meta/size"),
        })
    }
}

/// Reads `/props`; nothing where it is not llama-server's.
pub(super) fn props_of(value: &Value) -> Option<Props> {
    value.get("default_generation_settings")?;
    Some(Props {
        build: text_or_empty(value, "/build_info"),
        model_path: text_or_empty(value, "/model_path"),
        model_alias: text_or_empty(value, "/model_alias"),
        model_file_type: text(value, "/model_ftype"),
        context_tokens: count(value, "/default_generation_settings/n_ctx"),
        slots: count(value, "/total_slots"),
        is_router: value["role"] == "router",
        is_sleeping: value["is_sleeping"] == true,
    })
}

impl Generate for LlamaServer {
    fn generate(&self, ask: &Ask) -> Result<Generation, HttpError> {
        let prompt = match &ask.prompt {
            Prompt::Text(text) => json!(text),
            Prompt::Tokens(tokens) => json!(tokens),
        };
        let mut body = json!({
            "prompt": prompt, "n_predict": ask.generate_tokens, "stream": true,
            "cache_prompt": ask.reuse_cache, "ignore_eos": true, "temperature": 0.0,
            "seed": ask.seed, "return_tokens": true,
        });
        if let Some(slot) = ask.slot {
            body["id_slot"] = json!(slot);
        }
        let (mut stream, sent_ns) =
            self.client.stream("/completion", &body, Framing::ServerSentEvents)?;
        let mut generation = Generation { sent_ns, ..Generation::default() };
        let mut pieces = 0;
        while let Some(event) = stream.next_event()? {
            let value: Value = serde_json::from_str(&event.data).map_err(|_| {
                HttpError::protocol(self.client.base(), "an event of /completion is no JSON")
            })?;
            if let Some(said) = error_in(&value) {
                return Err(self.client.told(&said));
            }
            let tokens = elements(&value, "/tokens").len() as u32;
            let has_text = value["content"].as_str().is_some_and(|text| !text.is_empty());
            if tokens > 0 {
                generation.arrived(event.at_ns, Some(tokens));
            } else if has_text {
                generation.arrived(event.at_ns, None); // a build that names no tokens
            }
            if value["stop"] == true {
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

/// Takes the counts and times of the last event.
fn finish(generation: &mut Generation, value: &Value) {
    let ns = |path: &str| number(value, path).map(|ms| ms * 1e6);
    // `prompt_n` are the tokens that it read; `tokens_evaluated` all tokens of the prompt.
    let read = count(value, "/timings/prompt_n");
    let all = count(value, "/tokens_evaluated");
    generation.cached_tokens = count(value, "/timings/cache_n").or_else(|| all?.checked_sub(read?));
    generation.prompt_tokens = all.or(read);
    generation.generated_tokens =
        count(value, "/timings/predicted_n").or_else(|| count(value, "/tokens_predicted"));
    generation.server = ServerTimes {
        load_ns: None,
        prompt_ns: ns("/timings/prompt_ms"),
        decode_ns: ns("/timings/predicted_ms"),
    };
    generation.finish = text_or_empty(value, "/stop_type");
}
