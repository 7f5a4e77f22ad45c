//! Facts that are a line by themselves.

use super::super::record::Record;
use super::super::session::{LogSession, Notice};
use super::value::kept;

/// Takes a notice in: the first occurrence whole, then a count.
pub(super) fn note(session: &mut LogSession, id: &str, record: &Record<'_>, loads_before: usize) {
    if let Some(known) = session.notices.get_mut(id) {
        known.last = record.line;
        known.count += record.count.max(1);
        return;
    }
    let fields = record.fields.iter().map(|(name, value)| (name.to_string(), kept(value)));
    let notice = Notice {
        id: id.to_string(),
        fields: fields.collect(),
        first: record.line,
        last: record.line,
        count: record.count.max(1),
        loads_before,
    };
    session.notices.insert(id.to_string(), notice);
}
