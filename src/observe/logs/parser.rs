//! Bytes of a log in, a session out: the stages in their order.
//!
//! It holds back a line only while the next one may go on in it, and the first lines until their
//! order is known. Invariants: nothing is fatal, memory is bounded, and pieces of any size give
//! the same session.

use std::borrow::Cow;

use super::catalogue::{Catalogue, Memo, Pattern, Runs, Search, Taken, skeleton};
use super::envelope::{Envelope, Form, Told};
use super::fold::Fold;
use super::join::{Edge, Held, Widths};
use super::order::{Order, Waiting};
use super::recipe::Recipe;
use super::record::{Fields, Record};
use super::session::{LineCounts, LineId, LogSession};
use super::shape::Shapes;
use super::text::{self, Cutter};

/// How a log is read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The patterns.
    pub catalogue: &'static Catalogue,
}

impl Default for Options {
    fn default() -> Self {
        Self { catalogue: Catalogue::builtin() }
    }
}

/// Takes the bytes of a log piece by piece.
#[derive(Clone, Debug)]
pub struct Parser {
    cutter: Cutter,
    stages: Stages,
}

/// All that comes after the cutting into lines.
#[derive(Clone, Debug)]
struct Stages {
    catalogue: &'static Catalogue,
    envelope: Envelope,
    /// What a container's runtime cut; the rest comes in the next line.
    partial: Option<Held>,
    held: Option<Held>,
    widths: Widths,
    order: Order,
    search: Search,
    known: Memo<Known>,
    runs: Runs,
    /// For a test, which compares the two ways.
    slow: bool,
    learning: Option<Learning>,
    fold: Fold,
    counts: LineCounts,
    shapes: Shapes,
    source: u16,
    in_container: bool,
    in_journal: bool,
}

/// What lines of one skeleton, envelope included, come to.
#[derive(Clone, Copy, Debug)]
struct Known {
    pattern: u32,
    form: Form,
    /// Whether they match without being tried, and the fold wants nothing of them.
    says_nothing: bool,
    /// Where their fields stand.
    recipe: Option<Recipe>,
}

/// A line that may make its skeleton known.
#[derive(Clone, Copy, Debug)]
struct Learning {
    skeleton: u64,
    line: LineId,
    bytes: usize,
    /// Set when the line is plain: nothing in it was changed, and nothing can be taken apart.
    form: Option<Form>,
}

/// A line without its envelope.
#[derive(Clone, Copy)]
struct Logical<'a> {
    text: &'a str,
    told: Told,
    line: LineId,
    /// The line of the file that it stands in.
    raw: &'a [u8],
    /// What follows in the file as far as it is known; `None` when another one follows on the
    /// same line of the file.
    after: Option<&'a [u8]>,
}

impl Parser {
    /// An empty one.
    pub fn new(options: Options) -> Self {
        let stages = Stages {
            catalogue: options.catalogue,
            envelope: Envelope::default(),
            partial: None,
            held: None,
            widths: Widths::default(),
            order: Order::default(),
            search: Search::default(),
            known: Memo::default(),
            runs: Runs::default(),
            slow: false,
            learning: None,
            fold: Fold::default(),
            counts: LineCounts::default(),
            shapes: Shapes::default(),
            source: 0,
            in_container: false,
            in_journal: false,
        };
        Self { cutter: Cutter::default(), stages }
    }

    /// Takes the next bytes; they may end anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.stages.counts.bytes += bytes.len() as u64;
        let Self { cutter, stages } = self;
        cutter.push(bytes, |line, after| stages.physical(line, after));
    }

    /// The next bytes are of another file: what has begun is ended. Its lines count on from the
    /// last one's number.
    pub fn next_source(&mut self) {
        self.end_source();
        self.stages.source = self.stages.source.saturating_add(1);
    }

    /// The session as it would be if the log ended with its last whole line: for whoever follows a
    /// log, where the rest of a line may come yet. It changes nothing.
    pub fn snapshot(&self) -> LogSession {
        let stages = self.stages.clone();
        Self { cutter: Cutter::default(), stages }.finish()
    }

    /// Ends the log.
    pub fn finish(mut self) -> LogSession {
        self.end_source();
        let Stages { fold, mut counts, shapes, in_container, in_journal, .. } = self.stages;
        counts.unknown_shapes = shapes.finish();
        let mut session = fold.finish();
        session.counts = counts;
        session.in_container = in_container;
        session.in_journal = in_journal;
        session
    }

    fn end_source(&mut self) {
        let Self { cutter, stages } = self;
        cutter.finish(|line, after| stages.physical(line, after));
        stages.release();
        stages.in_container |= stages.envelope.container;
        stages.in_journal |= stages.envelope.journal;
        stages.envelope = Envelope::default();
        stages.order = Order::default();
        stages.widths = Widths::default();
    }
}

