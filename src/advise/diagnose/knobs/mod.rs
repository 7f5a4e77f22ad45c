//! Settings that engines know, by version: what lint and fixes are looked up in.
//!
//! The data is `profiles/engines/settings-*.toml`. Nothing here knows a rule; a fix that names a
//! setting is made by `choose`, a setting that somebody made is judged by `lint`, and `forms`
//! writes a fix down as a person needs it. Invariant: a name is never guessed: what is not in the
//! data is unknown, and a version that the data does not bound is not judged.

mod choose;
mod data;
mod forms;
mod lint;

pub use choose::{fix_context, fix_env, fix_option, flag_for_build, since_note};
pub use data::{Library, Setting, SettingKind, Takes, knobs};
pub use forms::{Form, forms};
pub use lint::{Fault, judge_env, judge_flag, judge_option};
