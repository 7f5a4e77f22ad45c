//! Workloads on targets: what is run, on what, and what came of it.
//!
//! A [`Target`] is anything that makes tokens: our own runtime as a child process, a server over HTTP,
//! another program, or a scripted mock. A [`Workload`] says what it is asked for. Every repetition
//! yields a [`Sample`]: metrics, the parts that the time went to, and the [`Conditions`] under which
//! it was taken. Nothing here judges; that is [`super::regress`]'s. Invariant: no sample is dropped,
//! whatever it says.

mod clock;
mod command;
mod compare;
pub mod http;
pub mod mock;
mod own;
mod report;
mod sample;
mod target;
mod witness;
mod witnessed;
mod workload;

pub use clock::{Clock, RealClock};
pub use command::{CommandTarget, split_words};
pub use compare::{
    Progress, Recording, Round, Run, Side, Stop, TestRecord, compare, details, details_alone,
    rounds_max,
};
pub use own::OwnTarget;
pub use sample::{Conditions, Metric, Part, Sample};
pub use target::{MeasureError, Structure, Target, TargetFacts};
pub use witness::{Watch, Witness};
pub use witnessed::Witnessed;
pub use workload::{Sampling, Test, Workload, WorkloadError, shipped};
