//! Which lines a session refers to, so that the texts of all others can be forgotten.

use std::collections::BTreeSet;

use super::LogSession;
use super::line::{LineId, Seen};
use super::load::{Estimate, Load, LoadOutcome, Model, Requested};
use super::memory::Fit;
use super::request::Request;

impl LogSession {
    /// Every line that a fact of the session names.
    pub fn lines_referred(&self) -> BTreeSet<LineId> {
        let mut lines = BTreeSet::new();
        lines.extend(self.version.as_ref().map(|s| s.line));
        lines.extend(self.os.as_ref().map(|s| s.line));
        lines.extend(self.cpu_only_inference);
        lines.extend(self.host.map(|h| h.line));
        lines.extend(seen(self.threads_and_cores.as_ref()));
        lines.extend(self.devices.iter().map(|d| d.line));
        lines.extend(self.backends.values().map(|s| s.line));
        lines.extend(self.libraries.iter().map(|s| s.line));
        lines.extend(self.settings.values().map(|s| s.line));
        lines.extend(self.notices.values().flat_map(|n| [n.first, n.last]));
        lines.extend(self.counts.unknown_shapes.iter().map(|s| s.1));
        for load in &self.loads {
            load.refer(&mut lines);
        }
        lines.extend(self.requests.all.waiting_line);
        for request in self.requests.kept() {
            request.refer(&mut lines);
        }
        lines
    }
}

fn seen<T>(value: Option<&Seen<T>>) -> Option<LineId> {
    value.map(|s| s.line)
}

impl Request {
    /// Adds the lines that it refers to.
    pub fn refer(&self, lines: &mut BTreeSet<LineId>) {
        lines.insert(self.line);
    }
}

impl Load {
    /// Adds the lines that it refers to.
    pub fn refer(&self, lines: &mut BTreeSet<LineId>) {
        lines.extend([self.line, self.line_last]);
        self.model.refer(lines);
        self.requested.refer(lines);
        lines.extend(self.host.map(|h| h.line));
        lines.extend(self.gpu_free.iter().map(|g| g.line));
        lines.extend(self.estimate.as_ref().map(Estimate::line_of));
        lines.extend(self.fit.as_ref().into_iter().flat_map(Fit::lines));
        lines.extend(self.layers.map(|l| l.line));
        lines.extend(self.single_gpu);
        lines.extend(seen(self.output_on_gpu.as_ref()));
        lines.extend(self.buffers.iter().map(|b| b.line));
        lines.extend(self.kv.as_ref().map(|k| k.line));
        let numbers = [
            &self.n_ctx,
            &self.n_ctx_seq,
            &self.n_seq_max,
            &self.n_batch,
            &self.n_ubatch,
            &self.n_threads,
            &self.load_ns,
        ];
        lines.extend(numbers.into_iter().filter_map(|n| seen(n.as_ref())));
        lines.extend(seen(self.flash_attention.as_ref()));
        lines.extend(self.graph.map(|g| g.line));
        lines.extend(self.breakdown.iter().map(|r| r.line));
        lines.extend(seen(self.size_vram_and_total.as_ref()));
        lines.extend(seen(self.inference_library.as_ref()));
        lines.extend(match &self.outcome {
            LoadOutcome::Unknown => None,
            LoadOutcome::Ready(at) => Some(at.line),
            LoadOutcome::Failed(why) => Some(why.line),
            LoadOutcome::Unloaded(line) => Some(*line),
        });
    }
}

impl Estimate {
    fn line_of(&self) -> LineId {
        self.line
    }
}

impl Fit {
    fn lines(&self) -> impl Iterator<Item = LineId> + '_ {
        std::iter::once(self.line).chain(self.devices.iter().map(|d| d.line))
    }
}

impl Model {
    fn refer(&self, lines: &mut BTreeSet<LineId>) {
        lines.extend(seen(self.arch.as_ref()));
        lines.extend(seen(self.bytes.as_ref()));
        lines.extend(seen(self.n_ctx_train.as_ref()));
    }
}

impl Requested {
    fn refer(&self, lines: &mut BTreeSet<LineId>) {
        lines.extend(seen(self.command.as_ref()));
        lines.extend(seen(self.gpu_layers.as_ref()));
        let numbers =
            [&self.ctx, &self.parallel, &self.batch, &self.ubatch, &self.threads, &self.main_gpu];
        lines.extend(numbers.into_iter().filter_map(|n| seen(n.as_ref())));
        let texts = [
            &self.kv_type_k,
            &self.kv_type_v,
            &self.flash_attention,
            &self.split_mode,
            &self.tensor_split,
        ];
        lines.extend(texts.into_iter().filter_map(|n| seen(n.as_ref())));
        lines.extend(self.overrides.iter().chain(&self.other).map(|o| o.line));
        lines.extend(self.kv_on_host);
        lines.extend(seen(self.mlock.as_ref()));
        lines.extend(seen(self.mmap.as_ref()));
    }
}
