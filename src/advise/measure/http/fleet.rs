//! Requests at once, and requests that must be asked again.

use std::sync::Barrier;
use std::thread;

use crate::advise::measure::MeasureError;
use crate::observe::attach::{Ask, Generate, Generation, HttpError};

/// How often a request that ended too early is asked again, with another prompt.
const TRIES: usize = 3;

/// Sends all requests at once, each on its own thread and connection, and waits for all. The first
/// error, in the order of the requests, is the whole's.
pub(super) fn run(server: &dyn Generate, asks: &[Ask]) -> Result<Vec<Generation>, HttpError> {
    if let [only] = asks {
        return Ok(vec![server.generate(only)?]);
    }
    let start = Barrier::new(asks.len());
    let send = |ask| {
        start.wait();
        server.generate(ask)
    };
    let send = &send;
    thread::scope(|scope| {
        let threads: Vec<_> = asks.iter().map(|ask| scope.spawn(move || send(ask))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Has requests made and sends them until all wrote at least half of what they were asked for: models
/// without a way to forbid it may end of their own accord. What one such round took is lost, whatever
/// it was; a round in which all went on long enough is kept, whatever it took.
pub(super) fn run_to_length(
    name: &str,
    server: &dyn Generate,
    mut asks: impl FnMut() -> Vec<Ask>,
) -> Result<Vec<Generation>, MeasureError> {
    for _ in 0..TRIES {
        let asks = asks();
        let seen = run(server, &asks)?;
        let is_long =
            |(ask, seen): (&Ask, &Generation)| written(seen) * 2 >= u64::from(ask.generate_tokens);
        if asks.iter().zip(&seen).all(is_long) {
            return Ok(seen);
        }
    }
    let what = format!("{name}: the model ends its text before half of the tokens asked for");
    Err(MeasureError::new(what).hint("ask for fewer tokens, or take a base model"))
}

/// Tokens that it wrote: the server's count, else the pieces that came.
pub(super) fn written(seen: &Generation) -> u64 {
    seen.generated_tokens.unwrap_or(seen.arrivals.len() as u64)
}
