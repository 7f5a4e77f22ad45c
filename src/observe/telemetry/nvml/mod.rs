//! NVIDIA GPUs, through the driver's own management library and `nvml-wrapper`.
//!
//! The library is opened at run time. Every call may fail for itself, and none may end the program:
//! `fenced` turns errors and panics into [`Unread`]. What the wrapper can panic on: `Nvml`'s and
//! `EventSet`'s destructors, when the library lacks `nvmlShutdown` or `nvmlEventSetFree`, which is
//! looked at before; a count of processes near 2^32, where overflow is checked; GPM's metrics and its
//! event loop, which are not used. It reads names as C strings and trusts their ends.
//!
//! Handles of devices are asked for at each reading, so that one that comes back after a reset is
//! read again.

mod counters;
mod errors;
mod facts;
mod history;
mod processes;
mod reader;
pub mod throttle;
mod watch;
mod xid;

use std::ffi::{OsStr, OsString};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::base::event::AbsentReason;

use super::unread::Unread;

pub use processes::{GpuProcess, is_here};
pub use reader::Reader;
pub use watch::{GpuWatch, Seen, SeenProcess};
pub use xid::XidWatch;

/// Names another library instead of the system's: for tests, which have one that follows a script.
pub const LIBRARY_VARIABLE: &str = "GPUWHY_NVML_LIBRARY";

/// The opened library.
#[derive(Debug)]
pub struct Library {
    /// `None` only while it is dropped.
    nvml: Option<Nvml>,
}

impl Library {
    /// Opens the system's library, or the one that [`LIBRARY_VARIABLE`] names.
    pub fn open() -> Result<Self, Unread> {
        Self::open_at(std::env::var_os(LIBRARY_VARIABLE).as_deref())
    }

    /// Opens a library by its path, the system's by `None`.
    pub fn open_at(path: Option<&OsStr>) -> Result<Self, Unread> {
        let path: Option<OsString> = path.map(OsStr::to_os_string);
        let nvml = fenced(|| match &path {
            Some(path) => Nvml::builder().lib_path(path).init(),
            None => Nvml::init(),
        })?;
        Ok(Self { nvml: Some(nvml) })
    }

    /// Number of GPUs.
    pub fn count(&self) -> Result<u8, Unread> {
        let count = self.call(Nvml::device_count)?;
        if count == 0 {
            let hint = "in a container: start it with its GPUs, as with `docker run --gpus all`";
            return Err(Unread::new(AbsentReason::NoDevice, "the driver sees no GPU", hint));
        }
        Ok(count.min(u8::MAX.into()) as u8)
    }

    /// The driver's version: `580.95.05`.
    pub fn driver_version(&self) -> Result<String, Unread> {
        self.call(Nvml::sys_driver_version)
    }

    /// A call of the library itself.
    fn call<'a, T>(
        &'a self,
        call: impl FnOnce(&'a Nvml) -> Result<T, NvmlError>,
    ) -> Result<T, Unread> {
        let nvml = self.nvml.as_ref().ok_or_else(|| errors::unread(&NvmlError::Uninitialized))?;
        fenced(|| call(nvml))
    }

    /// A GPU. The order is NVML's, by bus.
    fn device(&self, gpu: u8) -> Result<Device<'_>, Unread> {
        self.call(|nvml| nvml.device_by_index(gpu.into()))
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        if let Some(nvml) = self.nvml.take().filter(|n| n.lib().nvmlShutdown.is_err()) {
            // Its destructor would panic. What is lost is one open library at the very end.
            std::mem::forget(nvml);
        }
    }
}

/// Runs a call; what it panics on becomes an error like others.
fn fenced<T>(call: impl FnOnce() -> Result<T, NvmlError>) -> Result<T, Unread> {
    let panicked = |_| {
        let text = "the management library answered with what cannot be read";
        Unread::new(AbsentReason::Unreadable, text, "")
    };
    let result = catch_unwind(AssertUnwindSafe(call)).map_err(panicked)?;
    result.map_err(|e| errors::unread(&e))
}
