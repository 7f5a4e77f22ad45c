//! What every floor shares: units, the clock, statistics, and the events that flow between floors.
//!
//! Nothing here knows of models, devices or logs; nothing here does I/O.

pub mod clock;
pub mod counter;
pub mod event;
pub mod setup;
pub mod sink;
pub mod stats;
pub mod units;
