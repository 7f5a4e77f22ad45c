//! A quick matcher for the regular expressions that patterns of logs are made of: literals, runs of
//! one class, options and alternatives, on ASCII text.
//!
//! It is no engine for any expression: what it does not know, and text that is not ASCII, is left
//! to the regex crate. Invariant, which a test holds: where it answers, the answer and every group
//! are those of the regex crate (leftmost, first alternative first).

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use super::skeleton::{EACH_BYTE, HIGH_BITS, digits_of};

/// One step of a program.
#[derive(Clone, Debug)]
enum Step {
    /// These bytes.
    Literal(Literal),
    /// As many bytes of a set as there are, or as few as do.
    Run {
        set: Box<Set>,
        min: u32,
        max: u32,
        greedy: bool,
        sure: bool,
    },
    /// First on here, then at the other.
    Split {
        second: usize,
    },
    /// On there.
    Jump(usize),
    /// This place is the begin (even) or the end (odd) of a group.
    Save(usize),
    Start,
    End,
    /// Between a word's character and another, or not.
    Boundary(bool),
}

/// Bytes that must stand in a text; the first eight are compared at once.
#[derive(Clone, Debug)]
struct Literal {
    bytes: Box<[u8]>,
    head: u64,
    mask: u64,
}

impl Literal {
    fn new(bytes: &[u8]) -> Self {
        let mut head = [0; 8];
        let len = bytes.len().min(8);
        head[..len].copy_from_slice(&bytes[..len]);
        let mask = u64::MAX.checked_shr(64 - 8 * len as u32).unwrap_or(0);
        Self { bytes: bytes.into(), head: u64::from_le_bytes(head), mask }
    }

    #[inline]
    fn begins(&self, text: &[u8]) -> bool {
        match text.first_chunk::<8>() {
            Some(chunk) => {
                u64::from_le_bytes(*chunk) & self.mask == self.head
                    && (self.bytes.len() <= 8 || same_beginning(text, &self.bytes))
            }
            None => text.starts_with(&self.bytes),
        }
    }
}

/// For short words a loop over eight bytes at a time is quicker than a call.
#[inline]
fn same_beginning(text: &[u8], word: &[u8]) -> bool {
    let Some(text) = text.get(..word.len()) else { return false };
    let (chunks, rest) = word.as_chunks::<8>();
    let (others, other_rest) = text.as_chunks::<8>();
    let last = || match (word.last_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(a), Some(b)) => a == b,
        _ => rest == other_rest,
    };
    chunks.iter().zip(others).all(|(a, b)| a == b) && last()
}

/// Bytes of a class.
#[derive(Clone, Debug)]
struct Set {
    bytes: [bool; 128],
    /// Whether all digits are in it, which are skipped eight at a time.
    digits: bool,
    /// The same for spaces.
    space: bool,
}

impl Set {
    fn empty() -> Self {
        Self { bytes: [false; 128], digits: false, space: false }
    }

    fn add(&mut self, byte: u8) {
        self.bytes[usize::from(byte)] = true;
        self.digits = self.bytes[usize::from(b'0')..=usize::from(b'9')].iter().all(|b| *b);
        self.space = self.bytes[usize::from(b' ')];
    }

    fn has(&self, byte: u8) -> bool {
        self.bytes.get(usize::from(byte)).copied().unwrap_or(false)
    }

    /// How many bytes of the set a text begins with, at most `limit`.
    #[inline]
    fn run(&self, text: &[u8], limit: usize) -> usize {
        let text = &text[..text.len().min(limit)];
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            let word = text[at..].first_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk));
            let same = match word {
                Some(word) if self.digits && byte.is_ascii_digit() => digits_of(word),
                Some(word) if self.space && byte == b' ' => zeros_of(word ^ SPACES),
                _ => 0,
            };
            if same != 0 {
                // The high bits of the bytes that are alike, up to the first that is not.
                at += (!same & HIGH_BITS).trailing_zeros() as usize / 8;
            } else if self.has(byte) {
                at += 1;
            } else {
                break;
            }
        }
        at
    }
}

