//! Why a GPU's clocks are lower than they could be: NVML's bits and their words.

/// What kind of reason it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is nothing to do: it takes no speed from work.
    Idle,
    /// A limit or a setting that stays. A GPU at work is at its power limit as a rule.
    Standing,
    /// It comes and goes, and makes one measurement slower than the next.
    Passing,
}

/// One reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// NVML's bit.
    pub bit: u64,
    /// Its name for programs.
    pub id: &'static str,
    /// What a person reads.
    pub words: &'static str,
    /// Of which kind.
    pub kind: Kind,
}

/// All reasons that NVML documents.
pub const REASONS: [Reason; 9] = [
    reason(0x1, "idle", "idle", Kind::Idle),
    reason(0x2, "application-clocks", "clocks set by a user", Kind::Standing),
    reason(0x4, "power-cap", "power limit", Kind::Standing),
    reason(0x8, "hardware-slowdown", "hardware slowdown (heat or power supply)", Kind::Passing),
    reason(0x10, "sync-boost", "held by another GPU of its sync boost group", Kind::Passing),
    reason(0x20, "software-thermal", "temperature limit", Kind::Passing),
    reason(0x40, "hardware-thermal", "hardware slowdown by heat", Kind::Passing),
    reason(0x80, "power-brake", "power brake of the power supply", Kind::Passing),
    reason(0x100, "display-clocks", "clocks set for a display", Kind::Standing),
];

const fn reason(bit: u64, id: &'static str, words: &'static str, kind: Kind) -> Reason {
    Reason { bit, id, words, kind }
}

/// The reasons in a sample of [`crate::base::counter::Counter::ThrottleReasons`].
pub fn reasons(bits: u64) -> impl Iterator<Item = &'static Reason> {
    REASONS.iter().filter(move |r| bits & r.bit != 0)
}

/// The bits of those reasons that disturb a measurement.
pub fn disturbing(bits: u64) -> u64 {
    reasons(bits).filter(|r| r.kind == Kind::Passing).fold(0, |sum, r| sum | r.bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_has_its_word() {
        let ids: Vec<&str> = reasons(0x44).map(|r| r.id).collect();
        assert_eq!(ids, ["power-cap", "hardware-thermal"]);
        assert_eq!(disturbing(0x127), 0x20);
        let known = nvml_wrapper::bitmasks::device::ThrottleReasons::all().bits();
        assert_eq!(REASONS.iter().fold(0, |sum, r| sum | r.bit), known);
    }
}
