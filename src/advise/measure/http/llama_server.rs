//! llama-server as a target: prompts by token, so that their length is exact.

use serde_json::json;

use super::fleet;
use super::prompts::Prompts;
use super::readings::{self, Seen};
use crate::advise::measure::{MeasureError, Sample, Structure, Target, TargetFacts, Test};
use crate::observe::attach::{Ask, Generation, LlamaServer, ModelMeta, Prompt, Props};

/// What is taken for the vocabulary of a build that tells none: the smallest that is common.
const VOCAB_DEFAULT: u64 = 32_000;
/// Share of a depth that must have been kept, so that the timed request read its own prompt alone.
const KEPT_MIN: f64 = 0.95;

pub(super) struct LlamaServerTarget {
    name: String,
    server: LlamaServer,
    props: Props,
    model: ModelMeta,
    prompts: Prompts,
}

impl LlamaServerTarget {
    pub(super) fn new(
        name: String,
        server: LlamaServer,
        prompts: Prompts,
    ) -> Result<Self, MeasureError> {
        let props = server.props()?;
        if props.is_router {
            return Err(MeasureError::new(format!(
                "{name}: it hands requests on to other servers"
            ))
            .hint("give the address of one model's own server"));
        }
        let model = server.model()?;
        Ok(Self { name, server, props, model, prompts })
    }

    /// The timed requests. With a depth, each slot first reads that many tokens and keeps them.
    fn requests(&mut self, test: &Test) -> Result<Vec<Ask>, MeasureError> {
        let vocab = self.model.vocab_tokens.unwrap_or(VOCAB_DEFAULT);
        let depth = test.depth as usize;
        let length = depth + (test.prompt_tokens as usize).max(1);
        let slots = self.props.slots.unwrap_or(1);
        let mut asks = Vec::new();
        for i in 0..test.concurrency.max(1) {
            let tokens = self.prompts.tokens(length, vocab);
            let mut ask = Ask::new(Prompt::Tokens(tokens), test.generate_tokens);
            if depth > 0 {
                ask.reuse_cache = true;
                // Only where each has a slot of its own may one be named: else some would wait.
                ask.slot = (u64::from(test.concurrency) <= slots).then_some(i);
            }
            asks.push(ask);
        }
        if depth > 0 {
            let before = asks.iter().map(|ask| {
                let mut before = ask.clone();
                if let Prompt::Tokens(tokens) = &mut before.prompt {
                    tokens.truncate(depth);
                }
                before.generate_tokens = 1;
                before
            });
            let before: Vec<Ask> = before.collect();
            fleet::run(&self.server, &before)?;
        }
        Ok(asks)
    }

    /// Whether the server read as many tokens as it was given.
    fn check(&self, test: &Test, request: &Generation) -> Result<(), MeasureError> {
        let given = u64::from(test.depth) + u64::from(test.prompt_tokens.max(1));
        match request.prompt_tokens {
            Some(read) if read != given => {
                let what = format!("{}: was given {given} tokens and read {read}", self.name);
                Err(MeasureError::new(what).hint("start it with a longer context (-c)"))
            }
            _ => Ok(()),
        }
    }
}

impl Target for LlamaServerTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn facts(&mut self) -> Result<TargetFacts, MeasureError> {
        self.props = self.server.props()?;
        let path = &self.props.model_path;
        let file = path.rsplit(['/', '\\']).next().unwrap_or_default();
        let model = if file.is_empty() { &self.model.id } else { file };
        let client = self.server.client();
        let mut facts = super::facts_of(client, "llama.cpp", &self.props.build, model);
        let mut set = |name: &str, value: Option<String>| {
            facts.settings.extend(value.map(|value| (name.to_string(), value)));
        };
        set("n_ctx", self.props.context_tokens.map(|n| n.to_string()));
        set("slots", self.props.slots.map(|n| n.to_string()));
        set("timed_by", Some("the server".into()));
        Ok(facts)
    }

    fn structure(&mut self, _test: &Test) -> Result<Structure, MeasureError> {
        let props = self.server.props()?;
        let meta = self.server.model()?;
        let facts = [
            ("server.slots", props.slots.map(|n| json!(n))),
            ("server.context_tokens", props.context_tokens.map(|n| json!(n))),
            ("model.file_type", props.model_file_type.map(|t| json!(t))),
            ("model.params", meta.params.map(|n| json!(n))),
            ("model.bytes", meta.bytes.map(|n| json!(n))),
            ("model.embedding_width", meta.embedding_width.map(|n| json!(n))),
            ("model.train_context_tokens", meta.train_context_tokens.map(|n| json!(n))),
        ];
        Ok(facts.into_iter().filter_map(|(k, v)| v.map(|v| (k.to_string(), v))).collect())
    }

    fn sample(&mut self, test: &Test) -> Result<Sample, MeasureError> {
        let asks = self.requests(test)?;
        let seen = fleet::run(&self.server, &asks)?;
        for request in &seen {
            self.check(test, request)?;
        }
        let kept = |request: &Generation| request.cached_tokens.unwrap_or(0) as f64;
        let prompt_alone = seen.iter().all(|r| kept(r) >= f64::from(test.depth) * KEPT_MIN);
        let seen_as = Seen { by_server: true, prompt_alone };
        readings::sample(&self.name, test, seen_as, &seen)
    }
}
