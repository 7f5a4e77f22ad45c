//! The generated texts: shown while they grow where that is wanted, and kept for the report.

use crate::app::report::{Output, Totals};
use crate::engine::runtime::GenerationResult;

use super::super::failure::Failure;
use super::super::flags::Format;
use super::super::{output, stop};
use super::RunArgs;

/// The texts as they grow, and where they are shown meanwhile.
pub(super) struct Texts {
    by_id: Vec<String>,
    shown: Shown,
    failure: Option<Failure>,
}

/// Where text goes while it is generated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Stdout,
    Stderr,
    /// Several texts would mix; each is printed to stdout when all are done.
    AtEnd,
    Nowhere,
}

impl Texts {
    pub(super) fn new(args: &RunArgs, n: usize) -> Self {
        let shown = match args.format {
            _ if args.tui => Shown::Nowhere,
            Format::Text if n == 1 => Shown::Stdout,
            Format::Text => Shown::AtEnd,
            _ if args.quiet || n > 1 => Shown::Nowhere,
            _ => Shown::Stderr,
        };
        Self { by_id: vec![String::new(); n], shown, failure: None }
    }

    pub(super) fn push(&mut self, id: usize, piece: &str) {
        if let Some(text) = self.by_id.get_mut(id) {
            text.push_str(piece);
        }
        match self.shown {
            Shown::Stdout => self.show(piece),
            Shown::Stderr => output::stderr(piece),
            Shown::AtEnd | Shown::Nowhere => {}
        }
    }

    /// Writes to stdout; when nobody reads any more, generation may stop.
    fn show(&mut self, text: &str) {
        if self.failure.is_none()
            && let Err(failure) = output::stdout(text.as_bytes())
        {
            self.failure = Some(failure);
            stop::request();
        }
    }

    /// Ends the last line, and prints what waited.
    pub(super) fn end(&mut self) {
        if self.shown == Shown::AtEnd {
            for (id, text) in self.by_id.clone().iter().enumerate() {
                self.show(&format!("[{id}] {}\n", text.trim_end_matches('\n')));
            }
        } else if self.by_id.iter().any(|t| !t.is_empty() && !t.ends_with('\n')) {
            match self.shown {
                Shown::Stdout => self.show("\n"),
                Shown::Stderr => output::stderr("\n"),
                _ => {}
            }
        }
    }

    /// What went wrong while they were shown.
    pub(super) fn failure(&mut self) -> Result<(), Failure> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

/// What the results tell beside events.
pub(super) fn totals(results: &[GenerationResult], texts: &Texts) -> Totals {
    let output = results.iter().map(|r| Output {
        id: r.id as u64,
        text: texts.by_id.get(r.id).cloned().unwrap_or_default(),
        tokens_prompt: r.n_prompt as u64,
        tokens_generated: r.tokens.len() as u64,
        finish: r.finish,
        first_token_ns: r.first_token_ns,
        total_ns: r.total_ns,
    });
    let token_ns = results.iter().map(|r| r.token_ns.clone()).collect();
    Totals { output: output.collect(), token_ns }
}
