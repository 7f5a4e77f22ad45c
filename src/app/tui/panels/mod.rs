//! The panels that draw what a session holds: one file per panel, and what they share.
//!
//! A panel reads and draws; what follows from a session is said by rules, not here. Invariants: a
//! panel draws into any area without a panic, shows nothing that was not observed, and says in words
//! what is missing and why.

mod batch;
mod devices;
pub(super) mod findings;
mod gpu;
mod heat;
mod histogram;
mod host;
mod kit;
mod lanes;
mod layers;
mod link;
mod log;
mod nodes;
mod observed;
mod requests;
mod server_memory;
mod splits;
mod table;
mod timeline;
mod transfers;

#[cfg(test)]
mod tests;

use super::panel::Panel;

/// All panels in the order of their tabs.
pub(super) const PANELS: [&dyn Panel; 8] = [
    &layers::Layers,
    &splits::Splits,
    &timeline::Timeline,
    &batch::Batch,
    &transfers::Transfers,
    &devices::Devices,
    &findings::Findings,
    &log::Log,
];

/// Where the findings are among them.
pub(super) const FINDINGS: usize = 6;
