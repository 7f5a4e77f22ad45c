//! Where the parts of a loaded model are, and what share of a token's time the CPU's part takes.

use crate::observe::logs::{BufferKind, LineId};

use super::LoadFacts;

/// Where the layers of a load are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// All layers on GPUs.
    Whole,
    /// Some layers on GPUs: offloaded of all, the output counted as one.
    Part(Share),
    /// No layer on a GPU.
    None,
}

/// Layers on GPUs out of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Layers on GPUs.
    pub offloaded: u64,
    /// All layers, the output counted as one.
    pub total: u64,
}

impl Share {
    /// Layers that are not on a GPU.
    pub fn missing(self) -> u64 {
        self.total.saturating_sub(self.offloaded)
    }
}

/// A CPU reads weights about this many times slower than a GPU of the same machine does: two
/// channels of DDR4 or DDR5 give 40 to 90 GB/s, cards that people run models on give 250 to 1800.
/// Only the order of findings depends on it.
const CPU_SLOWER_THAN_GPU: f64 = 8.0;

impl LoadFacts<'_> {
    /// Layers offloaded and all layers: as the loader said, else as the server planned it.
    pub fn share(&self) -> Option<(Share, LineId)> {
        if let Some(layers) = self.load.layers {
            let share = Share { offloaded: layers.offloaded, total: layers.total };
            return Some((share, layers.line));
        }
        let estimate = self.load.estimate.as_ref()?;
        let (offloaded, total) = (estimate.layers_offload?, estimate.layers_model?);
        Some((Share { offloaded, total }, estimate.line))
    }

    /// Where the layers are, as far as the log tells.
    pub fn placement(&self) -> Option<Placement> {
        let (share, _) = self.share()?;
        Some(match share.offloaded {
            0 => Placement::None,
            n if n >= share.total => Placement::Whole,
            _ => Placement::Part(share),
        })
    }

    /// Names of the devices that hold weights of layers, the host left out, in the order of the log.
    pub fn gpus_with_weights(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for buffer in &self.load.buffers {
            if buffer.kind == BufferKind::Model && !buffer.is_host() && buffer.bytes > 0 {
                let name = buffer.device.as_str();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// How many GPUs hold layers, from the buffers, else from the plan; `None` when not told.
    pub fn gpus_used(&self) -> Option<usize> {
        let by_buffers = self.gpus_with_weights().len();
        if by_buffers > 0 {
            return Some(by_buffers);
        }
        let by_device = self.load.layers_by_device.iter();
        let by_device = by_device.filter(|(d, n)| !d.starts_with("CPU") && *n > 0).count();
        if by_device > 0 {
            return Some(by_device);
        }
        let estimate = self.load.estimate.as_ref()?;
        let split = estimate.layers_split.iter().filter(|&&n| n > 0).count();
        match (split, estimate.layers_offload?) {
            (0, 0) => Some(0),
            (0, _) => Some(1),
            (n, _) => Some(n),
        }
    }

    /// Splits of the graph that need no explanation when everything is on GPUs: the token embedding
    /// on the CPU, and one per GPU.
    pub fn splits_expected(&self) -> Option<u64> {
        match self.gpus_used()? {
            0 => None,
            n => Some(n as u64 + 1),
        }
    }

    /// Share of a token's time that the layers on the CPU take, from 0 to 1, if layers are equal
    /// and weights are read once per token.
    pub fn cpu_time_share(&self) -> Option<f64> {
        let (share, _) = self.share()?;
        if share.total == 0 {
            return None;
        }
        let on_cpu = share.missing() as f64 * CPU_SLOWER_THAN_GPU;
        let on_gpu = share.offloaded as f64;
        Some(on_cpu / (on_cpu + on_gpu))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Facts;
    use super::*;
    use crate::observe::logs::{Buffer, Layers, Load, LogSession};

    fn session(offloaded: u64, total: u64, devices: &[&str]) -> LogSession {
        let line = LineId(1);
        let buffers = devices.iter().map(|d| Buffer {
            kind: BufferKind::Model,
            device: (*d).to_string(),
            bytes: 1 << 30,
            line,
        });
        let load = Load {
            layers: Some(Layers { offloaded, total, line }),
            buffers: buffers.collect(),
            ..Load::default()
        };
        LogSession { loads: vec![load], ..LogSession::default() }
    }

    #[test]
    fn whole_part_and_none_are_told_apart() {
        let of = |n| {
            let log = session(n, 33, &["CUDA0"]);
            Facts::of_log(&log).last_load().and_then(|l| l.placement())
        };
        assert_eq!(of(33), Some(Placement::Whole));
        assert_eq!(of(5), Some(Placement::Part(Share { offloaded: 5, total: 33 })));
        assert_eq!(of(0), Some(Placement::None));
    }

    #[test]
    fn two_gpus_and_the_embedding_are_three_splits() {
        let log = session(65, 65, &["CUDA0", "CUDA1", "CPU_Mapped", "CUDA_Host"]);
        let facts = Facts::of_log(&log);
        let load = facts.last_load().unwrap();
        assert_eq!(load.gpus_with_weights(), ["CUDA0", "CUDA1"]);
        assert_eq!(load.splits_expected(), Some(3));
    }

    #[test]
    fn few_layers_on_the_cpu_take_most_of_the_time() {
        let share = |n| {
            let log = session(n, 40, &["CUDA0"]);
            Facts::of_log(&log).last_load().and_then(|l| l.cpu_time_share()).unwrap()
        };
        assert!((share(40) - 0.0).abs() < 1e-9);
        assert!(share(30) > 0.6);
        assert!((share(0) - 1.0).abs() < 1e-9);
    }
}