impl Stages {
    /// A line as it stands in the file, and what follows it as far as it is known.
    fn physical(&mut self, bytes: &[u8], after: &[u8]) {
        self.counts.lines += 1;
        let line = LineId(self.counts.lines);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let alone = self.held.is_none() && self.partial.is_none() && self.order.is_forward();
        self.learning = None;
        if alone && !self.envelope.is_waiting() {
            let skeleton = skeleton(bytes, &mut self.runs);
            if let Some(known) = self.known.get(skeleton)
                && !self.slow
                && self.quick(known, bytes, after, line)
            {
                return;
            }
            self.learning = Some(Learning { skeleton, line, bytes: bytes.len(), form: None });
        }
        let text = text::clean(bytes);
        let Cow::Owned(changed) = &text else {
            return self.part(&text, line, bytes, Some(after));
        };
        // What was separated by carriage returns.
        let mut parts = changed.split('\n').peekable();
        while let Some(part) = parts.next() {
            let after = parts.peek().is_none().then_some(after);
            self.part(part, line, bytes, after);
        }
    }

    /// A line whose skeleton is known: the same steps, without what must come out the same.
    fn quick(&mut self, known: Known, raw: &[u8], after: &[u8], line: LineId) -> bool {
        if !Edge::same_beginning(raw, after) && Edge::of(raw, false).may_go_on(after) {
            return false;
        }
        let Ok(all) = std::str::from_utf8(raw) else { return false };
        let opened = self.envelope.open_known(all, known.form);
        let Some((text, told)) = opened else { return false };
        if known.says_nothing {
            self.counts.known += 1;
            return true;
        }
        if let Some(recipe) = known.recipe
            && let Some(pattern) = self.catalogue.patterns().get(known.pattern as usize)
            && recipe.fill(&self.runs, &mut self.search.taken)
        {
            self.apply(pattern, text, all, told, line);
            return true;
        }
        let found = self.catalogue.find_again(known.pattern, text, &mut self.search);
        if let Some(pattern) = found {
            self.apply(pattern, text, text, told, line);
        }
        found.is_some()
    }

    /// A line with its envelope; `raw` is the line of the file, and `after` what follows there.
    fn part(&mut self, part: &str, line: LineId, raw: &[u8], after: Option<&[u8]>) {
        let (inner, told) = self.envelope.open(part);
        let mut rest = &*inner;
        let plain = matches!(inner, Cow::Borrowed(_)) && part.len() == raw.len();
        if let Some(learning) = &mut self.learning
            && plain
            && !text::may_have_seam(rest)
        {
            learning.form = Some(told.form(part, rest));
        }
        // Lines that an object held, and lines that a program glued together.
        let line_feed = |rest: &str| match inner {
            Cow::Owned(_) => rest.find('\n'),
            Cow::Borrowed(_) => None,
        };
        while let Some(at) = line_feed(rest).or_else(|| text::seam(rest)) {
            self.logical(Logical { text: &rest[..at], told, line, raw, after: None });
            rest = rest[at..].strip_prefix('\n').unwrap_or(&rest[at..]);
        }
        self.logical(Logical { text: rest, told, line, raw, after });
    }

    /// Puts lines together that a runtime, a terminal or a viewer took apart.
    fn logical(&mut self, piece: Logical<'_>) {
        let Logical { text, told, line, .. } = piece;
        if let Some(mut partial) = self.partial.take() {
            partial.append(text);
            if told.partial && !partial.is_full() {
                self.partial = Some(partial);
            } else {
                self.ordered(&partial.text, partial.told, partial.line);
            }
            return;
        }
        let held = self.held.take();
        if told.partial {
            self.pass(held);
            self.partial = Some(Held::new(text, told, line, Edge::default()));
            return;
        }
        if text::is_blank(text) {
            self.counts.blank += 1;
            self.pass(held);
            return;
        }
        let Some(mut held) = held else {
            self.begin(&piece);
            return;
        };
        if held.goes_on_with(
            text,
            piece.raw,
            &told,
            &mut self.widths,
            self.catalogue,
            &mut self.search,
        ) {
            held.append_wrapped(text, self.catalogue, &mut self.search);
            held.edge = Edge::of(piece.raw, held.edge.quoted());
            if !held.is_full() && piece.after.is_some_and(|after| held.edge.may_go_on(after)) {
                self.held = Some(held);
            } else {
                self.pass(Some(held));
            }
        } else {
            self.pass(Some(held));
            self.begin(&piece);
        }
    }

    /// A line that continues none: waits for the next one if that may be its rest.
    fn begin(&mut self, piece: &Logical<'_>) {
        let Logical { text, told, line, raw, after } = *piece;
        let Some(after) = after else { return self.ordered(text, told, line) };
        if Edge::same_beginning(raw, after) {
            return self.ordered(text, told, line);
        }
        let edge = Edge::of(raw, false);
        if edge.may_go_on(after) {
            self.held = Some(Held::new(text, told, line, edge));
        } else {
            self.ordered(text, told, line);
        }
    }

    fn pass(&mut self, held: Option<Held>) {
        if let Some(held) = held {
            self.ordered(&held.text, held.told, held.line);
        }
    }

