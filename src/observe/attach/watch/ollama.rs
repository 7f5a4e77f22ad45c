//! Ollama: its models by its own interface, and their slots by the llama-server that it starts for each.

use std::collections::BTreeMap;

use crate::base::counter::Subject;
use crate::base::event::{AbsentReason, ServedModel, ServerFact};
use crate::observe::attach::BaseUrl;
use crate::observe::attach::discover::{FoundServer, Runner};
use crate::observe::attach::http::{Client, HttpError};
use crate::observe::attach::ollama::{Ollama, RunningModel, Shown};
use crate::observe::telemetry::{Readings, Unread};

use super::endpoint::Endpoint;
use super::llama::read_all;

/// One Ollama.
pub(super) struct OllamaWatch {
    client: Client,
    server: Ollama,
    running: Vec<RunningModel>,
    described: Vec<RunningModel>,
    /// What `/api/show` told, by the manifest's digest.
    shown: BTreeMap<String, Shown>,
    /// By process id.
    children: BTreeMap<u32, Endpoint>,
    /// Why the slots of what computes are not told.
    silent: Option<Unread>,
}

impl OllamaWatch {
    pub(super) fn new(client: Client) -> Self {
        Self {
            server: Ollama::new(client.clone(), ""),
            client,
            running: Vec::new(),
            described: Vec::new(),
            shown: BTreeMap::new(),
            children: BTreeMap::new(),
            silent: None,
        }
    }

    /// Whether it answers. Asks which models it has loaded.
    pub(super) fn is_alive(&mut self) -> Result<(), HttpError> {
        self.running = self.server.running()?;
        Ok(())
    }

    /// Whether it has loaded or unloaded something since it was described.
    pub(super) fn has_changed(&self) -> bool {
        // When a model will be unloaded changes with every request and is no part of the facts.
        let same = |a: &RunningModel, b: &RunningModel| {
            let of = |m: &RunningModel| (m.digest.clone(), m.bytes, m.vram_bytes, m.context_tokens);
            a.name == b.name && of(a) == of(b)
        };
        self.running.len() != self.described.len()
            || self.running.iter().zip(&self.described).any(|(a, b)| !same(a, b))
    }

    /// What it is and what it has loaded.
    pub(super) fn describe(
        &mut self,
        fact: &mut ServerFact,
        process: Option<&FoundServer>,
        make: &dyn Fn(&BaseUrl) -> Client,
    ) -> Result<(), HttpError> {
        fact.engine_version = self.server.version()?;
        let runners = process.map_or(&[][..], |p| &p.runners);
        let mut models = Vec::with_capacity(self.running.len());
        for model in &self.running {
            if !self.shown.contains_key(&model.digest) {
                let shown = Ollama::new(self.client.clone(), &model.name).show();
                // Without it, the model is told with less.
                self.shown.insert(model.digest.clone(), shown.unwrap_or_default());
            }
            let shown = self.shown.get(&model.digest).cloned().unwrap_or_default();
            let only = self.running.len() == 1 && runners.len() == 1;
            models.push(served(model, &shown, runners, only));
        }
        self.shown.retain(|digest, _| self.running.iter().any(|m| m.digest == *digest));
        fact.slots = runners.iter().filter_map(|r| r.slots).reduce(|a, b| a + b);
        for runner in runners {
            if let Some(layers) = runner.gpu_layers {
                let name = format!("n-gpu-layers of {}", runner.pid);
                fact.details.push((name, layers.to_string()));
            }
        }
        self.adopt(process, &models, make);
        fact.models = models;
        self.described = self.running.clone();
        Ok(())
    }

    /// The llama-servers that it has started.
    fn adopt(
        &mut self,
        process: Option<&FoundServer>,
        models: &[ServedModel],
        make: &dyn Fn(&BaseUrl) -> Client,
    ) {
        let runners = process.map_or(&[][..], |p| &p.runners);
        self.silent = silent(process, !models.is_empty());
        if self.silent.is_some() {
            self.children.clear();
            return;
        }
        self.children.retain(|pid, _| runners.iter().any(|r| r.pid == *pid));
        for runner in runners {
            let Some(address) = &runner.address else { continue };
            let of_file = |m: &&ServedModel| runner.model.as_deref() == Some(m.file.as_str());
            let model = models.iter().find(of_file);
            let child = self.children.entry(runner.pid);
            let child = child.or_insert_with(|| Endpoint::of_ollama(make(address)));
            child.has_model(model.map_or("", |m| m.name.as_str()));
        }
    }

    /// What it does now.
    pub(super) fn read(&mut self, to: &mut Readings) {
        if let Some(why) = &self.silent {
            to.absent(Some(Subject::Slot(0)), None, why.clone());
            return;
        }
        read_all(self.children.values_mut(), to).sample(to);
    }
}

/// Why nobody can tell what the slots do, where that is so.
fn silent(process: Option<&FoundServer>, has_models: bool) -> Option<Unread> {
    let why = |text: &str, hint: &str| Some(Unread::new(AbsentReason::NotSupported, text, hint));
    match process {
        _ if !has_models => None,
        None => why(
            "slots: the processes of this Ollama cannot be seen from here",
            "run gpuwhy on the machine where it runs, as root if it is another user's",
        ),
        Some(p) if p.other_network => why(
            "slots: what computes for this Ollama is in a network of its own, as in a container",
            "run gpuwhy inside of it, as with docker exec",
        ),
        Some(p) if p.runners.iter().all(|r| r.address.is_none()) => why(
            "slots: what computes for this Ollama tells nothing of them",
            "Ollama 0.30 and later compute with a llama-server, which does; its log tells of each request",
        ),
        Some(_) => None,
    }
}

fn served(model: &RunningModel, shown: &Shown, runners: &[Runner], only: bool) -> ServedModel {
    let file_of = |r: &Runner| r.model.clone().unwrap_or_default();
    let runner = runners
        .iter()
        .find(|r| !shown.file.is_empty() && file_of(r) == shown.file)
        .or(runners.first().filter(|_| only));
    // The context on the command line is that of all slots together.
    let of_slot = runner.and_then(|r| r.context_tokens?.checked_div(r.slots.unwrap_or(1)));
    let details = &model.details;
    ServedModel {
        name: model.name.clone(),
        file: runner.map(file_of).filter(|f| !f.is_empty()).unwrap_or_else(|| shown.file.clone()),
        quantization: details.quantization.clone(),
        architecture: details.family.clone(),
        parameters: shown.params,
        layers: shown.layers,
        bytes: model.bytes,
        vram_bytes: model.vram_bytes,
        context_tokens: model.context_tokens.or(of_slot),
        context_trained: shown.train_context_tokens,
    }
}
