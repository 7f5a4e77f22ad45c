//! Which cell of the KV cache holds which token of which sequences.
//!
//! All sequences share one set of cells; masks keep them apart. Invariant: a cell is empty exactly
//! when no sequence owns it.

use half::f16;

/// Number of a sequence, from 0; at most [`SeqId::MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqId(pub u8);

impl SeqId {
    /// How many sequences can share a cache: one bit each.
    pub const MAX: usize = 64;

    fn bit(self) -> u64 {
        1 << self.0
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    pos: i32,
    owners: u64,
}

/// The cells of one cache.
#[derive(Clone, Debug)]
pub struct CellTable {
    cells: Vec<Cell>,
    /// Tokens further back than this are invisible; `None` sees everything.
    window: Option<i32>,
}

impl CellTable {
    /// A table of `n` empty cells; with a window, tokens more than `window - 1` positions back are
    /// never looked at again and their cells are reused.
    pub fn new(n: usize, window: Option<usize>) -> Self {
        Self { cells: vec![Cell::default(); n], window: window.map(|w| w as i32) }
    }

    /// Cells in use.
    pub fn used(&self) -> usize {
        self.cells.iter().filter(|c| c.owners != 0).count()
    }

    /// Forgets what no query of a sequence that has come to `next_pos` can see.
    fn drop_outside_window(&mut self, seq: SeqId, next_pos: i32) {
        let Some(window) = self.window else { return };
        for cell in &mut self.cells {
            if cell.owners & seq.bit() != 0 && cell.pos <= next_pos - window {
                cell.owners &= !seq.bit();
            }
        }
    }

    /// Takes a cell for each `(sequence, position)` and returns their numbers; `None`, and nothing
    /// changed, when there are too few.
    ///
    /// Tokens come in order of position within each sequence.
    pub fn take(&mut self, tokens: &[(SeqId, i32)]) -> Option<Vec<u32>> {
        let mut firsts: Vec<(SeqId, i32)> = Vec::new();
        for &(seq, pos) in tokens {
            if !firsts.iter().any(|f| f.0 == seq) {
                firsts.push((seq, pos));
            }
        }
        // Only what the earliest token of the batch can no longer see may go.
        for (seq, pos) in firsts {
            self.drop_outside_window(seq, pos);
        }
        let free = self.cells.iter().enumerate().filter(|(_, c)| c.owners == 0);
        let taken: Vec<u32> = free.map(|(i, _)| i as u32).take(tokens.len()).collect();
        if taken.len() < tokens.len() {
            return None;
        }
        for (&at, &(seq, pos)) in taken.iter().zip(tokens) {
            self.cells[at as usize] = Cell { pos, owners: seq.bit() };
        }
        Some(taken)
    }

    /// Forgets the tokens of a sequence from position `from` on.
    pub fn truncate(&mut self, seq: SeqId, from: i32) {
        for cell in &mut self.cells {
            if cell.owners & seq.bit() != 0 && cell.pos >= from {
                cell.owners &= !seq.bit();
            }
        }
    }

    /// Cells that a graph must look at: everything up to the last one in use, padded to `pad`.
    pub fn n_kv(&self, pad: usize) -> usize {
        let last = self.cells.iter().rposition(|c| c.owners != 0);
        last.map_or(0, |i| i + 1)
            .next_multiple_of(pad)
            .clamp(pad.min(self.cells.len()), self.cells.len())
    }

    /// The mask `(n_kv, n_tokens)`: 0 where a token may look, `-inf` where not.
    pub fn mask(&self, tokens: &[(SeqId, i32)], n_kv: usize) -> Vec<f16> {
        let mut mask = vec![f16::NEG_INFINITY; n_kv * tokens.len()];
        for (row, &(seq, pos)) in mask.chunks_exact_mut(n_kv.max(1)).zip(tokens) {
            let oldest = self.window.map_or(i32::MIN, |w| pos - w);
            for (value, cell) in row.iter_mut().zip(&self.cells) {
                if cell.owners & seq.bit() != 0 && cell.pos <= pos && cell.pos > oldest {
                    *value = f16::ZERO;
                }
            }
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SeqId = SeqId(0);
    const B: SeqId = SeqId(1);

    fn visible(table: &CellTable, token: (SeqId, i32), n_kv: usize) -> Vec<usize> {
        let mask = table.mask(&[token], n_kv);
        (0..n_kv).filter(|&i| mask[i] == f16::ZERO).collect()
    }

    #[test]
    fn sequences_see_their_own_past_only() {
        let mut table = CellTable::new(8, None);
        assert_eq!(table.take(&[(A, 0), (B, 0), (A, 1)]), Some(vec![0, 1, 2]));
        assert_eq!(visible(&table, (A, 1), 8), [0, 2]);
        assert_eq!(visible(&table, (A, 0), 8), [0]);
        assert_eq!(visible(&table, (B, 5), 8), [1]);
    }

    #[test]
    fn a_full_table_refuses_and_changes_nothing() {
        let mut table = CellTable::new(2, None);
        assert!(table.take(&[(A, 0), (A, 1), (A, 2)]).is_none());
        assert_eq!(table.used(), 0);
        assert!(table.take(&[(A, 0), (A, 1)]).is_some());
        assert!(table.take(&[(A, 2)]).is_none());
        table.truncate(A, 1);
        assert_eq!(table.take(&[(B, 0)]), Some(vec![1]));
    }

    #[test]
    fn a_window_reuses_the_cells_it_has_passed() {
        let mut table = CellTable::new(4, Some(2));
        for pos in 0..20 {
            let row = table.take(&[(A, pos)]).unwrap()[0];
            let seen = visible(&table, (A, pos), 4);
            assert!(seen.contains(&(row as usize)));
            assert_eq!(seen.len(), if pos == 0 { 1 } else { 2 });
        }
    }

    #[test]
    fn the_first_token_of_a_batch_keeps_its_window() {
        let mut table = CellTable::new(5, Some(3));
        table.take(&[(A, 0), (A, 1), (A, 2)]).unwrap();
        // Token 3 sees 1 and 2: only the cell of token 0 may go.
        table.take(&[(A, 3), (A, 4), (A, 5)]).unwrap();
        assert_eq!(visible(&table, (A, 3), 5).len(), 3);
        assert!(table.take(&[(A, 6), (A, 7), (A, 8)]).is_some());
    }

    #[test]
    fn n_kv_is_padded_and_bounded() {
        let mut table = CellTable::new(600, None);
        assert_eq!(table.n_kv(256), 256);
        table.take(&(0..257).map(|p| (A, p)).collect::<Vec<_>>()).unwrap();
        assert_eq!(table.n_kv(256), 512);
        table.take(&(257..520).map(|p| (A, p)).collect::<Vec<_>>()).unwrap();
        assert_eq!(table.n_kv(256), 600);
    }
}
