//! The dashboard: what an engine does, which device waits for what, and what to change.
//!
//! It reads events and holds no engine: a live run, a foreign server and a recording look the same.
//! `state` is what is shown, `update` changes it by keys and events and does nothing else, `view` draws
//! it; one file per panel. Invariants: drawing reads only the state, an engine is never waited for and
//! never made to wait, and the terminal is given back however the program ends.

#![allow(clippy::trivially_copy_pass_by_ref, reason = "how large a theme is may change")]
#![allow(dead_code, unused_imports, reason = "live sessions and the other panels join it next")]

mod activity;
mod choice;
mod dashboard;
mod feed;
mod panel;
mod panels;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod theme;
mod update;
mod view;

pub(in crate::app) use choice::ThemeChoice;
pub(in crate::app) use dashboard::{End, Options, run};
pub(in crate::app) use feed::{Feed, Live, Replay};
pub(in crate::app) use terminal::give_back;
