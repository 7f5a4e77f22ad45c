//! OpenAI's interface, as vLLM, SGLang, LM Studio and many others speak it.
//!
//! Source: OpenAI's reference of `/v1/completions` and `/v1/models`; vLLM's "OpenAI-Compatible Server"
//! and "Metrics" pages for what goes beyond it. Only plain completions, not chats: a chat's template
//! would put text into every prompt that nobody asked for.

use serde_json::{Value, json};

use super::generation::{Ask, Generate, Generation, Prompt, check_pieces};
use super::http::{Client, HttpError, Method, error_in};
use super::json::{count, elements, number, text, text_or_empty};
use super::prometheus::Exposition;
use super::stream::Framing;

/// One of `/v1/models`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedModel {
    /// Its name.
    pub id: String,
    /// `vllm`, `llamacpp`, `library`: tells servers apart.
    pub owned_by: String,
    /// The longest context, where the server says (vLLM does).
    pub context_tokens: Option<u64>,
}

/// A client of one server that speaks OpenAI's interface.
#[derive(Clone, Debug)]
pub struct OpenAi {
    client: Client,
    model: String,
    extensions: bool,
}

impl OpenAi {
    /// A client of the server that `client` reaches, for `model`; what concerns no model needs no
    /// name of one.
    pub fn new(client: Client, model: &str) -> Self {
        Self { client, model: model.to_string(), extensions: false }
    }

