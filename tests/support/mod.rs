//! What several integration tests share.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod cuda;
pub(crate) mod memory_image;
pub(crate) mod parity;
