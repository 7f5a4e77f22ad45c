//! Why a GPU's clocks are lower than they could be: NVML's bits and their words.

/// One reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// NVML's bit.
    pub bit: u64,
    /// Its name for programs.
    pub id: &'static str,
    /// What a person reads.
    pub words: &'static str,
    /// Whether it takes speed from work; an idle GPU lowers its clocks for good reason.
    pub costs: bool,
}

/// All reasons that NVML documents.
pub const REASONS: [Reason; 9] = [
    reason(0x1, "idle", "idle", false),
    reason(0x2, "application-clocks", "clocks set by a user", true),
    reason(0x4, "power-cap", "power limit", true),
    reason(0x8, "hardware-slowdown", "hardware slowdown (heat or power supply)", true),
    reason(0x10, "sync-boost", "held by another GPU of its sync boost group", true),
    reason(0x20, "software-thermal", "temperature limit", true),
    reason(0x40, "hardware-thermal", "hardware slowdown by heat", true),
    reason(0x80, "power-brake", "power brake of the power supply", true),
    reason(0x100, "display-clocks", "clocks set for a display", true),
];

const fn reason(bit: u64, id: &'static str, words: &'static str, costs: bool) -> Reason {
    Reason { bit, id, words, costs }
}

/// The reasons in a sample of [`crate::base::counter::Counter::ThrottleReasons`].
pub fn reasons(bits: u64) -> impl Iterator<Item = &'static Reason> {
    REASONS.iter().filter(move |r| bits & r.bit != 0)
}

/// The bits of those reasons that take speed from work.
pub fn costly(bits: u64) -> u64 {
    reasons(bits).filter(|r| r.costs).fold(0, |sum, r| sum | r.bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_has_its_word() {
        let ids: Vec<&str> = reasons(0x44).map(|r| r.id).collect();
        assert_eq!(ids, ["power-cap", "hardware-thermal"]);
        assert_eq!(costly(0x1), 0);
        assert_eq!(costly(0x205), 0x4);
        let known = nvml_wrapper::bitmasks::device::ThrottleReasons::all().bits();
        assert_eq!(REASONS.iter().fold(0, |sum, r| sum | r.bit), known);
    }
}
