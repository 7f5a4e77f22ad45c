//! Records become a [`LogSession`]. It does not judge and reads no text but a record's fields.
//!
//! A log may be a fragment, may have several loads, and several processes may write into it. So
//! every process has a [`stream::Stream`] with the load that is open there, and lines find their
//! load by what a load's lines look like in order ([`stage::Stage`]). Invariant: memory is bounded
//! whatever the number of records; what is left out is counted.

mod command;
mod context;
mod devices;
mod dump;
mod engine_request;
mod identity;
mod kind;
mod memory;
mod model;
mod notices;
mod requests;
mod sane;
mod settings;
mod stage;
mod store;
mod stream;
mod value;
mod vllm;

#[cfg(test)]
mod tests;

pub use kind::Kind;

use super::record::Record;
use super::session::{LineId, LogSession};
use identity::Identity;
use store::Store;
use stream::Streams;

/// Takes records in and ends in a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Fold {
    session: LogSession,
    identity: Identity,
    streams: Streams,
    store: Store,
    devices: devices::Current,
}

impl Fold {
    /// Takes one record in.
    pub(super) fn apply(&mut self, record: &Record<'_>) {
        self.identity.note(&mut self.session, record);
        if let Some(notice) = &record.pattern.notice {
            notices::note(&mut self.session, notice, record, self.store.begun());
        }
        if !matches!(record.kind, Kind::Ignore | Kind::DumpNode | Kind::Metadata) {
            self.keep(record);
        }
        self.dispatch(record);
    }

    /// Looks at a line that no pattern knows: its form may still tell which program wrote it.
    pub(super) fn unknown(&mut self, text: &str, line: LineId) {
        self.identity.note_unknown(&mut self.session, text, line);
    }

    /// Every kind goes to the part that knows it.
    fn dispatch(&mut self, record: &Record<'_>) {
        let Self { session, streams, store, devices, identity } = self;
        match record.kind {
            Kind::Ignore | Kind::Notice => {}
            Kind::Listening | Kind::Build | Kind::GpuwhyVersion | Kind::CliStart => {
                identity.version(session, record);
            }
            Kind::ServerConfig => settings::server_config(session, record),
            Kind::Libraries => devices::libraries(session, record),
            Kind::BackendLoaded | Kind::BackendRegistered => devices::backend(session, record),
            Kind::DevicesFound
            | Kind::DeviceCompute
            | Kind::DeviceNumber
            | Kind::DeviceListed
            | Kind::DeviceMetal
            | Kind::DeviceSycl
            | Kind::DeviceVulkan
            | Kind::MetalUnified
            | Kind::MetalWorkingSet => devices.apply(session, record),
            Kind::VllmEngine
            | Kind::VllmKvCache
            | Kind::VllmThroughput
            | Kind::VllmVersion
            | Kind::VllmWeights => vllm::apply(session, streams, store, record),
            Kind::DumpNode | Kind::DumpSplit => streams.of(record, store).dump(record, store),
            kind if requests::is_request(kind) => {
                requests::apply(streams.of(record, store), store, record);
            }
            Kind::Unloaded => stream::unloaded(streams, store, record),
            _ => {
                if record.kind == Kind::DeviceUsing {
                    devices.apply(session, record);
                }
                memory::remember_gpu(session, record);
                stream::apply(session, streams.of(record, store), store, record);
            }
        }
    }

    /// Keeps the line's text; now and then forgets those that nothing refers to.
    fn keep(&mut self, record: &Record<'_>) {
        self.session.lines.keep(record.line, record.line_text());
        if self.store.lines_are_many(self.session.lines.bytes()) {
            let mut wanted = self.session.lines_referred();
            self.streams.refer(&mut wanted);
            self.store.refer(&mut wanted);
            self.session.lines.retain(&wanted);
            self.store.lines_were_retained(self.session.lines.bytes());
        }
    }

    /// What was told; the counts of lines are left to the parser.
    pub(super) fn finish(mut self) -> LogSession {
        self.streams.close(&mut self.store);
        self.store.finish(&mut self.session);
        self.identity.finish(&mut self.session);
        devices::number(&mut self.session);
        sane::without_absurd_numbers(&mut self.session);
        let wanted = self.session.lines_referred();
        self.session.lines.retain(&wanted);
        self.session
    }
}
