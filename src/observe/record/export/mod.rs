//! Sessions in the formats of other programs: a timeline for Perfetto and Chrome, tables, metrics.
//!
//! Everything is written from events alone, so that a live session and its recording give the same.

mod chrome;
mod csv;
mod names;
mod perfetto;
mod prometheus;
mod timeline;

#[cfg(test)]
mod tests;

pub use chrome::chrome;
pub use csv::csv;
pub use perfetto::perfetto;
pub use prometheus::prometheus;
