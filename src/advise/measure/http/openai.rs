//! A server with OpenAI's interface as a target, vLLM's with what it adds: timed by our clock alone.

use serde_json::json;

use super::prompts::Prompts;
use super::readings::{self, Seen};
use super::text::TextPrompts;
use crate::advise::measure::{MeasureError, Sample, Structure, Target, TargetFacts, Test};
use crate::observe::attach::{ListedModel, OpenAi};

/// What vLLM tells of its cache that does not vary from start to start.
const CACHE_SETTINGS: [&str; 5] = [
    "block_size",
    "cache_dtype",
    "enable_prefix_caching",
    "gpu_memory_utilization",
    "sliding_window",
];

pub(super) struct OpenAiTarget {
    name: String,
    server: OpenAi,
    is_vllm: bool,
    version: String,
    listed: ListedModel,
    prompts: TextPrompts,
}

impl OpenAiTarget {
    pub(super) fn new(
        name: String,
        server: OpenAi,
        is_vllm: bool,
        version: String,
        listed: ListedModel,
        prompts: Prompts,
    ) -> Self {
        Self { name, server, is_vllm, version, listed, prompts: TextPrompts::new(prompts) }
    }

    /// vLLM's settings of its cache, by name; none of other servers, or where it hides its counters.
    fn cache_settings(&self) -> Vec<(&'static str, String)> {
        if !self.is_vllm {
            return Vec::new();
        }
        let Ok(metrics) = self.server.metrics() else { return Vec::new() };
        let Some(info) = metrics.named("vllm:cache_config_info").next() else { return Vec::new() };
        let setting = |name| info.label(name).map(|value| (name, value.to_string()));
        CACHE_SETTINGS.into_iter().filter_map(setting).collect()
    }
}

impl Target for OpenAiTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn facts(&mut self) -> Result<TargetFacts, MeasureError> {
        let engine = match (self.is_vllm, self.listed.owned_by.as_str()) {
            (true, _) => "vllm",
            (false, "llamacpp") => "llama.cpp",
            (false, "") => "openai",
            (false, other) => other,
        };
        let client = self.server.client();
        let mut facts = super::facts_of(client, engine, &self.version, self.server.model());
        if let Some(tokens) = self.listed.context_tokens {
            facts.settings.insert("max_model_len".into(), tokens.to_string());
        }
        let settings = self.cache_settings().into_iter();
        facts.settings.extend(settings.map(|(name, value)| (name.to_string(), value)));
        facts.settings.insert("timed_by".into(), "the client".into());
        Ok(facts)
    }

    fn structure(&mut self, _test: &Test) -> Result<Structure, MeasureError> {
        let cache = self.cache_settings().into_iter();
        let mut facts: Structure =
            cache.map(|(name, value)| (format!("cache.{name}"), json!(value))).collect();
        facts.extend(
            self.listed.context_tokens.map(|n| ("server.context_tokens".to_string(), json!(n))),
        );
        Ok(facts)
    }

    fn sample(&mut self, test: &Test) -> Result<Sample, MeasureError> {
        let seen = self.prompts.run(&self.name, &self.server, test)?;
        let seen_as = Seen { by_server: false, prompt_alone: test.depth == 0 };
        readings::sample(&self.name, test, seen_as, &seen)
    }
}
