//! Progress bars on stderr; hidden when nobody watches.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::runtime::LoadProgress;

/// Below this many bytes a bar would only flicker.
const SHOWN_FROM_BYTES: u64 = 64 << 20;

/// A bar that counts bytes.
pub(super) struct BytesBar {
    what: &'static str,
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl BytesBar {
    /// A bar that appears with the first bytes, if there are many to come.
    pub(super) fn new(what: &'static str, quiet: bool) -> Self {
        Self { what, quiet: quiet || !std::io::stderr().is_terminal(), bar: None }
    }

    /// Shows how far it is.
    pub(super) fn update(&mut self, done_bytes: u64, total_bytes: u64) {
        if self.quiet || total_bytes < SHOWN_FROM_BYTES {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(total_bytes), target);
            let template = "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(self.what);
            bar
        });
        bar.set_position(done_bytes);
    }

    /// Shows how far loading is.
    pub(super) fn load(&mut self, progress: LoadProgress) {
        self.update(progress.done_bytes, progress.total_bytes);
    }
}

impl Drop for BytesBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
