//! The last ubatches with all their spans: what a timeline shows.

use std::collections::VecDeque;

use crate::base::event::{Span, SpanKind};

/// Ubatches that are kept.
const UBATCHES_MAX: usize = 64;

/// Spans that are kept, over all ubatches; at least the last ubatch is kept whole.
const SPANS_MAX: usize = 1 << 15;

/// Spans that wait for their ubatch's own, at most.
const PENDING_MAX: usize = 1 << 14;

/// One ubatch.
#[derive(Clone, Debug, PartialEq)]
pub struct RecentUbatch {
    /// Its own span.
    pub span: Span,
    /// What happened in it: waits, copies, computing, nodes, outputs.
    pub parts: Vec<Span>,
    /// What the host did between it and the next one, and the graph that it built before it.
    pub host: Vec<Span>,
}

impl RecentUbatch {
    /// Its number.
    pub fn number(&self) -> u64 {
        match self.span.kind {
            SpanKind::Ubatch { ubatch, .. } => ubatch,
            _ => 0,
        }
    }

    /// The plan that it ran by.
    pub fn plan(&self) -> u32 {
        match self.span.kind {
            SpanKind::Ubatch { plan, .. } => plan,
            _ => 0,
        }
    }

    /// Whether it carried tokens of a prompt.
    pub fn is_prompt(&self) -> bool {
        matches!(self.span.kind, SpanKind::Ubatch { prompt: true, .. })
    }
}

/// The last ubatches.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    ubatches: VecDeque<RecentUbatch>,
    spans: usize,
    pending: Vec<Span>,
    building: Vec<Span>,
}

impl Recent {
    pub(super) fn span(&mut self, span: &Span) {
        match span.kind {
            SpanKind::Ubatch { .. } => self.ubatch(span),
            SpanKind::Wait { .. }
            | SpanKind::Copy { .. }
            | SpanKind::Output { .. }
            | SpanKind::Compute { .. }
            | SpanKind::Node { .. } => {
                if self.pending.len() < PENDING_MAX {
                    self.pending.push(span.clone());
                }
            }
            SpanKind::GraphBuild => {
                if self.building.len() < PENDING_MAX {
                    self.building.push(span.clone());
                }
            }
            SpanKind::Sampling | SpanKind::Detokenise => {
                if let Some(last) = self.ubatches.back_mut()
                    && last.host.len() < PENDING_MAX
                {
                    last.host.push(span.clone());
                    self.spans += 1;
                }
            }
            SpanKind::Load { .. } | SpanKind::Tokenise => {}
        }
    }

    fn ubatch(&mut self, span: &Span) {
        let (parts, host) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.building));
        self.spans += parts.len() + host.len() + 1;
        self.ubatches.push_back(RecentUbatch { span: span.clone(), parts, host });
        while self.ubatches.len() > UBATCHES_MAX
            || (self.spans > SPANS_MAX && self.ubatches.len() > 1)
        {
            if let Some(old) = self.ubatches.pop_front() {
                self.spans -= old.parts.len() + old.host.len() + 1;
            }
        }
    }

    /// Oldest first.
    pub fn ubatches(&self) -> impl DoubleEndedIterator<Item = &RecentUbatch> + ExactSizeIterator {
        self.ubatches.iter()
    }

    /// The last ubatch of a phase.
    pub fn last(&self, is_prompt: bool) -> Option<&RecentUbatch> {
        self.ubatches.iter().rev().find(|u| u.is_prompt() == is_prompt)
    }
}
