//! The skeleton of a line: the line with every run of digits made one mark. Lines of one skeleton
//! say the same with other numbers, and what stands in one stands in the other at the same distance
//! from the runs.

/// Where the runs of digits of a line begin and end.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Runs {
    places: Vec<(u32, u32)>,
}

/// A place in all lines of a skeleton: so many bytes after the end of a run, or after the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Anchor {
    /// Runs before the place.
    run: u16,
    distance: u16,
}

impl Runs {
    /// The anchor of a place that is not within a run.
    pub(in super::super) fn anchor(&self, place: usize) -> Option<Anchor> {
        let before = self.places.partition_point(|run| run.1 as usize <= place);
        let within = self.places.get(before).is_some_and(|run| (run.0 as usize) < place);
        let from = before.checked_sub(1).map_or(0, |run| self.places[run].1 as usize);
        let (run, distance) = (u16::try_from(before).ok()?, u16::try_from(place - from).ok()?);
        (!within).then_some(Anchor { run, distance })
    }

    /// The place of an anchor in this line.
    pub(in super::super) fn place(&self, anchor: Anchor) -> Option<usize> {
        let from = match usize::from(anchor.run).checked_sub(1) {
            None => 0,
            Some(run) => self.places.get(run)?.1 as usize,
        };
        Some(from + usize::from(anchor.distance))
    }
}

/// The hash of a line's skeleton, eight bytes at a time. Words begin anew after each run of digits,
/// so that its length does not matter.
pub(in super::super) fn skeleton(text: &[u8], runs: &mut Runs) -> u64 {
    runs.places.clear();
    let (mut hash, mut at) = (0, 0);
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let digits = digits_of(word);
        if digits == 0 {
            hash = mix(hash, word);
            at += 8;
            continue;
        }
        let before = digits.trailing_zeros() / 8;
        hash = mix_part(hash, word, before);
        // The run may go on beyond the word.
        let after = (!digits & HIGH_BITS) >> (8 * before) << (8 * before);
        let start = at + before as usize;
        at += if after == 0 { 8 } else { after.trailing_zeros() as usize / 8 };
        if after == 0 {
            at += text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        }
        runs.places.push((start as u32, at as u32));
    }
    let mut last = [0; 8];
    let mut filled = 0;
    let mut in_digits = false;
    for (i, &byte) in text.iter().enumerate().skip(at) {
        if byte.is_ascii_digit() {
            if in_digits {
                if let Some(run) = runs.places.last_mut() {
                    run.1 = i as u32 + 1;
                }
                continue;
            }
            hash = mix_part(hash, u64::from_le_bytes(last), filled);
            (last, filled) = ([0; 8], 0);
            runs.places.push((i as u32, i as u32 + 1));
        } else {
            last[filled as usize % 8] = byte;
            filled += 1;
        }
        in_digits = byte.is_ascii_digit();
    }
    mix_part(hash, u64::from_le_bytes(last), filled) ^ 1
}

pub(super) const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
pub(super) const HIGH_BITS: u64 = EACH_BYTE * 0x80;

/// The high bit of each byte that is a digit.
pub(super) fn digits_of(word: u64) -> u64 {
    let low = word & !HIGH_BITS;
    let from_zero = low + EACH_BYTE * (0x80 - b'0' as u64);
    let past_nine = low + EACH_BYTE * (0x80 - (b'9' as u64 + 1));
    from_zero & !past_nine & !word & HIGH_BITS
}

/// Takes in the first bytes of a word, after which a run of digits comes.
fn mix_part(hash: u64, word: u64, bytes: u32) -> u64 {
    let kept = if bytes >= 8 { word } else { word & !(u64::MAX << (8 * bytes)) };
    // The length tells less than eight bytes from eight with zeros, and marks the run.
    mix(hash, kept ^ u64::from(bytes + 1) << 56)
}

fn mix(hash: u64, word: u64) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(hash ^ word ^ MULTIPLIER) * u128::from(MULTIPLIER);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn skeletons_are_the_same_for_any_numbers() {
        let of = hash;
        assert_eq!(of("id 1 | task 22 | x = 3.50"), of("id 333 | task 4 | x = 12.1"));
        for other in ["id 1 | task 22 | y = 3.50", "id 1 | task  22 | x = 3.50", "", "0", "00 0"] {
            assert_ne!(of("id 1 | task 22 | x = 3.50"), of(other), "{other}");
        }
        assert_eq!(of("7"), of("0"));
        assert_ne!(of("aaaaaaaa"), of("aaaaaaa"));
    }

    fn hash(text: &str) -> u64 {
        skeleton(text.as_bytes(), &mut Runs::default())
    }

    /// What the hash is of: runs of digits as one mark.
    fn naive(text: &[u8]) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        for &byte in text {
            match byte {
                b'0'..=b'9' if out.last() == Some(&b'0') => {}
                b'0'..=b'9' => out.push(b'0'),
                byte => out.push(byte),
            }
        }
        out
    }

    #[test]
    fn every_byte_is_told_from_a_digit() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let mut bytes = *b"xxxxxxxx";
                bytes[place] = byte;
                let wanted = if byte.is_ascii_digit() { 0x80 << (8 * place) } else { 0 };
                assert_eq!(digits_of(u64::from_le_bytes(bytes)), wanted, "{byte} at {place}");
            }
            let wanted = if byte.is_ascii_digit() { HIGH_BITS } else { 0 };
            assert_eq!(digits_of(u64::from_le_bytes([byte; 8])), wanted, "{byte}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

        /// Texts have the same hash exactly when they are the same but for runs of digits.
        #[test]
        fn hashes_tell_skeletons(a in "[ab0-9]{0,24}", b in "[ab0-9]{0,24}", cut in 0usize..24) {
            let same = hash(&a) == hash(&b);
            prop_assert_eq!(same, naive(a.as_bytes()) == naive(b.as_bytes()));
            // The same text with one run longer.
            let at = a.char_indices().map(|c| c.0).nth(cut).unwrap_or(a.len());
            if a[at..].starts_with(|c: char| c.is_ascii_digit()) {
                let longer = format!("{}12345678{}", &a[..at], &a[at..]);
                prop_assert_eq!(hash(&a), hash(&longer));
            }
        }
    }

    proptest! {
        /// Places have the same anchors in lines of one skeleton, and anchors lead back to them.
        #[test]
        fn anchors_lead_back(text in "[a-c ]{0,9}([0-9]{1,12}[a-c ]{1,9}){0,5}[0-9]{0,9}") {
            let mut runs = Runs::default();
            skeleton(text.as_bytes(), &mut runs);
            let bytes = text.as_bytes();
            for place in 0..=bytes.len() {
                let digit = |at: Option<usize>| {
                    at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit)
                };
                let within = digit(place.checked_sub(1)) && digit(Some(place));
                let anchor = runs.anchor(place);
                prop_assert_eq!(anchor.is_none(), within, "{} in {:?}", place, text);
                if let Some(anchor) = anchor {
                    prop_assert_eq!(runs.place(anchor), Some(place));
                }
            }
        }
    }
}
