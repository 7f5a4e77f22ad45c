//! Where the fields of a line stand, for all lines of its skeleton: so that what one line's match
//! showed need not be searched in the others.

use super::catalogue::{Anchor, Runs, Taken};
use super::record::Span;

/// Patterns take few fields; those that take more are matched again on every line.
const FIELDS_MAX: usize = 8;

/// Places of fields by the runs of digits around them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipe {
    fields: [Option<Field>; FIELDS_MAX],
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: u16,
    start: Anchor,
    end: Anchor,
}

impl Recipe {
    /// From what a match took from a line whose envelope has so many bytes; `None` when a field
    /// begins or ends within a number.
    pub(super) fn of(taken: &Taken, envelope: usize, runs: &Runs) -> Option<Self> {
        let mut fields = [None; FIELDS_MAX];
        if taken.spans.len() > FIELDS_MAX {
            return None;
        }
        for (field, span) in fields.iter_mut().zip(&taken.spans) {
            if span.scratch {
                return None;
            }
            let start = runs.anchor(envelope + span.start as usize)?;
            let end = runs.anchor(envelope + span.end as usize)?;
            *field = Some(Field { name: span.name, start, end });
        }
        Some(Self { fields })
    }

    /// Takes the fields of another line; places are of the line with its envelope.
    pub(super) fn fill(&self, runs: &Runs, taken: &mut Taken) -> bool {
        taken.spans.clear();
        taken.scratch.clear();
        for field in self.fields.iter().flatten() {
            let (Some(start), Some(end)) = (runs.place(field.start), runs.place(field.end)) else {
                return false;
            };
            let (start, end) = (start as u32, end as u32);
            taken.spans.push(Span { name: field.name, scratch: false, start, end });
        }
        true
    }
}
