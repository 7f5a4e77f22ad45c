//! Computes logits for a batch of tokens, or the largest of them, ubatch by ubatch.

use crate::base::clock::now_ns;
use crate::base::event::{Event, Span, SpanKind, Track};
use crate::engine::graph::InputKind;
use crate::engine::model::{CELL_PAD, GraphShape, Wanted};
use crate::engine::sched::{ComputeError, UbatchInfo, spread};

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

/// The largest logits of some tokens, each `k` of them, largest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopLogits {
    /// How many for each.
    pub k: usize,
    /// The tokens that they belong to, the lower one first among equals.
    pub tokens: Vec<i32>,
    /// The logits; none with `k` 1, where the token says everything.
    pub logits: Vec<f32>,
}

impl TopLogits {
    /// Tokens and logits of the `i`-th output.
    pub fn row(&self, i: usize) -> (&[i32], &[f32]) {
        let range = i * self.k..(i + 1) * self.k;
        let logits = if self.logits.is_empty() { &[][..] } else { &self.logits[range.clone()] };
        (&self.tokens[range], logits)
    }
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
        let n_vocab = self.model.hparams().n_vocab;
        let mut logits = vec![0.0; n_outputs(batch) * n_vocab];
        let mut rest = logits.as_mut_slice();
        for ubatch in batch.chunks(self.options.n_ubatch) {
            let out = rest.split_off_mut(..n_outputs(ubatch) * n_vocab).unwrap_or_default();
            let out = bytemuck::cast_slice_mut(out);
            self.decode_ubatch(ubatch, batch.len(), Wanted::Logits, &mut [out])?;
        }
        Ok(logits)
    }

    /// Computes a batch as [`Engine::decode`] does, but leaves the logits where they are and returns
    /// only the `k` largest of each; all where the vocabulary has not that many.
    ///
    /// # Errors
    /// As [`Engine::decode`].
    pub fn decode_top(
        &mut self,
        batch: &[BatchToken],
        k: usize,
    ) -> Result<TopLogits, RuntimeError> {
        self.check(batch)?;
        let k = k.clamp(1, self.model.hparams().n_vocab);
        let n = k * n_outputs(batch);
        let mut tokens = vec![0_i32; n];
        let mut logits = vec![0.0; if k > 1 { n } else { 0 }];
        let (mut rest, mut rest_logits) = (tokens.as_mut_slice(), logits.as_mut_slice());
        for ubatch in batch.chunks(self.options.n_ubatch) {
            let n = k * n_outputs(ubatch);
            let tokens = rest.split_off_mut(..n).unwrap_or_default();
            let tokens = bytemuck::cast_slice_mut(tokens);
            match rest_logits.split_off_mut(..n) {
                Some(logits) if k > 1 => {
                    let out = &mut [tokens, bytemuck::cast_slice_mut(logits)];
                    self.decode_ubatch(ubatch, batch.len(), Wanted::Top(k), out)?;
                }
                _ => self.decode_ubatch(ubatch, batch.len(), Wanted::Top(k), &mut [tokens])?,
            }
        }
        Ok(TopLogits { k, tokens, logits })
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
        wanted: Wanted,
        outputs: &mut [&mut [u8]],
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
        let n_outputs = n_outputs(ubatch);
        let shape = GraphShape {
            n_tokens: ubatch.len(),
            n_outputs,
            // Without outputs all graphs are one.
            wanted: if n_outputs == 0 { Wanted::Logits } else { wanted },
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
        let outputs = if n_outputs == 0 { &mut [] } else { outputs };
        self.scheduler.compute(prepared, &inputs, info, self.options.mode, outputs)?;
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
        let residence = self.scheduler.residence();
        let graph = spread(self.model.build(&shape)?, residence);
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

/// Tokens of a batch whose logits are wanted.
fn n_outputs(batch: &[BatchToken]) -> usize {
    batch.iter().filter(|t| t.logits).count()
}
