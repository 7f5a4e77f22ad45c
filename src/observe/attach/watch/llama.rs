//! A llama-server that was started by itself: what it is and what it does.

use std::collections::BTreeMap;

use crate::base::counter::{Counter, Subject};
use crate::base::event::{AbsentReason, ServedModel, ServerFact};
use crate::observe::attach::BaseUrl;
use crate::observe::attach::discover::FoundServer;
use crate::observe::attach::http::{Client, HttpError};
use crate::observe::attach::llama_server::Props;
use crate::observe::telemetry::{Readings, Unread};

use super::endpoint::{Endpoint, Sleeps, Told};

/// One llama-server, or a router with the ones that it has started.
pub(super) struct Llama {
    endpoint: Endpoint,
    props: Props,
    /// By process id, of a router.
    children: BTreeMap<u32, Endpoint>,
}

impl Llama {
    pub(super) fn new(client: Client) -> Self {
        let (props, children) = (Props::default(), BTreeMap::new());
        Self { endpoint: Endpoint::new(client), props, children }
    }

    /// Whether it answers: an error of kind [`super::ErrorKind::Busy`] while it loads.
    pub(super) fn is_alive(&self) -> Result<(), HttpError> {
        self.endpoint.server.health()
    }

    /// What it is and what it has loaded.
    pub(super) fn describe(
        &mut self,
        fact: &mut ServerFact,
        process: Option<&FoundServer>,
        make: &dyn Fn(&BaseUrl) -> Client,
    ) -> Result<(), HttpError> {
        self.props = self.endpoint.server.props()?;
        let props = &self.props;
        fact.engine_version.clone_from(&props.build);
        fact.slots = props.slots;
        let sleeps = |(name, value): &(String, String)| {
            name == "sleep-idle-seconds" && !value.starts_with('-')
        };
        self.endpoint.sleeps = if props.is_sleeping || fact.details.iter().any(sleeps) {
            Sleeps::Surely
        } else if process.is_none() {
            Sleeps::Perhaps
        } else {
            Sleeps::Never
        };
        if props.is_sleeping {
            fact.details.push(("sleeping".to_string(), "yes".to_string()));
        }
        fact.models.clear();
        if props.is_router {
            fact.details.push(("router".to_string(), "yes".to_string()));
            self.adopt(process, make);
            for child in self.children.values_mut() {
                if let Ok(model) = served(child) {
                    child.has_model(&model.name);
                    fact.models.push(model);
                }
            }
        } else if !props.is_sleeping {
            let model = served(&self.endpoint)?;
            self.endpoint.has_model(&model.name);
            fact.models.push(model);
        }
        Ok(())
    }

    /// The servers that a router has started.
    fn adopt(&mut self, process: Option<&FoundServer>, make: &dyn Fn(&BaseUrl) -> Client) {
        let runners = process.filter(|p| !p.other_network).map_or(&[][..], |p| &p.runners);
        let pids: Vec<u32> = runners.iter().map(|r| r.pid).collect();
        self.children.retain(|pid, _| pids.contains(pid));
        for runner in runners {
            let Some(address) = &runner.address else { continue };
            self.children.entry(runner.pid).or_insert_with(|| Endpoint::new(make(address)));
        }
    }

    /// What it does now.
    pub(super) fn read(&mut self, to: &mut Readings) {
        if self.props.is_router {
            let told = read_all(self.children.values_mut(), to);
            told.sample(to);
            return;
        }
        let mut told = self.endpoint.read(0, to);
        told.slots = told.slots.or(self.props.slots);
        if self.endpoint.sleeps == Sleeps::Surely && told.busy.is_none() {
            let why = Unread::new(
                AbsentReason::NotSupported,
                "this server puts its model away when idle, and asking for /slots would keep it \
                 from that",
                "start it with --metrics, which can be read without that",
            );
            to.absent(Some(Subject::Server), Some(Counter::SlotsBusy), why);
        }
        told.sample(to);
    }
}

/// What several servers do, together; their slots are numbered through.
pub(super) fn read_all<'a>(
    endpoints: impl Iterator<Item = &'a mut Endpoint>,
    to: &mut Readings,
) -> Told {
    let mut all = Vec::new();
    let mut first_slot = 0u16;
    for endpoint in endpoints {
        let told = endpoint.read(first_slot, to);
        let slots = told.slots.and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
        first_slot = first_slot.saturating_add(slots);
        all.push(told);
    }
    Told::sum(&all)
}

/// The last part of a path of any system.
fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The model that a llama-server has loaded.
fn served(endpoint: &Endpoint) -> Result<ServedModel, HttpError> {
    let props = endpoint.server.props()?;
    // Old builds tell less; what they do tell is worth having.
    let meta = endpoint.server.model().unwrap_or_default();
    let names = [&props.model_alias, &meta.id, &props.model_path];
    let name = names.into_iter().find(|name| !name.is_empty()).map_or("", String::as_str);
    // Without a name of its own, a model is called by its whole path.
    let name = if *name == props.model_path { file_name(name) } else { name };
    Ok(ServedModel {
        name: name.to_string(),
        quantization: props.model_file_type.clone().unwrap_or_default(),
        parameters: meta.params,
        bytes: meta.bytes,
        context_tokens: props.context_tokens,
        context_trained: meta.train_context_tokens,
        file: props.model_path,
        ..ServedModel::default()
    })
}
