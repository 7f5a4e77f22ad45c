//! Memory and memory speed of GPUs that logs name, for logs that do not tell them.
//!
//! Sizes are the makers' (GiB of the largest common variant where there are several, none where they
//! differ by twice or more), speeds are theoretical GB/s. Only questions like "would it fit one of
//! them" and "which is the slower one" are answered with it, never exact sums.

use crate::observe::logs::Device;

/// Part of the name in lower case, GiB, GB/s. A name that contains another one comes before it.
#[rustfmt::skip]
const PRODUCTS: &[(&str, u64, u64)] = &[
    ("rtx 5090", 32, 1792), ("rtx 5080", 16, 960), ("rtx 5070 ti", 16, 896), ("rtx 5070", 12, 672),
    ("rtx 4090", 24, 1008), ("rtx 4080 super", 16, 736), ("rtx 4080", 16, 717),
    ("rtx 4070 ti super", 16, 672), ("rtx 4070 ti", 12, 504), ("rtx 4070", 12, 504),
    ("rtx 3090", 24, 936), ("rtx 3080 ti", 12, 912), ("rtx 3080", 10, 760),
    ("rtx 3070 ti", 8, 608), ("rtx 3070", 8, 448), ("rtx 3060 ti", 8, 448), ("rtx 3060", 12, 360),
    ("rtx 3050", 8, 224),
    ("rtx 2080 ti", 11, 616), ("rtx 2080", 8, 448), ("rtx 2070", 8, 448), ("rtx 2060 super", 8, 448),
    ("rtx 2060", 6, 336), ("gtx 1660", 6, 192), ("gtx 1650", 4, 128),
    ("gtx 1080 ti", 11, 484), ("gtx 1080", 8, 320), ("gtx 1070", 8, 256), ("gtx 1060", 6, 192),
    ("gtx 1050 ti", 4, 112), ("gtx 1050", 2, 112), ("gt 1030", 2, 48),
    ("titan rtx", 24, 672), ("titan v", 12, 653), ("titan x", 12, 480),
    ("rtx pro 6000", 96, 1792), ("rtx 6000 ada", 48, 960), ("rtx a6000", 48, 768),
    ("rtx a5000", 24, 768), ("rtx a4000", 16, 448), ("rtx a2000", 12, 288),
    ("h200", 141, 4800), ("h100 nvl", 94, 3900), ("h100", 80, 3350), ("a100 80gb", 80, 2000),
    ("a100-sxm4-80gb", 80, 2039), ("a100", 40, 1555), ("l40s", 48, 864), ("l40", 48, 864),
    ("l4", 24, 300), ("a40", 48, 696), ("a30", 24, 933), ("a10g", 24, 600), ("a10", 24, 600),
    ("a16", 16, 200), ("a2", 16, 200), ("v100", 16, 900), ("tesla t4", 16, 320),
    ("tesla p100", 16, 732), ("tesla p40", 24, 347), ("tesla p4", 8, 192), ("tesla m40", 24, 288),
    ("k80", 12, 240),
    ("rx 7900 xtx", 24, 960), ("rx 7900 xt", 20, 800), ("rx 7800 xt", 16, 624),
    ("rx 7600", 8, 288), ("rx 6900 xt", 16, 512), ("rx 6800", 16, 512), ("rx 6700 xt", 12, 384),
    ("rx 9070", 16, 640), ("mi50", 16, 1024), ("mi60", 32, 1024), ("mi100", 32, 1229),
    ("mi210", 64, 1638), ("mi300x", 192, 5300), ("arc a770", 16, 560), ("arc b580", 12, 456),
];

fn product(device: &Device) -> Option<(u64, u64)> {
    let name = device.description.as_deref()?.to_ascii_lowercase();
    let laptop = name.contains("laptop") || name.contains("mobile") || name.contains("mig");
    let found = PRODUCTS.iter().find(|p| whole_word(&name, p.0)).filter(|_| !laptop)?;
    Some((found.1, found.2))
}

/// Whether the words stand in the name and do not go on: `a10` is not in `a100`.
fn whole_word(name: &str, words: &str) -> bool {
    name.match_indices(words).any(|(at, _)| {
        let before = name[..at].chars().next_back();
        let after = name[at + words.len()..].chars().next();
        let inside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        !inside(before) && !inside(after)
    })
}

/// All memory of a device: as told, else that of the product.
pub(crate) fn memory_bytes(device: &Device) -> Option<u64> {
    device.total_bytes.or_else(|| Some(product(device)?.0 << 30))
}

/// Memory speed of a device by its product, GB/s.
pub(crate) fn memory_speed(device: &Device) -> Option<u64> {
    Some(product(device)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_found_by_whole_words() {
        let of = |name: &str| {
            let device = Device { description: Some(name.to_string()), ..Device::default() };
            memory_bytes(&device).map(|b| b >> 30)
        };
        assert_eq!(of("NVIDIA GeForce RTX 3090"), Some(24));
        assert_eq!(of("NVIDIA GeForce RTX 4070 Ti SUPER"), Some(16));
        assert_eq!(of("NVIDIA A100-SXM4-80GB"), Some(80));
        assert_eq!(of("NVIDIA A10"), Some(24));
        assert_eq!(of("NVIDIA GeForce RTX 4090 Laptop GPU"), None);
        assert_eq!(of("Some new GPU"), None);
    }
}
