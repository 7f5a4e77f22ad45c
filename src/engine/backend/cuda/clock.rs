//! When the device did something, on the host's clock.
//!
//! The device's events tell only how far apart two of them are. One of them, the anchor, is reached
//! while the host watches, so its time is known to within the few microseconds that the watching
//! takes; all others are counted from it. Invariant: the anchor is renewed often enough that the
//! driver's single precision and the drift of two clocks stay below that.

use std::sync::Arc;

use crate::base::clock::now_ns;

use super::driver::{Context, CudaError, DeviceEvent, Stream};

/// How long an anchor serves.
const ANCHOR_NS_MAX: u64 = 1_000_000_000;

/// How often the anchor is set anew to find the tightest watch.
const TRIES: usize = 4;

/// See the module.
pub(super) struct DeviceClock {
    anchor: DeviceEvent,
    anchor_ns: u64,
}

impl DeviceClock {
    /// A clock for an idle stream.
    pub(super) fn new(context: &Arc<Context>, stream: &Stream) -> Result<Self, CudaError> {
        let anchor = DeviceEvent::new(context)?;
        let mut clock = Self { anchor, anchor_ns: 0 };
        clock.align(context, stream)?;
        Ok(clock)
    }

    /// Sets a new anchor if the old one has served long enough. The stream must be idle.
    pub(super) fn refresh(
        &mut self,
        context: &Arc<Context>,
        stream: &Stream,
    ) -> Result<(), CudaError> {
        if now_ns().saturating_sub(self.anchor_ns) > ANCHOR_NS_MAX {
            self.align(context, stream)?;
        }
        Ok(())
    }

    fn align(&mut self, context: &Arc<Context>, stream: &Stream) -> Result<(), CudaError> {
        let mut best: Option<u64> = None;
        for _ in 0..TRIES {
            let event = DeviceEvent::new(context)?;
            let before_ns = now_ns();
            stream.record(&event)?;
            event.synchronize()?;
            let width_ns = now_ns() - before_ns;
            if best.is_none_or(|best| width_ns < best) {
                best = Some(width_ns);
                self.anchor_ns = before_ns + width_ns / 2;
                self.anchor = event;
            }
        }
        Ok(())
    }

    /// When the device reached an event, which it must have done by now.
    pub(super) fn time_ns(&self, event: &DeviceEvent) -> Result<u64, CudaError> {
        Ok(self.anchor_ns + event.since(&self.anchor)?)
    }
}
