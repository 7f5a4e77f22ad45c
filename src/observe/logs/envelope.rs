//! What other programs put around a line.

/// Takes envelopes off lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Envelope {
    lines: u64,
}

impl Envelope {
    /// For samples, which own their text.
    pub(super) fn strip_owned(&mut self, text: &mut String) {
        self.lines += 1;
        if let Some(at) = text.find("]: ").filter(|_| text.contains("ollama[")) {
            text.drain(..at + 3);
        }
    }
}
