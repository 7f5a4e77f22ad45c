//! What requests that were watched say in metrics. Pure.

use std::collections::BTreeMap;

use super::fleet::written;
use crate::advise::measure::{MeasureError, Metric, Sample, Test};
use crate::base::stats::{median, quantile};
use crate::observe::attach::Generation;

/// Fewer gaps than this have no 99th percentile worth the name.
const GAPS_FOR_P99: usize = 100;

/// What of a test a server lets one see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Whether prompt and decode speed come from the server's own clock.
    pub(super) by_server: bool,
    /// Whether the timed request read the test's prompt and nothing else.
    pub(super) prompt_alone: bool,
}

/// The sample of one round of requests, all of the same test.
pub(super) fn sample(
    name: &str,
    test: &Test,
    seen: Seen,
    requests: &[Generation],
) -> Result<Sample, MeasureError> {
    for request in requests {
        check(name, test, request)?;
    }
    let mut metrics = BTreeMap::new();
    let mut keep = |metric, value: Option<f64>| {
        // Two events in the same reading of the clock have no time between them.
        if let Some(value) = value.filter(|v| v.is_finite() && *v > 0.0) {
            metrics.insert(metric, value);
        }
    };
    let reads_prompt = test.prompt_tokens > 0 && seen.prompt_alone;
    if let [request] = requests {
        if reads_prompt {
            keep(Metric::PromptTokensPerS, prompt_speed(request, seen.by_server));
        }
        if test.generate_tokens > 1 {
            keep(Metric::DecodeTokensPerS, decode_speed(request, seen.by_server));
        }
    } else {
        keep(Metric::ThroughputTokensPerS, throughput(requests));
    }
    if reads_prompt {
        let firsts: Vec<f64> = requests.iter().filter_map(first_token_ms).collect();
        keep(Metric::FirstTokenMs, Some(median(&firsts)));
    }
    if test.generate_tokens > 1 {
        let gaps: Vec<f64> = requests.iter().flat_map(gaps_ms).collect();
        keep(Metric::InterTokenMs, Some(median(&gaps)));
        if gaps.len() >= GAPS_FOR_P99 {
            keep(Metric::InterTokenP99Ms, Some(quantile(&gaps, 0.99)));
        }
    }
    if metrics.is_empty() {
        let what = format!("{name}: its answers came too fast or told too little to be timed");
        return Err(MeasureError::new(what));
    }
    Ok(Sample { metrics, ..Sample::default() })
}

/// Whether a request did what it was asked.
fn check(name: &str, test: &Test, request: &Generation) -> Result<(), MeasureError> {
    if request.arrivals.is_empty() {
        let what = format!("{name}: it sent no token");
        return Err(MeasureError::new(what).hint("does this model write text?"));
    }
    let asked = u64::from(test.generate_tokens.max(1));
    let came: u64 = request.arrivals.iter().filter_map(|a| a.tokens).map(u64::from).sum();
    if written(request).max(came) > asked * 2 + 64 {
        let what = format!("{name}: was asked for {asked} tokens and wrote {}", written(request));
        return Err(MeasureError::new(what));
    }
    Ok(())
}

/// Tokens of the prompt that were read for this request, a second.
pub(super) fn prompt_speed(request: &Generation, by_server: bool) -> Option<f64> {
    let read = request.prompt_tokens?.saturating_sub(request.cached_tokens.unwrap_or(0));
    let ns = if by_server { request.server.prompt_ns? } else { first_token_ms(request)? * 1e6 };
    Some(read as f64 / ns * 1e9)
}

/// Tokens after the first, a second.
pub(super) fn decode_speed(request: &Generation, by_server: bool) -> Option<f64> {
    if by_server {
        let steps = request.generated_tokens?.checked_sub(1)?;
        return Some(steps as f64 / request.server.decode_ns? * 1e9);
    }
    let (first, last) = (request.arrivals.first()?, request.arrivals.last()?);
    let after_first = written(request) as f64 - tokens_of_first(request);
    Some(after_first / last.at_ns.checked_sub(first.at_ns)? as f64 * 1e9)
}

