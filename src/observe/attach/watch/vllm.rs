//! What vLLM tells of its work, and what other servers with OpenAI's interface do not.
//!
//! Source of the names: vLLM's page "Production Metrics", of versions 0.5 to 0.32.

use crate::base::counter::{Counter, Subject};
use crate::base::event::{AbsentReason, ServedModel, ServerFact};
use crate::observe::attach::http::{Client, HttpError};
use crate::observe::attach::openai::{ListedModel, OpenAi};
use crate::observe::attach::prometheus::Exposition;
use crate::observe::telemetry::{Readings, Unread};

use super::endpoint::{Told, is_left_alone, is_off};
use super::rate::OwnRate;

/// A server with OpenAI's interface.
pub(super) struct Listed {
    pub(super) server: OpenAi,
    pub(super) is_vllm: bool,
    /// The models that it told when it was asked whether it is there.
    models: Vec<ListedModel>,
    decode_rate: OwnRate,
    metrics_off: Option<u64>,
}

impl Listed {
    pub(super) fn new(client: Client, is_vllm: bool) -> Self {
        let server = OpenAi::new(client, "");
        let (models, decode_rate) = (Vec::new(), OwnRate::default());
        Self { server, is_vllm, models, decode_rate, metrics_off: None }
    }

    /// Whether it answers.
    pub(super) fn is_alive(&mut self) -> Result<(), HttpError> {
        self.models = self.server.models()?;
        Ok(())
    }

    /// The models that it serves.
    pub(super) fn describe(&self, fact: &mut ServerFact) {
        let model = |model: &ListedModel| ServedModel {
            name: model.id.clone(),
            context_tokens: model.context_tokens,
            ..ServedModel::default()
        };
        // Others list what they could load, not what they have loaded.
        fact.models = self.models.iter().map(model).collect();
    }

    pub(super) fn read(&mut self, slots: Option<u64>, to: &mut Readings) {
        if is_left_alone(self.metrics_off, to.at_ns()) {
            return;
        }
        self.metrics_off = None;
        let why = match self.server.metrics() {
            Ok(metrics) if self.is_vllm => {
                Told { slots, ..self.take(&metrics) }.sample(to);
                return;
            }
            Ok(_) => {
                self.metrics_off = Some(to.at_ns());
                let text = "requests and tokens: what this server counts is not known here";
                Unread::new(AbsentReason::NotSupported, text, "watch its process and its log")
            }
            Err(error) if is_off(&error) => {
                self.metrics_off = Some(to.at_ns());
                let text = format!("requests, tokens and cache: {}", error.what);
                let hint = if self.is_vllm {
                    "start vLLM without --disable-log-stats, which also ends /metrics"
                } else {
                    "watch its process and its log"
                };
                Unread::new(AbsentReason::NotSupported, text, hint)
            }
            Err(error) => {
                let text = format!("/metrics did not answer: {}", error.what);
                Unread::new(AbsentReason::Unreadable, text, "")
            }
        };
        to.absent(Some(Subject::Server), Some(Counter::RequestsQueued), why);
    }

    fn take(&mut self, metrics: &Exposition) -> Told {
        let sum = |name: &str| metrics.sum(&format!("vllm:{name}"));
        // Each token after a request's first one is one observation of its time.
        let tokens_times = ["inter_token_latency_seconds", "time_per_output_token_seconds"];
        let times = tokens_times
            .iter()
            .find_map(|name| Some((sum(&format!("{name}_count"))?, sum(&format!("{name}_sum"))?)));
        let usage = sum("kv_cache_usage_perc").or_else(|| sum("gpu_cache_usage_perc"));
        // One value for each engine, each a share of its own cache.
        let engines = ["kv_cache_usage_perc", "gpu_cache_usage_perc"]
            .map(|name| metrics.named(&format!("vllm:{name}")).count());
        let engines = engines.into_iter().find(|n| *n > 0).unwrap_or(1);
        Told {
            slots: None,
            busy: sum("num_requests_running"),
            queued: sum("num_requests_waiting"),
            prompt_tokens: sum("prompt_tokens_total"),
            decoded_tokens: sum("generation_tokens_total"),
            prompt_rate: None,
            decode_rate: times.and_then(|(tokens, seconds)| self.decode_rate.next(tokens, seconds)),
            kv_used: usage.map(|usage| usage / engines as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::attach::{BaseUrl, Limits};

    #[test]
    fn counters_of_all_engines_are_added_and_shares_are_not() {
        let client = Client::new(BaseUrl::parse("x", 1).unwrap(), Limits::default());
        let mut listed = Listed::new(client, true);
        let text = "vllm:num_requests_running{engine=\"0\"} 3\n\
            vllm:num_requests_running{engine=\"1\"} 2\n\
            vllm:num_requests_waiting{engine=\"0\"} 1\n\
            vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.75\n\
            vllm:prompt_tokens_total{engine=\"0\"} 100\nvllm:generation_tokens_total 40\n\
            vllm:time_per_output_token_seconds_sum 2\nvllm:time_per_output_token_seconds_count 50\n";
        let told = listed.take(&Exposition::parse(text));
        assert_eq!((told.busy, told.queued, told.kv_used), (Some(5.0), Some(1.0), Some(0.5)));
        assert_eq!((told.prompt_tokens, told.decoded_tokens), (Some(100.0), Some(40.0)));
        assert_eq!((told.decode_rate, told.prompt_rate), (Some(25.0), None));
        let empty = listed.take(&Exposition::default());
        assert_eq!((empty.busy, empty.kv_used, empty.decode_rate), (None, None, None));
    }
}