const SPACES: u64 = EACH_BYTE * b' ' as u64;

/// The high bit of each byte that is zero.
fn zeros_of(word: u64) -> u64 {
    !(((word & !HIGH_BITS) + !HIGH_BITS) | word) & HIGH_BITS
}

/// A program, and what a text must have where it begins.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    steps: Vec<Step>,
    slots: usize,
    begin: Begin,
}

#[derive(Clone, Debug)]
enum Begin {
    /// Only at the beginning of the text.
    Anchored,
    /// Wherever this stands.
    Literal(Box<memchr::memmem::Finder<'static>>),
    /// Wherever one of these bytes stands.
    Set(Box<Set>),
}

/// The place of a group that took no part.
pub(super) const NONE: usize = usize::MAX;

/// Room for the search, kept from line to line.
#[derive(Clone, Debug, Default)]
pub(super) struct Stack {
    /// Begin and end of the match and of each group.
    pub(super) slots: Vec<usize>,
    undo: Vec<Undo>,
}

#[derive(Clone, Copy, Debug)]
enum Undo {
    /// Go on at a step and a place.
    At(usize, usize),
    /// Put a slot back.
    Slot(usize, usize),
    /// A run took up to here; it can do with one byte less, down to the first place.
    Less { step: usize, least: usize, place: usize },
    /// A run took up to here; it can do with one more, up to so many.
    More { step: usize, place: usize, left: u32 },
}

/// A search that takes more steps is left to the regex crate, whose time is linear.
const STEPS_MAX: u32 = 20_000;

impl Scan {
    /// The program for an expression; `None` where it has what this matcher does not know.
    pub(super) fn new(expression: &str) -> Option<Self> {
        let hir = regex_syntax::parse(expression).ok()?;
        let mut steps = Vec::new();
        let mut groups = 0;
        compile(&hir, &mut steps, &mut groups)?;
        sure_runs(&mut steps);
        let begin = match steps.iter().find(|s| !matches!(s, Step::Save(_)))? {
            Step::Start => Begin::Anchored,
            Step::Literal(literal) => {
                let finder = memchr::memmem::Finder::new(&literal.bytes);
                Begin::Literal(Box::new(finder.into_owned()))
            }
            _ => {
                let mut first = Set::empty();
                if !first_bytes(&steps, 0, &mut first, 0) {
                    return None; // it may match nothing at all
                }
                Begin::Set(Box::new(first))
            }
        };
        Some(Self { steps, slots: 2 * (groups + 1), begin })
    }

    /// Whether a text matches, with the places of groups in `stack.slots`; `None` when this matcher
    /// cannot tell. The text must be ASCII.
    pub(super) fn search(&self, text: &[u8], stack: &mut Stack) -> Option<bool> {
        let mut budget = STEPS_MAX;
        let mut from = 0;
        loop {
            let at = match &self.begin {
                Begin::Anchored if from > 0 => return Some(false),
                Begin::Anchored => Some(0),
                Begin::Literal(finder) => finder.find(text.get(from..)?).map(|n| from + n),
                Begin::Set(set) => {
                    text.get(from..)?.iter().position(|&b| set.has(b)).map(|n| from + n)
                }
            };
            let Some(at) = at else { return Some(false) };
            if self.match_at(text, at, stack, &mut budget)? {
                return Some(true);
            }
            from = at + 1;
        }
    }

    fn match_at(
        &self,
        text: &[u8],
        start: usize,
        stack: &mut Stack,
        budget: &mut u32,
    ) -> Option<bool> {
        stack.slots.clear();
        stack.slots.resize(self.slots, NONE);
        stack.undo.clear();
        let (mut step, mut at) = (0, start);
        loop {
            *budget = budget.checked_sub(1)?;
            let next = match self.steps.get(step) {
                None => {
                    stack.slots[0] = start;
                    stack.slots[1] = at;
                    return Some(true);
                }
                Some(now) => now.take(text, step, at, stack),
            };
            match next.or_else(|| self.go_back(text, stack)) {
                Some((s, a)) => (step, at) = (s, a),
                None => return Some(false),
            }
        }
    }