/// Tokens that came with the first piece; where servers do not tell, as many as with any other.
fn tokens_of_first(request: &Generation) -> f64 {
    match request.arrivals.first().and_then(|first| first.tokens) {
        Some(tokens) => f64::from(tokens),
        None => (written(request) as f64 / request.arrivals.len().max(1) as f64).max(1.0),
    }
}

fn first_token_ms(request: &Generation) -> Option<f64> {
    let ns = request.arrivals.first()?.at_ns.checked_sub(request.sent_ns)?;
    Some(ns as f64 / 1e6)
}

/// The time that each token took after the one before. Tokens of one piece share the time since the
/// piece before equally, as a reader who shows them evenly would; where a server does not tell how many
/// they are, every piece counts as the average number of tokens.
fn gaps_ms(request: &Generation) -> Vec<f64> {
    let pieces = request.arrivals.len();
    let rest = written(request) as f64 - tokens_of_first(request);
    let average = if pieces > 1 { (rest / (pieces - 1) as f64).max(1.0) } else { 1.0 };
    let mut gaps = Vec::new();
    for pair in request.arrivals.windows(2) {
        let ms = pair[1].at_ns.saturating_sub(pair[0].at_ns) as f64 / 1e6;
        match pair[1].tokens {
            Some(n) => gaps.extend(std::iter::repeat_n(ms / f64::from(n.max(1)), n as usize)),
            None => gaps.push(ms / average),
        }
    }
    gaps
}

