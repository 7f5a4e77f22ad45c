//! `--probe`: one small request to a server, announced, and how long it took.

use std::thread::JoinHandle;

use crate::app::cli::failure::Failure;
use crate::app::cli::output;
use crate::app::report::attach::ProbeFacts;
use crate::base::event::ServerFact;
use crate::observe::attach::{
    Ask, BaseUrl, Client, Generate, Generation, HttpError, Limits, LlamaServer, Ollama, OpenAi,
    Prompt,
};

/// Tokens that it asks for.
const TOKENS: u32 = 32;

/// What the model reads: long enough to be a prompt, too short to cost much.
const PROMPT: &str = "A short list of things that can be seen from the top of a hill on a clear day, \
    beginning with the nearest one:";

/// A request that is on its way.
pub(super) struct Probe {
    thread: JoinHandle<ProbeFacts>,
}

impl Probe {
    /// Announces the request and sends it.
    pub(super) fn send(fact: &ServerFact, key: Option<&str>) -> Result<Self, Failure> {
        let base = BaseUrl::parse(&fact.url, 80)?;
        let client = Client::new(base, Limits::default()).with_key(key)?;
        let model = fact.models.first().map(|m| m.name.clone()).unwrap_or_default();
        let named = if model.is_empty() { String::new() } else { format!(" for {model}") };
        output::stderr(&format!(
            "probe: sending one request of {TOKENS} tokens to {}{named}\n",
            fact.url
        ));
        let engine = fact.engine.clone();
        let run = move || match ask(&engine, client, &model) {
            Ok(seen) => facts(model, &seen),
            Err(error) => ProbeFacts { model, failed: Some(error), ..ProbeFacts::default() },
        };
        let named = std::thread::Builder::new().name("probe".to_string());
        let thread = named.spawn(run).map_err(|e| Failure::new(format!("cannot probe: {e}")))?;
        Ok(Self { thread })
    }

    /// Whether the answer is there.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// What it told; nothing where somebody did not want to wait for it.
    pub(super) fn facts(self) -> Option<ProbeFacts> {
        if self.has_ended() { self.thread.join().ok() } else { None }
    }
}

fn ask(engine: &str, client: Client, model: &str) -> Result<Generation, String> {
    let ask = Ask::new(Prompt::Text(PROMPT.to_string()), TOKENS);
    let of = |result: Result<Generation, HttpError>| result.map_err(|error| error.what);
    match engine {
        "llama.cpp" => of(LlamaServer::new(client).generate(&ask)),
        // Ollama would load one, which takes long and may push another one out.
        "ollama" if model.is_empty() => Err("it has loaded no model".to_string()),
        "ollama" => of(Ollama::new(client, model).generate(&ask)),
        _ => {
            let server = OpenAi::new(client, model).with_extensions(engine == "vllm");
            of(server.generate(&ask))
        }
    }
}

fn facts(model: String, seen: &Generation) -> ProbeFacts {
    let per_second = |tokens: u64, ns: f64| (ns > 0.0).then(|| tokens as f64 / (ns / 1e9));
    let read = seen.prompt_tokens.map(|n| n.saturating_sub(seen.cached_tokens.unwrap_or(0)));
    let after_first = seen.generated_tokens.and_then(|n| n.checked_sub(1)).filter(|n| *n > 0);
    let (first, last) = (seen.arrivals.first(), seen.arrivals.last());
    let ours = first.zip(last).map(|(a, b)| b.at_ns.saturating_sub(a.at_ns) as f64);
    let decode_ns = seen.server.decode_ns.or(ours);
    ProbeFacts {
        model,
        prompt_tokens: seen.prompt_tokens,
        generated_tokens: seen.generated_tokens,
        first_token_ms: first.map(|a| a.at_ns.saturating_sub(seen.sent_ns) as f64 / 1e6),
        prompt_tokens_per_s: read
            .zip(seen.server.prompt_ns)
            .and_then(|(tokens, ns)| per_second(tokens, ns)),
        decode_tokens_per_s: after_first
            .zip(decode_ns)
            .and_then(|(tokens, ns)| per_second(tokens, ns)),
        failed: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::attach::{Arrival, ServerTimes};

    #[test]
    fn speeds_are_the_servers_own_and_else_ours() {
        let arrival = |at_ns| Arrival { at_ns, tokens: None };
        let mut seen = Generation {
            sent_ns: 1_000_000,
            arrivals: vec![arrival(5_000_000), arrival(1_005_000_000)],
            prompt_tokens: Some(30),
            cached_tokens: Some(10),
            generated_tokens: Some(11),
            ..Generation::default()
        };
        let facts_of = |seen: &Generation| facts("m".into(), seen);
        assert_eq!(facts_of(&seen).first_token_ms, Some(4.0));
        assert_eq!(facts_of(&seen).decode_tokens_per_s, Some(10.0));
        assert_eq!(facts_of(&seen).prompt_tokens_per_s, None);
        seen.server =
            ServerTimes { prompt_ns: Some(5e8), decode_ns: Some(2e9), ..ServerTimes::default() };
        assert_eq!(facts_of(&seen).decode_tokens_per_s, Some(5.0));
        assert_eq!(facts_of(&seen).prompt_tokens_per_s, Some(40.0));
    }
}
