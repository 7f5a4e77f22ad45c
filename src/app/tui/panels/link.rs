//! What a PCIe link can carry.
//!
//! Figures are of one direction, after the line code and before the packets' own overhead, of which
//! nothing is known here: a copy comes near them and does not reach them.

use crate::base::counter::{Counter, Subject};
use crate::base::event::{DeviceFact, DeviceIndex};
use crate::observe::session::Session;

use super::observed::gpu_of;

/// Bytes per second of one lane in one direction, by generation. PCI-SIG's base specifications give
/// 2.5 and 5 GT/s with 8b/10b coding for generations 1 and 2; 8, 16 and 32 GT/s with 128b/130b for
/// 3, 4 and 5; and for 6 64 GT/s in units of 256 bytes, of which 242 carry packets.
fn lane_bytes_per_s(generation: u32) -> Option<f64> {
    let (transfers_per_s, share) = match generation {
        1 => (2.5e9, 8.0 / 10.0),
        2 => (5e9, 8.0 / 10.0),
        3 => (8e9, 128.0 / 130.0),
        4 => (16e9, 128.0 / 130.0),
        5 => (32e9, 128.0 / 130.0),
        6 => (64e9, 242.0 / 256.0),
        _ => return None,
    };
    Some(transfers_per_s * share / 8.0)
}

/// A link as it was sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PcieLink {
    pub generation: u32,
    pub lanes: u32,
    pub bytes_per_s: f64,
}

/// A GPU's link. The generation falls while a GPU idles, so the highest of the last minute counts.
pub(super) fn of_gpu(session: &Session, gpu: u8) -> Option<PcieLink> {
    let subject = Subject::Gpu(gpu);
    let generations = session.counters.get(subject, Counter::PcieGeneration)?;
    let generation = generations.points().map(|p| p.value).fold(0.0, f64::max) as u32;
    let lanes = session.value(subject, Counter::PcieWidth)? as u32;
    let bytes_per_s = lane_bytes_per_s(generation)? * f64::from(lanes);
    (lanes > 0).then_some(PcieLink { generation, lanes, bytes_per_s })
}

/// The narrowest link between two devices; where one of them has an unknown one, why, as far as that is
/// known.
pub(super) fn between(
    session: &Session,
    from: DeviceIndex,
    to: DeviceIndex,
) -> Result<PcieLink, &'static str> {
    let ends = [session.device(from), session.device(to)];
    if ends.iter().flatten().any(|d| d.is_virtual) {
        return Err(": a virtual device");
    }
    let is_gpu = |d: &&DeviceFact| d.name != "CPU";
    let gpus: Vec<&DeviceFact> = ends.into_iter().flatten().filter(is_gpu).collect();
    let links: Option<Vec<PcieLink>> =
        gpus.iter().map(|d| of_gpu(session, gpu_of(session, d)?)).collect();
    let slowest = links
        .and_then(|links| links.into_iter().min_by(|a, b| a.bytes_per_s.total_cmp(&b.bytes_per_s)));
    slowest.ok_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_carry_what_is_published() {
        // PCI-SIG quotes 16 lanes at about 4, 8, 15.8, 31.5, 63 and 121 GB/s in one direction.
        let quoted = [4.0, 8.0, 15.75, 31.5, 63.0, 121.0];
        for (generation, gb) in (1..).zip(quoted) {
            let of_16 = lane_bytes_per_s(generation).unwrap() * 16.0 / 1e9;
            assert!((of_16 - gb).abs() < 0.1, "{generation}: {of_16}");
        }
        assert_eq!(lane_bytes_per_s(0), None);
    }
}