/// Tokens of all requests over the time from the first one's start to the last one's end.
fn throughput(requests: &[Generation]) -> Option<f64> {
    let sent = requests.iter().map(|r| r.sent_ns).min()?;
    let ended = requests.iter().map(|r| r.ended_ns).max()?;
    let tokens: u64 = requests.iter().map(written).sum();
    Some(tokens as f64 / ended.checked_sub(sent)? as f64 * 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::attach::{Arrival, ServerTimes};

    /// Sent at 100 ms, first piece at 150 ms, then pieces of that many tokens 20 ms apart.
    fn request(pieces: &[Option<u32>], written: u64) -> Generation {
        let arrivals = pieces.iter().enumerate();
        let arrivals = arrivals.map(|(i, tokens)| Arrival {
            at_ns: 150_000_000 + i as u64 * 20_000_000,
            tokens: *tokens,
        });
        let arrivals: Vec<Arrival> = arrivals.collect();
        Generation {
            sent_ns: 100_000_000,
            ended_ns: arrivals.last().map_or(0, |a| a.at_ns),
            arrivals,
            prompt_tokens: Some(30),
            cached_tokens: Some(10),
            generated_tokens: Some(written),
            server: ServerTimes { load_ns: None, prompt_ns: Some(40e6), decode_ns: Some(50e6) },
            finish: "length".into(),
        }
    }

    fn test(prompt_tokens: u32, generate_tokens: u32, concurrency: u32) -> Test {
        Test {
            name: "t".into(),
            prompt_tokens,
            generate_tokens,
            depth: 0,
            concurrency,
            reload: false,
        }
    }

    fn assert_near(value: f64, wanted: f64) {
        assert!((value / wanted - 1.0).abs() < 1e-9, "{value} is not {wanted}");
    }

    const BY_SERVER: Seen = Seen { by_server: true, prompt_alone: true };
    const BY_US: Seen = Seen { by_server: false, prompt_alone: true };

    #[test]
    fn one_request_by_either_clock() {
        // 1 + 1 + 2 tokens, 20 ms between the pieces.
        let seen = [request(&[Some(1), Some(1), Some(2)], 4)];
        let metrics = sample("x", &test(20, 4, 1), BY_SERVER, &seen).unwrap().metrics;
        assert_near(metrics[&Metric::PromptTokensPerS], 20.0 / 0.040);
        assert_near(metrics[&Metric::DecodeTokensPerS], 3.0 / 0.050);
        assert_near(metrics[&Metric::FirstTokenMs], 50.0);
        assert_near(metrics[&Metric::InterTokenMs], 10.0);
        assert!(!metrics.contains_key(&Metric::InterTokenP99Ms), "three gaps have none");
        assert!(!metrics.contains_key(&Metric::ThroughputTokensPerS));
        let metrics = sample("x", &test(20, 4, 1), BY_US, &seen).unwrap().metrics;
        assert_near(metrics[&Metric::PromptTokensPerS], 20.0 / 0.050);
        assert_near(metrics[&Metric::DecodeTokensPerS], 3.0 / 0.040);
    }

    #[test]
    fn pieces_of_unknown_size_count_as_the_average() {
        let seen = [request(&[None, None, None, None], 8)];
        let metrics = sample("x", &test(20, 8, 1), BY_US, &seen).unwrap().metrics;
        assert_near(metrics[&Metric::DecodeTokensPerS], 6.0 / 0.060);
        assert_near(metrics[&Metric::InterTokenMs], 10.0);
        // Fewer tokens than pieces, as when one character comes in parts: a piece is a token.
        let seen = [request(&[None, None, None], 2)];
        let metrics = sample("x", &test(20, 2, 1), BY_US, &seen).unwrap().metrics;
        assert_near(metrics[&Metric::InterTokenMs], 20.0);
    }

    #[test]
    fn requests_at_once_have_a_throughput_and_medians() {
        let mut late = request(&[Some(1); 60], 60);
        late.sent_ns = 110_000_000;
        let seen = [request(&[Some(1); 60], 60), late];
        let metrics = sample("x", &test(20, 60, 2), BY_SERVER, &seen).unwrap().metrics;
        let seconds = 0.050 + 59.0 * 0.020;
        assert_near(metrics[&Metric::ThroughputTokensPerS], 120.0 / seconds);
        assert_near(metrics[&Metric::FirstTokenMs], 45.0);
        assert_near(metrics[&Metric::InterTokenP99Ms], 20.0);
        assert!(!metrics.contains_key(&Metric::DecodeTokensPerS));
    }

    #[test]
    fn what_was_not_asked_for_is_not_told() {
        let seen = [request(&[Some(1)], 1)];
        let metrics = sample("x", &test(20, 0, 1), BY_SERVER, &seen).unwrap().metrics;
        assert_eq!(
            metrics.keys().copied().collect::<Vec<_>>(),
            [Metric::PromptTokensPerS, Metric::FirstTokenMs]
        );
        let seen = [request(&[Some(1); 4], 4)];
        let deep = Seen { by_server: true, prompt_alone: false };
        let metrics = sample("x", &test(20, 4, 1), deep, &seen).unwrap().metrics;
        assert_eq!(
            metrics.keys().copied().collect::<Vec<_>>(),
            [Metric::DecodeTokensPerS, Metric::InterTokenMs]
        );
    }

    #[test]
    fn a_request_that_did_something_else_is_an_error() {
        let none = sample("x", &test(20, 4, 1), BY_SERVER, &[request(&[], 0)]).unwrap_err();
        assert!(none.what.contains("no token"));
        let more = sample("x", &test(20, 4, 1), BY_SERVER, &[request(&[Some(4000)], 4)]);
        assert!(more.is_err());
        // All at one time: nothing to time.
        let mut at_once = request(&[Some(4)], 4);
        at_once.server = ServerTimes::default();
        at_once.prompt_tokens = None;
        let error = sample("x", &test(0, 4, 1), BY_US, &[at_once]).unwrap_err();
        assert!(error.what.contains("too fast"));
    }
}
