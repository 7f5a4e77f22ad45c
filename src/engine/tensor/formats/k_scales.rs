//! The twelve bytes in which `Q4_K` and `Q5_K` keep eight 6-bit scales and eight 6-bit minima.
//!
//! | bytes | low bits | top two bits |
//! |---|---|---|
//! | 0..4 | scales 0..4 (6 bits) | upper bits of scales 4..8 |
//! | 4..8 | minima 0..4 (6 bits) | upper bits of minima 4..8 |
//! | 8..12 | low nibble: scales 4..8, high nibble: minima 4..8 | |

/// Bytes of the packed scales and minima.
pub(super) const K_SCALE_SIZE: usize = 12;

/// Scale and minimum of sub-block `j`, `j < 8`, each from 0 to 63.
#[inline(always)]
pub fn unpack_scale_min(packed: &[u8; K_SCALE_SIZE], j: usize) -> (u8, u8) {
    if j < 4 {
        return (packed[j] & 63, packed[j + 4] & 63);
    }
    let low = packed[j + 4];
    (low & 15 | (packed[j - 4] >> 6) << 4, low >> 4 | (packed[j] >> 6) << 4)
}

/// The inverse of [`unpack_scale_min`] for all eight sub-blocks; values must be below 64.
pub(super) fn pack_scales_mins(scales: [u8; 8], mins: [u8; 8]) -> [u8; K_SCALE_SIZE] {
    let mut packed = [0; K_SCALE_SIZE];
    for j in 0..4 {
        packed[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        packed[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        packed[j + 8] = scales[j + 4] & 15 | (mins[j + 4] & 15) << 4;
    }
    packed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            scales in prop::array::uniform8(0_u8..64),
            mins in prop::array::uniform8(0_u8..64),
        ) {
            let packed = pack_scales_mins(scales, mins);
            for j in 0..8 {
                prop_assert_eq!(unpack_scale_min(&packed, j), (scales[j], mins[j]));
            }
        }
    }
}
