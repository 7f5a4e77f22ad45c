//! One generation as a client sees it, the same for all protocols.

use super::http::{ErrorKind, HttpError};

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// What the model reads.
    pub prompt: Prompt,
    /// How many tokens it shall write; at least 1.
    pub generate_tokens: u32,
    /// For the random numbers of sampling; nothing is random at temperature 0, which is always asked
    /// for, but some servers print it.
    pub seed: u32,
    /// Whether what the server kept of earlier prompts may be used, where it lets one say.
    pub reuse_cache: bool,
    /// Which of llama-server's slots shall do it.
    pub slot: Option<u32>,
}

impl Ask {
    /// To read a prompt without what was kept of earlier ones, and to write that many tokens, at
    /// least 1, in any slot.
    pub fn new(prompt: Prompt, generate_tokens: u32) -> Self {
        let generate_tokens = generate_tokens.max(1);
        Self { prompt, generate_tokens, seed: 1, reuse_cache: false, slot: None }
    }
}

/// What the model reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// Text, which the server cuts into tokens.
    Text(String),
    /// Tokens by number, for servers that take them.
    Tokens(Vec<u32>),
}

/// Tokens that came at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When, by [`crate::base::clock::now_ns`].
    pub at_ns: u64,
    /// How many, where the server says; a piece of text may be several.
    pub tokens: Option<u32>,
}

/// What a server's own clock says, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServerTimes {
    /// For loading the model.
    pub load_ns: Option<f64>,
    /// For reading the prompt, up to the first token.
    pub prompt_ns: Option<f64>,
    /// From the first token to the last: one step fewer than there are tokens.
    pub decode_ns: Option<f64>,
}

/// One generation as a client saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generation {
    /// When sending began, by [`crate::base::clock::now_ns`].
    pub sent_ns: u64,
    /// When tokens came, in time order; pieces of one time are joined.
    pub arrivals: Vec<Arrival>,
    /// When the answer had ended.
    pub ended_ns: u64,
    /// Tokens of the prompt, by the server's count.
    pub prompt_tokens: Option<u64>,
    /// Of these, the ones that the server had kept from before, where it says.
    pub cached_tokens: Option<u64>,
    /// Tokens written, by the server's count.
    pub generated_tokens: Option<u64>,
    /// What the server's own clock says.
    pub server: ServerTimes,
    /// Why it ended, as the server calls it: `length`, `limit`, `stop`, `eos`.
    pub finish: String,
}

impl Generation {
    /// Keeps tokens that arrived. Pieces that were read at once are one arrival: nobody can tell
    /// their times apart.
    pub(super) fn arrived(&mut self, at_ns: u64, tokens: Option<u32>) {
        match self.arrivals.last_mut() {
            Some(last) if last.at_ns == at_ns => {
                last.tokens = last.tokens.zip(tokens).map(|(a, b)| a.saturating_add(b));
            }
            _ => self.arrivals.push(Arrival { at_ns, tokens }),
        }
    }

    /// To be called when it has ended and its counts are known. Servers hold text back that is no whole
    /// character yet, and send the end alone: of a single token that end is the arrival.
    pub(super) fn settle(&mut self) {
        if self.arrivals.is_empty() && self.generated_tokens == Some(1) {
            self.arrived(self.ended_ns, Some(1));
        }
    }
}

/// An error for a generation that has sent more pieces than one of `asked` tokens can have.
pub(super) fn check_pieces(
    whose: &dyn std::fmt::Display,
    asked: u32,
    pieces: u64,
) -> Result<(), HttpError> {
    // Text is sometimes held back and sent apart, and some servers send empty pieces.
    if pieces <= u64::from(asked) * 2 + 64 {
        return Ok(());
    }
    let what = format!("{whose}: was asked for {asked} tokens and does not stop");
    Err(HttpError::new(ErrorKind::TooLarge, what))
}

/// A client that can have tokens made.
pub trait Generate: Sync {
    /// Has the model write, and watches. Costs tokens.
    fn generate(&self, ask: &Ask) -> Result<Generation, HttpError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_one_time_are_one_arrival() {
        let mut generation = Generation::default();
        for (at, tokens) in [(5, Some(1)), (5, Some(2)), (6, Some(1)), (6, None), (7, Some(1))] {
            generation.arrived(at, tokens);
        }
        let of = |at_ns, tokens| Arrival { at_ns, tokens };
        assert_eq!(generation.arrivals, [of(5, Some(3)), of(6, None), of(7, Some(1))]);
    }

    #[test]
    fn a_single_token_that_was_held_back_came_at_the_end() {
        let ended = |generated_tokens| {
            let mut generation =
                Generation { ended_ns: 9, generated_tokens, ..Generation::default() };
            generation.settle();
            generation.arrivals
        };
        assert_eq!(ended(Some(1)), [Arrival { at_ns: 9, tokens: Some(1) }]);
        // Of several nobody knows when the first came, and of none there is nothing to tell.
        assert!([Some(2), Some(0), None].into_iter().all(|n| ended(n).is_empty()));
        let mut told =
            Generation { ended_ns: 9, generated_tokens: Some(1), ..Generation::default() };
        told.arrived(5, None);
        told.settle();
        assert_eq!(told.arrivals, [Arrival { at_ns: 5, tokens: None }]);
    }

    #[test]
    fn a_generation_without_end_is_given_up() {
        assert!(check_pieces(&"x", 10, 84).is_ok());
        assert!(check_pieces(&"x", 10, 85).is_err());
    }
}
