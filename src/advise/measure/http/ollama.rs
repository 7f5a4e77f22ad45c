//! Ollama as a target: prompts as text, whose length in tokens is learnt from its own counts.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::prompts::Prompts;
use super::readings::{self, Seen};
use super::text::TextPrompts;
use crate::advise::measure::{MeasureError, Metric, Sample, Structure, Target, TargetFacts, Test};
use crate::observe::attach::{Ollama, RunningModel};

/// How long a model may take to leave memory.
const UNLOAD_MAX: Duration = Duration::from_mins(1);
const UNLOAD_POLL: Duration = Duration::from_millis(5);

pub(super) struct OllamaTarget {
    name: String,
    server: Ollama,
    version: String,
    prompts: TextPrompts,
    /// Whether this target has had the model loaded with its own settings.
    is_loaded: bool,
}

impl OllamaTarget {
    pub(super) fn new(name: String, server: Ollama, version: String, prompts: Prompts) -> Self {
        Self { name, server, version, prompts: TextPrompts::new(prompts), is_loaded: false }
    }

    /// The model, loaded if it is not yet, as Ollama shows it.
    fn loaded(&mut self) -> Result<RunningModel, MeasureError> {
        let running = self.server.running_model()?;
        if let (true, Some(running)) = (self.is_loaded, running) {
            return Ok(running);
        }
        self.server.load()?;
        self.is_loaded = true;
        self.server.running_model()?.ok_or_else(|| {
            MeasureError::new(format!(
                "{}: {} does not stay loaded",
                self.name,
                self.server.model()
            ))
            .hint("is another model taking its memory? See `ollama ps`")
            .transient()
        })
    }

    /// Unloads and loads it, and returns how long loading took, in milliseconds.
    fn reload(&mut self) -> Result<f64, MeasureError> {
        self.server.unload()?;
        let until = Instant::now() + UNLOAD_MAX;
        while self.server.running_model()?.is_some() {
            if Instant::now() > until {
                return Err(MeasureError::new(format!("{}: the model does not unload", self.name))
                    .hint("another client may be using it"));
            }
            thread::sleep(UNLOAD_POLL);
        }
        self.is_loaded = true;
        Ok(self.server.load()? as f64 / 1e6)
    }
}

impl Target for OllamaTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn facts(&mut self) -> Result<TargetFacts, MeasureError> {
        let shown = self.server.show()?;
        let client = self.server.client();
        let mut facts = super::facts_of(client, "ollama", &self.version, self.server.model());
        let running = self.server.running_model()?;
        let context = running.and_then(|running| running.context_tokens);
        let mut set = |name: &str, value: Option<String>| {
            facts.settings.extend(value.map(|value| (name.to_string(), value)));
        };
        set("num_ctx", context.map(|n| n.to_string()));
        set("quantization", Some(shown.details.quantization).filter(|q| !q.is_empty()));
        set("timed_by", Some("the server".into()));
        Ok(facts)
    }

    fn structure(&mut self, _test: &Test) -> Result<Structure, MeasureError> {
        let running = self.loaded()?;
        let shown = self.server.show()?;
        let text = |text: String| Some(text).filter(|t| !t.is_empty()).map(|t| json!(t));
        let facts = [
            ("memory.gpu_percent", gpu_percent(&running).map(|n| json!(n))),
            ("server.context_tokens", running.context_tokens.map(|n| json!(n))),
            ("model.digest", text(running.digest)),
            ("model.family", text(shown.details.family)),
            ("model.file_type", text(shown.details.quantization)),
            ("model.parameter_size", text(shown.details.parameter_size)),
            ("model.layers", shown.layers.map(|n| json!(n))),
            ("model.params", shown.params.map(|n| json!(n))),
            ("model.train_context_tokens", shown.train_context_tokens.map(|n| json!(n))),
        ];
        Ok(facts.into_iter().filter_map(|(k, v)| v.map(|v| (k.to_string(), v))).collect())
    }

    fn sample(&mut self, test: &Test) -> Result<Sample, MeasureError> {
        let load_ms = if test.reload { Some(self.reload()?) } else { None };
        self.loaded()?;
        let seen = self.prompts.run(&self.name, &self.server, test)?;
        let seen_as = Seen { by_server: true, prompt_alone: test.depth == 0 };
        let mut sample = readings::sample(&self.name, test, seen_as, &seen)?;
        sample.metrics.extend(load_ms.map(|ms| (Metric::LoadMs, ms)));
        Ok(sample)
    }
}

/// Whole percents of the model's bytes that are on GPUs; 100 only if all are.
fn gpu_percent(running: &RunningModel) -> Option<u64> {
    let (all, vram) = (running.bytes.filter(|b| *b > 0)?, running.vram_bytes?);
    Some((vram.min(all) as f64 / all as f64 * 100.0).floor() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_on_the_gpu_is_all() {
        let of = |bytes, vram| {
            let (bytes, vram_bytes) = (Some(bytes), Some(vram));
            gpu_percent(&RunningModel { bytes, vram_bytes, ..RunningModel::default() })
        };
        assert_eq!((of(1000, 1000), of(1000, 999), of(1000, 0)), (Some(100), Some(99), Some(0)));
        assert_eq!(of(0, 0), None);
        assert_eq!(of(1000, 2000), Some(100));
    }
}