    /// Also uses what vLLM, SGLang and llama-server add to the interface: not to stop before the last
    /// token asked for, and counts with every piece. Servers that do not know it may refuse it.
    #[must_use]
    pub fn with_extensions(mut self, yes: bool) -> Self {
        self.extensions = yes;
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

    /// The models that it has.
    pub fn models(&self) -> Result<Vec<ListedModel>, HttpError> {
        let value = self.client.document(Method::Get, "/v1/models")?;
        if !value["data"].is_array() {
            return Err(HttpError::protocol(self.client.base(), "/v1/models lists no models"));
        }
        Ok(elements(&value, "/data")
            .iter()
            .map(|model| ListedModel {
                id: text_or_empty(model, "/id"),
                owned_by: text_or_empty(model, "/owned_by"),
                context_tokens: count(model, "/max_model_len"),
            })
            .collect())
    }

    /// vLLM's version; an error of kind [`super::ErrorKind::NotFound`] for most others.
    pub fn version(&self) -> Result<String, HttpError> {
        let value = self.client.document(Method::Get, "/version")?;
        text(&value, "/version")
            .ok_or_else(|| HttpError::protocol(self.client.base(), "it tells no version"))
    }

    /// Its counters, where it has them.
    pub fn metrics(&self) -> Result<Exposition, HttpError> {
        Ok(Exposition::parse(&self.client.text(Method::Get, "/metrics")?))
    }
}

impl Generate for OpenAi {
    fn generate(&self, ask: &Ask) -> Result<Generation, HttpError> {
        let prompt = match &ask.prompt {
            Prompt::Text(text) => json!(text),
            Prompt::Tokens(tokens) => json!(tokens),
        };
        let mut body = json!({
            "model": self.model, "prompt": prompt, "max_tokens": ask.generate_tokens,
            "temperature": 0.0, "seed": ask.seed, "stream": true,
            "stream_options": {"include_usage": true},
        });
        if self.extensions {
            body["ignore_eos"] = json!(true);
            body["stream_options"]["continuous_usage_stats"] = json!(true);
            body["cache_prompt"] = json!(ask.reuse_cache);
        }
        let (mut stream, sent_ns) =
            self.client.stream("/v1/completions", &body, Framing::ServerSentEvents)?;
        let mut generation = Generation { sent_ns, ..Generation::default() };
        let (mut pieces, mut counts, mut is_complete) = (0, Counts::default(), false);
        while let Some(event) = stream.next_event()? {
            if event.data == "[DONE]" {
                is_complete = true;
                break;
            }
            let value: Value = serde_json::from_str(&event.data).map_err(|_| {
                HttpError::protocol(self.client.base(), "an event of /v1/completions is no JSON")
            })?;
            if let Some(said) = error_in(&value) {
                return Err(self.client.told(&said));
            }
            take(&mut generation, &value, event.at_ns, &mut counts);
            is_complete |= !generation.finish.is_empty();
            pieces += 1;
            check_pieces(self.client.base(), ask.generate_tokens, pieces)?;
        }
        if is_complete {
            generation.settle();
            return Ok(generation);
        }
        Err(self.client.cut_off())
    }
}

/// The server's counts so far.
#[derive(Default)]
struct Counts {
    /// Tokens written by its last count.
    total: u64,
    /// Whether text came without a count. Then a count that comes later is of all, not of its piece.
    only_at_the_end: bool,
}

/// Takes one event.
fn take(generation: &mut Generation, value: &Value, at_ns: u64, counts: &mut Counts) {
    generation.ended_ns = at_ns;
    let choices = elements(value, "/choices");
    let has_text =
        choices.iter().any(|choice| choice["text"].as_str().is_some_and(|text| !text.is_empty()));
    let total = count(value, "/usage/completion_tokens");
    counts.only_at_the_end |= has_text && total.is_none();
    let of_this = total.and_then(|total| total.checked_sub(counts.total));
    match of_this {
        // Counts that come with the pieces: also a token without text is one.
        Some(tokens) if tokens > 0 && !choices.is_empty() && !counts.only_at_the_end => {
            generation.arrived(at_ns, u32::try_from(tokens).ok());
        }
        _ if has_text => generation.arrived(at_ns, None),
        _ => {}
    }
    counts.total = total.unwrap_or(counts.total);
    if let Some(reason) = elements(value, "/choices").iter().find_map(|c| text(c, "/finish_reason"))
    {
        generation.finish = reason;
    }
    generation.generated_tokens = total.or(generation.generated_tokens);
    let of_usage = |path: &str| count(value, path);
    generation.prompt_tokens = of_usage("/usage/prompt_tokens").or(generation.prompt_tokens);
    generation.cached_tokens =
        of_usage("/usage/prompt_tokens_details/cached_tokens").or(generation.cached_tokens);
    // llama-server tells its own times here too.
    let ns = |path: &str| number(value, path).map(|ms| ms * 1e6);
    let times = &mut generation.server;
    times.prompt_ns = ns("/timings/prompt_ms").or(times.prompt_ns);
    times.decode_ns = ns("/timings/predicted_ms").or(times.decode_ns);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::attach::generation::Arrival;

    fn taken(events: &[Value]) -> Generation {
        let (mut generation, mut counts) = (Generation::default(), Counts::default());
        for (i, event) in events.iter().enumerate() {
            take(&mut generation, event, i as u64 + 1, &mut counts);
        }
        generation
    }

    #[test]
    fn counts_with_every_piece_are_told_apart_from_a_count_at_the_end() {
        let piece = |text: &str| json!({"choices": [{"text": text}]});
        let of = |at_ns, tokens| Arrival { at_ns, tokens };
        let end = json!({"choices": [], "usage": {"completion_tokens": 3, "prompt_tokens": 9}});
        let plain = taken(&[piece("a"), piece(""), piece("b c"), end]);
        assert_eq!(plain.arrivals, [of(1, None), of(3, None)]);
        assert_eq!((plain.generated_tokens, plain.prompt_tokens), (Some(3), Some(9)));

        let with = |text: &str, n: u64| json!({"choices": [{"text": text}], "usage": {"completion_tokens": n}});
        let counted = taken(&[with("a", 1), with("", 2), with("b c", 4), with("", 4)]);
        assert_eq!(counted.arrivals, [of(1, Some(1)), of(2, Some(1)), of(3, Some(2))]);
    }
}
