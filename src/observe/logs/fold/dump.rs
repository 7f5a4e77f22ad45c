//! The scheduler's dump: nodes by device and operation of the last graph that was dumped whole.

use std::collections::BTreeMap;

use super::super::record::Record;
use super::super::session::LineId;
use super::kind::Kind;
use super::value::kept;

/// Operations times devices; ggml has about a hundred operations.
const ROWS_MAX: usize = 1024;

/// The graph that is being dumped.
#[derive(Clone, Debug, Default)]
pub(super) struct Dump {
    nodes: BTreeMap<(String, String), u64>,
    splits: u64,
    /// Where the graph begins.
    line: LineId,
}

impl Dump {
    /// Takes a line of the dump in. The first split begins another graph.
    pub(super) fn apply(&mut self, record: &Record<'_>) {
        let fields = &record.fields;
        if record.kind == Kind::DumpSplit {
            if fields.get("index") == Some("0") {
                *self = Self { line: record.line, ..Self::default() };
            }
            self.splits += 1;
            return;
        }
        let (Some(device), Some(op)) = (fields.get("device"), fields.get("op")) else { return };
        let key = (kept(device), kept(op));
        if let Some(count) = self.nodes.get_mut(&key) {
            *count += 1;
        } else if self.nodes.len() < ROWS_MAX {
            self.nodes.insert(key, 1);
        }
    }

    /// `(device, operation, nodes)`, the number of splits, and where the graph begins.
    pub(super) fn rows(&self) -> (Vec<(String, String, u64)>, u64, LineId) {
        let row =
            |((device, op), count): (&(String, String), &u64)| (device.clone(), op.clone(), *count);
        (self.nodes.iter().map(row).collect(), self.splits, self.line)
    }

    /// Whether nothing was dumped.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}