    /// Waits until it is known which way the lines run.
    fn ordered(&mut self, text: &str, told: Told, line: LineId) {
        if self.order.is_forward() {
            self.recognise(text, told, line);
            return;
        }
        let at_ns = self.envelope.at_ns(text, &told);
        let waiting = Waiting { text: text.to_string(), told, line };
        for ready in self.order.add(waiting, at_ns) {
            self.recognise(&ready.text, ready.told, ready.line);
        }
    }

    fn release(&mut self) {
        for held in [self.partial.take(), self.held.take()].into_iter().flatten() {
            self.ordered(&held.text, held.told, held.line);
        }
        for ready in self.order.finish() {
            self.recognise(&ready.text, ready.told, ready.line);
        }
    }

    fn recognise(&mut self, text: &str, told: Told, line: LineId) {
        let Some(pattern) = self.catalogue.find(text, &mut self.search) else {
            self.counts.unknown += 1;
            self.shapes.add(text, line);
            self.fold.unknown(text, line);
            return;
        };
        if let (Some(pattern), Some(learning)) = (self.search.sure, self.learning.take())
            && learning.line == line
            && let Some(form) = learning.form
        {
            let known = &self.catalogue.patterns()[pattern as usize];
            let says_nothing = known.says_nothing();
            let envelope = learning.bytes - text.len();
            let recipe = known
                .has_anchors()
                .then(|| Recipe::of(&self.search.taken, envelope, &self.runs))
                .flatten();
            self.known.put(learning.skeleton, Known { pattern, form, says_nothing, recipe });
        }
        self.apply(pattern, text, text, told, line);
    }

    /// Hands a line to the fold; its fields are places of `fields_text`.
    fn apply(
        &mut self,
        pattern: &'static Pattern,
        text: &str,
        fields_text: &str,
        told: Told,
        line: LineId,
    ) {
        self.counts.known += 1;
        let Taken { spans, scratch, .. } = &self.search.taken;
        self.fold.apply(&Record {
            pattern,
            kind: pattern.kind,
            fields: Fields { pattern, spans, text: fields_text, scratch },
            line,
            text,
            at_ns: self.envelope.at_ns(text, &told),
            elapsed_ns: told.elapsed_ns,
            count: told.count.max(1),
            process: told.process,
            source: self.source,
        });
    }
}

/// Reads a log that is in memory.
pub fn parse_bytes(bytes: &[u8]) -> LogSession {
    let mut parser = Parser::new(Options::default());
    parser.push(bytes);
    parser.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(log: &str, slow: bool) -> LogSession {
        let mut parser = Parser::new(Options::default());
        parser.stages.slow = slow;
        parser.push(log.as_bytes());
        parser.finish()
    }

    /// An envelope that tells nothing is one all the same, also around a line that is known already.
    #[test]
    fn what_a_spinner_left_does_not_stay_in_known_lines() {
        let seconds = (10..60).map(|second| {
            let at = format!("time=2026-07-02T10:44:{second}.002Z");
            format!("{at} level=INFO source=sched.go:1 msg=\"loaded runners\" count={second}\n")
        });
        let buffers = ["⠹ ", "> ", "0.00.1.2 I ⠹ "].into_iter().flat_map(|prefix| {
            let line = "load_tensors:   CPU_Mapped model buffer size = ";
            (1000..1004).map(move |mib| format!("{prefix}{line} {mib}.50 MiB\n"))
        });
        let log: String = seconds.chain(buffers).collect();
        assert_eq!(format!("{:#?}", parse(&log, false)), format!("{:#?}", parse(&log, true)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        /// Lines whose skeleton is known come to what a search would give: samples again and again
        /// with other numbers, in envelopes and without.
        #[test]
        fn known_skeletons_change_nothing(
            picks in prop::collection::vec(any::<prop::sample::Index>(), 12),
            numbers in prop::collection::vec("[0-9]{1,9}", 90),
            prefix in prop::sample::select(vec![
                "",
                "0.00.1.2 I ",
                "0.00.1.2 I ⠹ ",
                "⠹ ",
                "> ",
                "Mar 04 09:10:11 box ollama[7]: ",
            ]),
        ) {
            let samples: Vec<&str> = Catalogue::builtin().samples().collect();
            let mut numbers = numbers.iter().cycle();
            let mut log = String::new();
            for _ in 0..6 {
                for pick in &picks {
                    log.push_str(prefix);
                    let mut in_number = false;
                    for c in pick.get(&samples).chars() {
                        match (c.is_ascii_digit(), in_number) {
                            (true, false) => log.extend(numbers.next().map(String::as_str)),
                            (true, true) => {}
                            (false, _) => log.push(c),
                        }
                        in_number = c.is_ascii_digit();
                    }
                    log.push('\n');
                }
            }
            let (quick, slow) = (format!("{:#?}", parse(&log, false)), format!("{:#?}", parse(&log, true)));
            let differ: Vec<_> = quick.lines().zip(slow.lines()).filter(|(a, b)| a != b).collect();
            prop_assert!(quick == slow, "{differ:?}\n{log}");
        }
    }
}
