//! What `gpuwhy check` found, as a document and in the forms that people and other tools read.
//!
//! Each form is made from [`CheckReport`] alone. Nothing here measures or judges.

mod document;
mod forms;
mod sections;

pub use document::{
    CHECK_SCHEMA, CheckMode, CheckReport, SampleSeries, SettingChange, SideReport, TestAttribution,
};
pub use forms::{bencher, benchstat, check_markdown, check_text, github, github_benchmark, junit};
