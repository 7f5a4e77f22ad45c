//! From bytes to lines of text, before anything is known about what they say.

mod bytes;
mod clean;
pub(super) mod clock;
mod glue;
mod head;

pub(super) use bytes::Cutter;
pub(super) use clean::clean;
pub(super) use glue::{may_have_seam, seam};
pub(super) use head::{is_blank, is_head, is_sure_head};
