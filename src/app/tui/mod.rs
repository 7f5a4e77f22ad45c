//! The dashboard: what an engine does, which device waits for what, and what to change.
//!
//! It reads events and holds no engine: a live run, a foreign server and a recording look the same.
//! `state` is what is shown, `update` changes it by keys and events and does nothing else, `view` draws
//! it; one file per panel. Invariants: drawing reads only the state, an engine is never waited for and
//! never made to wait, and the terminal is given back however the program ends.

mod panel;
mod panels;
mod theme;
