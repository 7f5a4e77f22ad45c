//! Computes logits for a batch of tokens, ubatch by ubatch.

use crate::base::clock::now_ns;
use crate::base::event::{Event, Span, SpanKind, Track};
use crate::engine::graph::InputKind;
use crate::engine::model::{CELL_PAD, GraphShape};
use crate::engine::sched::{ComputeError, UbatchInfo};

use super::cells::SeqId;
use super::engine::{Engine, PREPARED_MAX};
use super::error::RuntimeError;

/// One token of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchToken {
    /// The token.
    pub token: u32,
    /// Its position in its sequence.
    pub pos: i32,
    /// Its sequence.
    pub seq: SeqId,
    /// Whether its logits are wanted.
    pub logits: bool,
}

impl Engine {
    /// Computes a batch: stores keys and values, and returns the logits that were asked for, in the
    /// order of the batch, `n_vocab` values for each.
    ///
    /// # Errors
    /// When the tokens do not fit into the KV cache (nothing was stored then), a token is not in the
    /// vocabulary, or a device fails.
    pub fn decode(&mut self, batch: &[BatchToken]) -> Result<Vec<f32>, RuntimeError> {
        self.check(batch)?;
        let mut logits = Vec::new();
        let mut part = Vec::new();
        for ubatch in batch.chunks(self.options.n_ubatch) {
            self.decode_ubatch(ubatch, batch.len(), &mut part)?;
            logits.extend_from_slice(&part);
        }
        Ok(logits)
    }

    fn check(&self, batch: &[BatchToken]) -> Result<(), RuntimeError> {
        let n_vocab = self.model.hparams().n_vocab;
        if let Some(bad) = batch.iter().find(|t| t.token as usize >= n_vocab) {
            let problem = format!("token {} is not in the vocabulary of {n_vocab}", bad.token);
            return Err(RuntimeError::Setting { setting: "batch", problem });
        }
        if let Some(bad) = batch.iter().find(|t| t.seq.0 as usize >= self.options.n_seq_max) {
            let problem = format!("sequence {} of {}", bad.seq.0, self.options.n_seq_max);
            return Err(RuntimeError::Setting { setting: "batch", problem });
        }
        let used = self.cells.used();
        if used + batch.len() > self.options.n_ctx {
            let (wanted, n_ctx) = (batch.len(), self.options.n_ctx);
            return Err(RuntimeError::CacheFull { wanted, used, n_ctx });
        }
        Ok(())
    }

    fn decode_ubatch(
        &mut self,
        ubatch: &[BatchToken],
        batch_len: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), RuntimeError> {
        let tokens: Vec<(SeqId, i32)> = ubatch.iter().map(|t| (t.seq, t.pos)).collect();
        let full = RuntimeError::CacheFull {
            wanted: ubatch.len(),
            used: self.cells.used(),
            n_ctx: self.options.n_ctx,
        };
        let rows = self.cells.take(&tokens);
        let rows_window = self.cells_window.as_mut().map(|c| c.take(&tokens));
        let (Some(rows), Some(rows_window)) = (rows, rows_window.unwrap_or(Some(Vec::new())))
        else {
            return Err(full);
        };
        let shape = GraphShape {
            n_tokens: ubatch.len(),
            n_outputs: ubatch.iter().filter(|t| t.logits).count(),
            n_kv: self.cells.n_kv(CELL_PAD),
            n_kv_window: self.cells_window.as_ref().map_or(0, |c| c.n_kv(CELL_PAD)),
            cache: self.cache,
            rope_ctx: self.options.n_ctx / self.options.n_seq_max,
        };
        self.prepare(shape)?;
        let inputs = |kind: InputKind| -> Option<Vec<u8>> {
            let ints = |v: &mut dyn Iterator<Item = i32>| {
                Some(bytemuck::cast_slice(&v.collect::<Vec<i32>>()).to_vec())
            };
            match kind {
                InputKind::Tokens => ints(&mut ubatch.iter().map(|t| t.token as i32)),
                InputKind::Positions => ints(&mut ubatch.iter().map(|t| t.pos)),
                InputKind::CacheRows => ints(&mut rows.iter().map(|&r| r as i32)),
                InputKind::CacheRowsWindow => ints(&mut rows_window.iter().map(|&r| r as i32)),
                InputKind::Mask => {
                    Some(bytemuck::cast_slice(&self.cells.mask(&tokens, shape.n_kv)).to_vec())
                }
                InputKind::MaskWindow => self
                    .cells_window
                    .as_ref()
                    .map(|c| bytemuck::cast_slice(&c.mask(&tokens, shape.n_kv_window)).to_vec()),
                InputKind::OutputRows => {
                    let wanted = ubatch.iter().enumerate().filter(|(_, t)| t.logits);
                    ints(&mut wanted.map(|(i, _)| i as i32))
                }
            }
        };
        let mut sequences: Vec<SeqId> = ubatch.iter().map(|t| t.seq).collect();
        sequences.sort_unstable();
        sequences.dedup();
        let info = UbatchInfo {
            ubatch: self.next_ubatch,
            tokens: ubatch.len() as u32,
            capacity: self.options.n_ubatch as u32,
            sequences: sequences.len() as u32,
            prompt: batch_len > sequences.len() || batch_len > self.options.n_seq_max,
        };
        self.next_ubatch += 1;
        let Some((_, prepared)) = self.prepared.back() else {
            return Err(full);
        };
        self.scheduler.compute(prepared, &inputs, info, self.options.mode, out)?;
        Ok(())
    }

    /// Makes the graph of this shape the last of the prepared ones, building it if it is new.
    fn prepare(&mut self, shape: GraphShape) -> Result<(), RuntimeError> {
        if let Some(at) = self.prepared.iter().position(|(s, _)| *s == shape) {
            if let Some(found) = self.prepared.remove(at) {
                self.prepared.push_back(found);
            }
            return Ok(());
        }
        let start_ns = now_ns();
        let graph = self.model.build(&shape)?;
        let residence = self.scheduler.residence();
        let (plan, allocation) = self
            .scheduler
            .plan(&graph, residence, self.options.op_offload)
            .map_err(ComputeError::from)?;
        // Reserving grew nothing unless more logits are wanted at once than generation needs.
        if self.scheduler.reserve(&allocation.arena_bytes).map_err(ComputeError::from)? {
            self.prepared.clear();
        }
        let prepared = self.scheduler.prepare(&graph, &plan, &allocation)?;
        if self.prepared.len() == PREPARED_MAX {
            self.prepared.pop_front();
        }
        self.prepared.push_back((shape, prepared));
        self.scheduler.sink().record(Event::Span(Span {
            track: Track::Host,
            kind: SpanKind::GraphBuild,
            start_ns,
            end_ns: now_ns(),
            bytes: 0,
            tokens: shape.n_tokens as u32,
        }));
        Ok(())
    }
}
