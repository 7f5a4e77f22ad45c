//! How the speed of generation falls as requests grow longer.

use crate::observe::logs::{LineId, Request};

use super::Facts;

/// A line through the time per token of many requests, over the tokens that were in the context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthLine {
    /// Seconds per token with an empty context.
    pub base_s: f64,
    /// Seconds per token that each token of context adds.
    pub per_token_s: f64,
    /// Share of the variance that the line explains, from 0 to 1.
    pub explained: f64,
    /// Requests.
    pub count: usize,
    /// The shallowest and the deepest request: tokens in the context, tokens per second.
    pub ends: [(f64, f64); 2],
    /// The line of the deepest request.
    pub line: LineId,
}

/// Shorter answers measure nothing.
const DECODE_TOKENS_MIN: u64 = 16;

impl Facts<'_> {
    /// The line through all kept requests of the load that served most of them; `None` below six
    /// that tell depth and speed.
    pub fn decode_by_depth(&self) -> Option<DepthLine> {
        let measured = self.log.requests.kept().filter_map(|r| Some((r, depth(r)?, seconds(r)?)));
        let measured: Vec<(&Request, f64, f64)> = measured.collect();
        // Another model or another context has another line.
        let of_load = |load| measured.iter().filter(|m| m.0.load == load).count();
        let load = measured.iter().map(|m| m.0.load).max_by_key(|load| of_load(*load))?;
        let points: Vec<_> = measured.into_iter().filter(|m| m.0.load == load).collect();
        if points.len() < 6 {
            return None;
        }
        let n = points.len() as f64;
        let mean =
            |of: &dyn Fn(&(&Request, f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (depth, time) = (mean(&|p| p.1), mean(&|p| p.2));
        let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
            points.iter().map(|p| of(p.1 - depth, p.2 - time)).sum()
        };
        let (dd, dt, tt) = (sum(&|d, _| d * d), sum(&|d, t| d * t), sum(&|_, t| t * t));
        if dd <= 0.0 || tt <= 0.0 {
            return None;
        }
        let per_token_s = dt / dd;
        let by_depth = |a: &&(&Request, f64, f64), b: &&(&Request, f64, f64)| a.1.total_cmp(&b.1);
        let (least, most) = (points.iter().min_by(by_depth)?, points.iter().max_by(by_depth)?);
        Some(DepthLine {
            base_s: time - per_token_s * depth,
            per_token_s,
            explained: dt * dt / (dd * tt),
            count: points.len(),
            ends: [(least.1, 1.0 / least.2), (most.1, 1.0 / most.2)],
            line: most.0.line,
        })
    }
}

/// Tokens in the context half way through the answer.
fn depth(request: &Request) -> Option<f64> {
    let answer = request.decode_tokens? as f64;
    // What the slot held is told for certain; otherwise only a prompt of which the cached part is
    // told as well, or a program that has no cache between prompts, tells all of it.
    let end = match (request.held_tokens, request.cached_tokens, request.slot) {
        (Some(held), ..) => held as f64,
        (None, Some(cached), _) => (cached + request.prompt_tokens?) as f64 + answer,
        (None, None, None) if request.endpoint.is_none() => request.prompt_tokens? as f64 + answer,
        _ => return None,
    };
    Some((end - answer / 2.0).max(0.0))
}

fn seconds(request: &Request) -> Option<f64> {
    let speed = request.decode_tokens_per_s.filter(|s| s.is_finite() && *s > 0.0)?;
    (request.decode_tokens? >= DECODE_TOKENS_MIN).then_some(1.0 / speed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::logs::LogSession;

    #[test]
    fn a_line_is_found_and_requests_that_do_not_tell_are_left_out() {
        let mut log = LogSession::default();
        for i in 0..8u64 {
            let held = 1000 * (i + 1);
            let time = 0.020 + 2e-6 * (held as f64 - 50.0);
            log.requests.first.push(Request {
                decode_tokens: Some(100),
                held_tokens: Some(held),
                decode_tokens_per_s: Some(1.0 / time),
                ..Request::default()
            });
        }
        let of_server = Some("/completion".to_string());
        log.requests.first.push(Request {
            prompt_tokens: Some(9),
            decode_tokens: Some(100),
            decode_tokens_per_s: Some(1.0),
            endpoint: of_server,
            ..Request::default()
        });
        let found = Facts::of_log(&log).decode_by_depth();
        assert!(found.is_some_and(|line| {
            line.count == 8
                && (line.base_s - 0.020).abs() < 1e-9
                && (line.per_token_s - 2e-6).abs() < 1e-12
                && line.explained > 0.999
        }));
        log.requests.first.truncate(5);
        assert_eq!(Facts::of_log(&log).decode_by_depth(), None);
    }
}
