//! Critical errors as the driver reports them (XID), by waiting for them.

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{EventSet, Nvml};

use crate::observe::telemetry::unread::Unread;

use super::{Library, errors, fenced};

/// Waits for errors of all GPUs that can report them.
#[derive(Debug)]
pub struct XidWatch<'a> {
    /// One set for each GPU: a set to which a GPU cannot be added is lost with all that is in it.
    sets: Vec<(u8, EventSet<'a>)>,
}

impl<'a> XidWatch<'a> {
    /// Registers for all GPUs.
    pub fn new(library: &'a Library) -> Result<Self, Unread> {
        let count = library.count()?;
        let free = library.call(|nvml| Ok(nvml.lib().nvmlEventSetFree.is_ok()))?;
        if !free {
            // The set's destructor would panic.
            return Err(errors::unread(&NvmlError::FunctionNotFound));
        }
        let (mut sets, mut why) = (Vec::new(), None);
        for gpu in 0..count {
            match register(library, gpu) {
                Ok(set) => sets.push((gpu, set)),
                Err(error) => why = Some(error),
            }
        }
        match why {
            Some(why) if sets.is_empty() => Err(why),
            _ => Ok(Self { sets }),
        }
    }

    /// The next error: GPU and XID; `None` when there was none in about this time.
    pub fn wait(&self, timeout_ms: u32) -> Result<Option<(u8, u64)>, Unread> {
        let each_ms = timeout_ms / self.sets.len().max(1) as u32;
        for (gpu, set) in &self.sets {
            let event = fenced(|| match set.wait(each_ms) {
                Ok(event) => Ok(event.event_data),
                Err(NvmlError::Timeout) => Ok(None),
                Err(other) => Err(other),
            })?;
            match event {
                Some(XidError::Value(number)) => return Ok(Some((*gpu, number))),
                Some(XidError::Unknown) => return Ok(Some((*gpu, 999))),
                None => {}
            }
        }
        Ok(None)
    }
}

fn register(library: &Library, gpu: u8) -> Result<EventSet<'_>, Unread> {
    let device = library.device(gpu)?;
    let set = library.call(Nvml::create_event_set)?;
    let kinds = EventTypes::CRITICAL_XID_ERROR;
    fenced(|| device.register_events(kinds, set).map_err(|e| e.error))
}