    /// The last choice that has an alternative left.
    fn go_back(&self, text: &[u8], stack: &mut Stack) -> Option<(usize, usize)> {
        loop {
            match stack.undo.pop()? {
                Undo::At(step, at) => return Some((step, at)),
                Undo::Slot(slot, value) => stack.slots[slot] = value,
                Undo::Less { step, least, place } => {
                    if place > least {
                        stack.undo.push(Undo::Less { step, least, place: place - 1 });
                        return Some((step + 1, place - 1));
                    }
                }
                Undo::More { step, place, left } => {
                    let Some(Step::Run { set, .. }) = self.steps.get(step) else { continue };
                    if left > 0 && text.get(place).is_some_and(|&b| set.has(b)) {
                        stack.undo.push(Undo::More { step, place: place + 1, left: left - 1 });
                        return Some((step + 1, place + 1));
                    }
                }
            }
        }
    }
}

impl Step {
    /// Where the search goes on after this step, if it holds here.
    fn take(
        &self,
        text: &[u8],
        step: usize,
        at: usize,
        stack: &mut Stack,
    ) -> Option<(usize, usize)> {
        match self {
            Self::Literal(bytes) => {
                bytes.begins(&text[at..]).then_some((step + 1, at + bytes.bytes.len()))
            }
            Self::Run { set, min, max, greedy, sure } => {
                let (min, max) = (*min as usize, *max as usize);
                let limit = if *greedy { max } else { min };
                let taken = set.run(&text[at..], limit);
                if taken < min {
                    return None;
                }
                let place = at + taken;
                if !greedy && max > min {
                    let left = (max - min) as u32;
                    stack.undo.push(Undo::More { step, place, left });
                } else if *greedy && !sure && taken > min {
                    stack.undo.push(Undo::Less { step, least: at + min, place });
                }
                Some((step + 1, place))
            }
            Self::Split { second } => {
                stack.undo.push(Undo::At(*second, at));
                Some((step + 1, at))
            }
            Self::Jump(to) => Some((*to, at)),
            Self::Save(slot) => {
                if !stack.undo.is_empty() {
                    stack.undo.push(Undo::Slot(*slot, stack.slots[*slot]));
                }
                stack.slots[*slot] = at;
                Some((step + 1, at))
            }
            Self::Start => (at == 0).then_some((step + 1, at)),
            Self::End => (at == text.len()).then_some((step + 1, at)),
            Self::Boundary(wanted) => {
                let word =
                    |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
                let before = at.checked_sub(1).and_then(|i| text.get(i));
                ((word(before) != word(text.get(at))) == *wanted).then_some((step + 1, at))
            }
        }
    }
}

fn compile(hir: &Hir, steps: &mut Vec<Step>, groups: &mut usize) -> Option<()> {
    match hir.kind() {
        HirKind::Empty => {}
        HirKind::Literal(literal) => {
            if !literal.0.is_ascii() {
                return None;
            }
            steps.push(Step::Literal(Literal::new(&literal.0)));
        }
        HirKind::Class(class) => steps.push(run(class, 1, 1, true)),
        HirKind::Look(look) => steps.push(match look {
            Look::Start => Step::Start,
            Look::End => Step::End,
            Look::WordUnicode | Look::WordAscii => Step::Boundary(true),
            Look::WordUnicodeNegate | Look::WordAsciiNegate => Step::Boundary(false),
            _ => return None,
        }),
        HirKind::Capture(capture) => {
            let group = capture.index as usize;
            *groups = (*groups).max(group);
            steps.push(Step::Save(2 * group));
            compile(&capture.sub, steps, groups)?;
            steps.push(Step::Save(2 * group + 1));
        }
        HirKind::Concat(parts) => {
            for part in parts {
                compile(part, steps, groups)?;
            }
        }
        HirKind::Alternation(parts) => {
            let (last, others) = parts.split_last()?;
            let mut jumps = Vec::new();
            for part in others {
                let split = steps.len();
                steps.push(Step::Split { second: 0 });
                compile(part, steps, groups)?;
                jumps.push(steps.len());
                steps.push(Step::Jump(0));
                steps[split] = Step::Split { second: steps.len() };
            }
            compile(last, steps, groups)?;
            let end = steps.len();
            for jump in jumps {
                steps[jump] = Step::Jump(end);
            }
        }
        HirKind::Repetition(repetition) => repeat(repetition, steps, groups)?,
    }
    Some(())
}

/// A run of one class, or an option; other repetitions are not known.
fn repeat(repetition: &Repetition, steps: &mut Vec<Step>, groups: &mut usize) -> Option<()> {
    let Repetition { min, max, greedy, sub } = repetition;
    let max = max.unwrap_or(u32::MAX);
    match sub.kind() {
        HirKind::Class(class) => steps.push(run(class, *min, max, *greedy)),
        HirKind::Literal(literal) if literal.0.len() == 1 && literal.0.is_ascii() => {
            let mut set = Set::empty();
            set.add(literal.0[0]);
            let set = Box::new(set);
            steps.push(Step::Run { set, min: *min, max, greedy: *greedy, sure: false });
        }
        _ if (*min, max, *greedy) == (0, 1, true) => {
            let split = steps.len();
            steps.push(Step::Split { second: 0 });
            compile(sub, steps, groups)?;
            steps[split] = Step::Split { second: steps.len() };
        }
        _ => return None,
    }
    Some(())
}

/// The ASCII part of a class, which is all that an ASCII text can ask for.
fn run(class: &Class, min: u32, max: u32, greedy: bool) -> Step {
    let mut set = Set::empty();
    let mut add = |from: u32, to: u32| {
        for byte in from..=to.min(127) {
            set.add(byte as u8);
        }
    };
    match class {
        Class::Unicode(class) => {
            class.iter().for_each(|r| add(u32::from(r.start()), u32::from(r.end())));
        }
        Class::Bytes(class) => {
            class.iter().for_each(|r| add(u32::from(r.start()), u32::from(r.end())));
        }
    }
    Step::Run { set: Box::new(set), min, max, greedy, sure: false }
}

/// A greedy run needs no second thought when what follows cannot begin with a byte of its set.
fn sure_runs(steps: &mut [Step]) {
    for i in 0..steps.len() {
        let mut next = Set::empty();
        let follows = match &steps[i] {
            Step::Run { .. } => first_bytes(steps, i + 1, &mut next, 0),
            _ => false,
        };
        let Step::Run { set, sure, .. } = &mut steps[i] else { continue };
        *sure = follows && !set.bytes.iter().zip(&next.bytes).any(|(a, b)| *a && *b);
    }
}

/// Adds the bytes that a match from a step on can begin with; false when it can begin with nothing.
fn first_bytes(steps: &[Step], at: usize, first: &mut Set, depth: u32) -> bool {
    const DEPTH_MAX: u32 = 24;
    if depth > DEPTH_MAX {
        return false;
    }
    match steps.get(at) {
        None | Some(Step::End) => false,
        Some(Step::Literal(literal)) => {
            first.add(literal.bytes[0]);
            true
        }
        Some(Step::Run { set, min, .. }) => {
            (0..128).filter(|&byte| set.has(byte)).for_each(|byte| first.add(byte));
            *min > 0 || first_bytes(steps, at + 1, first, depth + 1)
        }
        Some(Step::Split { second }) => {
            first_bytes(steps, at + 1, first, depth + 1)
                & first_bytes(steps, *second, first, depth + 1)
        }
        Some(Step::Jump(to)) => first_bytes(steps, *to, first, depth + 1),
        Some(Step::Save(_) | Step::Start | Step::Boundary(_)) => {
            first_bytes(steps, at + 1, first, depth + 1)
        }
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
