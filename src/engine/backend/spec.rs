//! Devices as people name them: `-dev CUDA0,CUDA1`, or `-dev virtual:12GiB/link=16GB/s,virtual:8GiB`.

use crate::base::units::parse_bytes;
use crate::engine::graph::Op;

/// One device of `-dev`.
#[derive(Clone, Debug, PartialEq)]
pub enum DeviceSpec {
    /// Every GPU that there is; without one, the CPU alone.
    Auto,
    /// The NVIDIA GPU of this number, as the driver counts.
    Cuda(usize),
    /// A virtual device.
    Virtual(VirtualSpec),
}

/// A virtual device: how much memory, how fast a link, and what it cannot do.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualSpec {
    /// Capacity of its memory.
    pub capacity_bytes: u64,
    /// Rate of its link to the host, bytes per second; `None` leaves copies as fast as they are.
    pub link_bytes_per_s: Option<f64>,
    /// Time that each copy costs on top, in nanoseconds.
    pub link_latency_ns: u64,
    /// Operations that it has no kernel for, by ggml's names.
    pub lacks: Vec<String>,
}

/// A device that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("-dev: '{text}': {problem}")]
pub struct BadDevice {
    /// What was typed.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

impl BadDevice {
    /// What to type instead.
    pub fn hint(&self) -> &'static str {
        "an NVIDIA GPU is written CUDA0, CUDA1, …; a virtual device virtual:12GiB, with optional \
         parts after it: virtual:12GiB/link=16GB/latency=10us/lacks=FLASH_ATTN_EXT+ROPE; several \
         devices are separated by commas; 'auto' uses every GPU, 'none' the CPU alone"
    }
}

impl DeviceSpec {
    /// The devices of a comma-separated list; `auto` yields every GPU, `none` or nothing no device
    /// beside the CPU.
    ///
    /// # Errors
    /// When an entry is of no known form.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, BadDevice> {
        if matches!(text.trim(), "" | "none" | "CPU" | "cpu") {
            return Ok(Vec::new());
        }
        if text.trim() == "auto" {
            return Ok(vec![Self::Auto]);
        }
        text.split(',').map(|entry| Self::parse(entry.trim())).collect()
    }

    fn parse(text: &str) -> Result<Self, BadDevice> {
        let bad = |problem: String| BadDevice { text: text.to_string(), problem };
        let number = text.get(..4).filter(|p| p.eq_ignore_ascii_case("cuda")).map(|_| &text[4..]);
        if let Some(index) = number.and_then(|n| n.parse().ok()) {
            return Ok(Self::Cuda(index));
        }
        let Some(rest) = text.strip_prefix("virtual:") else {
            return Err(bad("no such kind of device".to_string()));
        };
        let mut parts = rest.split('/');
        let capacity = parts.next().unwrap_or_default();
        let mut spec = VirtualSpec {
            capacity_bytes: parse_bytes(capacity).map_err(|e| bad(e.to_string()))?,
            link_bytes_per_s: None,
            link_latency_ns: 0,
            lacks: Vec::new(),
        };
        for part in parts {
            // `link=16GB/s` reads naturally, though the slash also separates the parts.
            if part == "s" {
                continue;
            }
            let (key, value) =
                part.split_once('=').ok_or_else(|| bad(format!("'{part}' is no key=value")))?;
            match key {
                "link" => {
                    let rate = parse_bytes(value).map_err(|e| bad(e.to_string()))?;
                    if rate == 0 {
                        return Err(bad("a link needs a rate above 0".to_string()));
                    }
                    spec.link_bytes_per_s = Some(rate as f64);
                }
                "latency" => spec.link_latency_ns = parse_latency_ns(value).map_err(bad)?,
                "lacks" => {
                    for op in value.split('+') {
                        let known = Op::NAMES.iter().find(|n| n.eq_ignore_ascii_case(op));
                        let known = known.ok_or_else(|| {
                            bad(format!("no operation '{op}'; known: {}", Op::NAMES.join(" ")))
                        })?;
                        spec.lacks.push((*known).to_string());
                    }
                }
                _ => return Err(bad(format!("unknown part '{key}'"))),
            }
        }
        Ok(Self::Virtual(spec))
    }
}

/// A latency like `10us`, `2ms` or `500ns`.
fn parse_latency_ns(text: &str) -> Result<u64, String> {
    let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6)];
    let found = units.iter().find_map(|(unit, ns)| text.strip_suffix(unit).map(|n| (n, ns)));
    let value = found.and_then(|(n, ns)| n.trim().parse::<f64>().ok().map(|n| n * ns));
    match value {
        Some(ns) if (0.0..=1e9).contains(&ns) => Ok(ns as u64),
        _ => Err(format!("'{text}' is no latency; write it like 10us, at most 1000ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_virtual_devices() {
        let list = DeviceSpec::parse_list(
            "virtual:1GiB, virtual:2G/link=16GB/s/latency=10us/lacks=rope+glu",
        );
        let expected = vec![
            DeviceSpec::Virtual(VirtualSpec {
                capacity_bytes: 1 << 30,
                link_bytes_per_s: None,
                link_latency_ns: 0,
                lacks: vec![],
            }),
            DeviceSpec::Virtual(VirtualSpec {
                capacity_bytes: 2 << 30,
                link_bytes_per_s: Some(16e9),
                link_latency_ns: 10_000,
                lacks: vec!["ROPE".to_string(), "GLU".to_string()],
            }),
        ];
        assert_eq!(list, Ok(expected));
        assert_eq!(DeviceSpec::parse_list("none"), Ok(vec![]));
        assert_eq!(DeviceSpec::parse_list("auto"), Ok(vec![DeviceSpec::Auto]));
        let gpus = vec![DeviceSpec::Cuda(0), DeviceSpec::Cuda(12)];
        assert_eq!(DeviceSpec::parse_list("CUDA0, cuda12"), Ok(gpus));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("Vulkan0", "no such kind"),
            ("CUDA", "no such kind"),
            ("CUDA-1", "no such kind"),
            ("virtual:lots", "no memory size"),
            ("virtual:1G/link=0", "above 0"),
            ("virtual:1G/lacks=WARP", "no operation 'WARP'"),
            ("virtual:1G/latency=3h", "no latency"),
            ("virtual:1G/speed=3", "unknown part"),
        ] {
            let error = DeviceSpec::parse_list(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
