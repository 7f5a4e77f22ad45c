//! Chooses the next token from its logits, with llama.cpp's chain and defaults: repetition
//! penalties, top-k, top-p, min-p, temperature, then a draw.

use std::cmp::Ordering;
use std::collections::HashMap;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::engine::model::Wanted;

/// The most logits that are chosen on the device where sampling needs no more: each costs a round of
/// the search there, so that with many more it is cheaper to bring all of them to the host.
pub const TOP_MAX: usize = 64;

/// Settings of the chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerOptions {
    /// 0 or less takes the likeliest token.
    pub temperature: f32,
    /// Keeps the `k` likeliest; 0 keeps all.
    pub top_k: usize,
    /// Keeps the likeliest whose probabilities add up to this; 1 keeps all.
    pub top_p: f32,
    /// Keeps those at least this share as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 turns it off.
    pub repeat_penalty: f32,
    /// Subtracted per occurrence of a recent token.
    pub frequency_penalty: f32,
    /// Subtracted once for a recent token.
    pub presence_penalty: f32,
    /// How many tokens are recent; 0 turns the penalties off.
    pub repeat_last_n: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

impl SamplerOptions {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// What of a vocabulary's logits the chain needs: with penalties all, since any token may become
    /// the likeliest, otherwise no more than `top_k`.
    pub fn wanted(&self, n_vocab: usize) -> Wanted {
        match self.top_k {
            _ if self.penalises() => Wanted::Logits,
            _ if self.temperature <= 0.0 => Wanted::Top(1),
            1..=TOP_MAX => Wanted::Top(self.top_k.min(n_vocab)),
            _ => Wanted::Logits,
        }
    }

    fn penalises(&self) -> bool {
        self.repeat_last_n > 0
            && (self.repeat_penalty != 1.0
                || self.frequency_penalty != 0.0
                || self.presence_penalty != 0.0)
    }
}

/// The chain with its state: recent tokens and the generator of draws.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    recent: Vec<u32>,
    random: Xoshiro256PlusPlus,
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// A chain that has seen nothing yet.
    pub fn new(options: SamplerOptions) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(options.seed);
        Self { options, recent: Vec::new(), random, candidates: Vec::new() }
    }

    /// Tells the chain of a token that is in the context.
    pub fn accept(&mut self, token: u32) {
        if self.options.repeat_last_n == 0 {
            return;
        }
        if self.recent.len() == self.options.repeat_last_n {
            self.recent.remove(0);
        }
        self.recent.push(token);
    }

    /// Chooses a token. `logits` has one value per token of the vocabulary; values that are not
    /// finite are never chosen unless nothing else is there.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        let o = self.options;
        if o.temperature <= 0.0 && !o.penalises() {
            return argmax(logits.iter().copied());
        }
        self.candidates.clear();
        let tokens = logits.iter().enumerate().filter(|(_, l)| l.is_finite());
        self.candidates.extend(tokens.map(|(i, &l)| (i as u32, l)));
        self.penalise();
        if self.candidates.is_empty() {
            return argmax(logits.iter().copied());
        }
        if o.temperature <= 0.0 {
            let at = argmax(self.candidates.iter().map(|c| c.1));
            return self.candidates[at as usize].0;
        }
        self.choose()
    }

    /// Chooses a token as [`Sampler::sample`] does, from the largest logits alone, in their order:
    /// at least as many as [`SamplerOptions::wanted`] says. Without their values the first is taken.
    pub fn sample_top(&mut self, tokens: &[i32], logits: &[f32]) -> u32 {
        let first = tokens.first().map_or(0, |&t| t as u32);
        if self.options.temperature <= 0.0 {
            return first;
        }
        self.candidates.clear();
        let finite = tokens.iter().zip(logits).filter(|(_, l)| l.is_finite());
        self.candidates.extend(finite.map(|(&t, &l)| (t as u32, l)));
        if self.candidates.is_empty() { first } else { self.choose() }
    }

    /// Filters the candidates, of which there is one at least, and draws.
    fn choose(&mut self) -> u32 {
        self.keep_top_k();
        self.keep_top_p();
        self.keep_min_p();
        self.draw()
    }

    fn penalise(&mut self) {
        let o = self.options;
        if !o.penalises() {
            return;
        }
        let mut counts: HashMap<u32, f32> = HashMap::new();
        for &token in &self.recent {
            *counts.entry(token).or_default() += 1.0;
        }
        for (token, logit) in &mut self.candidates {
            if let Some(count) = counts.get(token) {
                let scaled = if *logit > 0.0 {
                    *logit / o.repeat_penalty
                } else {
                    *logit * o.repeat_penalty
                };
                *logit = scaled - count * o.frequency_penalty - o.presence_penalty;
            }
        }
    }

    /// Leaves the candidates sorted, likeliest first.
    fn keep_top_k(&mut self) {
        let k = match self.options.top_k {
            0 => self.candidates.len(),
            k => k.min(self.candidates.len()),
        };
        // Zeros of either sign are equal, as in the operation that finds the largest on a device.
        let order = |a: &(u32, f32), b: &(u32, f32)| {
            b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
        };
        if k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, order);
            self.candidates.truncate(k);
        }
        self.candidates.sort_unstable_by(order);
    }

    fn keep_top_p(&mut self) {
        if self.options.top_p >= 1.0 {
            return;
        }
        let top = self.candidates[0].1;
        let total: f32 = self.candidates.iter().map(|c| (c.1 - top).exp()).sum();
        let mut sum = 0.0;
        let enough = self.candidates.iter().position(|c| {
            sum += (c.1 - top).exp() / total;
            sum >= self.options.top_p
        });
        self.candidates.truncate(enough.map_or(self.candidates.len(), |i| i + 1));
    }

    fn keep_min_p(&mut self) {
        if self.options.min_p > 0.0 {
            let least = self.candidates[0].1 + self.options.min_p.ln();
            let keep = self.candidates.partition_point(|c| c.1 >= least);
            self.candidates.truncate(keep.max(1));
        }
    }

    fn draw(&mut self) -> u32 {
        let (top, t) = (self.candidates[0].1, self.options.temperature);
        let weight = |logit: f32| f64::from((logit - top) / t).exp();
        let total: f64 = self.candidates.iter().map(|c| weight(c.1)).sum();
        // 53 random bits make a uniform number in 0..1.
        let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * total;
        for &(token, logit) in &self.candidates {
            left -= weight(logit);
            if left < 0.0 {
                return token;
            }
        }
        self.candidates[self.candidates.len() - 1].0
    }
}

/// Index of the largest value, the first among equals; 0 for none.
fn argmax(values: impl Iterator<Item = f32>) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, v) in values.enumerate() {
        if v > best.1 {
            best = (i, v);
        }
    }
    best.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(temperature: f32) -> SamplerOptions {
        SamplerOptions { temperature, top_k: 0, top_p: 1.0, min_p: 0.0, ..Default::default() }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let mut s = Sampler::new(SamplerOptions::greedy());
        assert_eq!(s.sample(&[0.0, f32::NAN, 3.0, 3.0]), 2);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let logits = [1.0f32.ln(), 2.0f32.ln(), 5.0f32.ln()];
        let mut counts = [0u32; 3];
        let (mut a, mut b) = (Sampler::new(options(1.0)), Sampler::new(options(1.0)));
        for _ in 0..8000 {
            let token = a.sample(&logits);
            assert_eq!(token, b.sample(&logits));
            counts[token as usize] += 1;
        }
        for (count, share) in counts.iter().zip([0.125, 0.25, 0.625]) {
            assert!((f64::from(*count) / 8000.0 - share).abs() < 0.03, "{counts:?}");
        }
    }

    #[test]
    fn filters_keep_what_they_say() {
        let logits = [4.0, 3.0, 2.0, -5.0];
        let only = |o: SamplerOptions| {
            let mut s = Sampler::new(o);
            let mut seen: Vec<u32> = (0..500).map(|_| s.sample(&logits)).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        assert_eq!(only(SamplerOptions { top_k: 1, ..options(5.0) }), [0]);
        assert_eq!(only(SamplerOptions { top_k: 2, ..options(5.0) }), [0, 1]);
        assert_eq!(only(SamplerOptions { top_p: 0.6, ..options(5.0) }), [0]);
        assert_eq!(only(SamplerOptions { min_p: 0.1, ..options(5.0) }), [0, 1, 2]);
        assert_eq!(only(options(20.0)), [0, 1, 2, 3]);
    }

    #[test]
    fn the_largest_logits_give_the_same_tokens_as_all() {
        let sorted = |logits: &[f32], k: usize| -> (Vec<i32>, Vec<f32>) {
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap().then(a.cmp(&b)));
            order[..k].iter().map(|&i| (i as i32, logits[i])).unzip()
        };
        let n_vocab = 300;
        for (o, wanted) in [
            (SamplerOptions::greedy(), Wanted::Top(1)),
            (SamplerOptions { top_k: 1, ..options(1.0) }, Wanted::Top(1)),
            (SamplerOptions { temperature: 3.0, ..Default::default() }, Wanted::Top(40)),
            (SamplerOptions { top_k: 64, ..options(5.0) }, Wanted::Top(64)),
        ] {
            assert_eq!(o.wanted(n_vocab), wanted);
            let Wanted::Top(k) = wanted else { unreachable!() };
            let (mut all, mut top) = (Sampler::new(o), Sampler::new(o));
            let (mut random, mut seen) = (Xoshiro256PlusPlus::seed_from_u64(7), [0_u32; 300]);
            for _ in 0..300 {
                // Few values, and zeros of both signs, so that equals are common.
                let logits: Vec<f32> =
                    (0..n_vocab).map(|_| (random.next_u64() % 9) as f32 * -0.5).collect();
                // More than it needs, as other sequences of the batch may.
                let (tokens, values) = sorted(&logits, k + 3);
                let token = all.sample(&logits);
                assert_eq!(token, top.sample_top(&tokens, &values));
                seen[token as usize] += 1;
            }
            assert!(seen.iter().filter(|&&n| n > 0).count() > 1);
        }
        let few = SamplerOptions { top_k: 40, ..options(1.0) };
        assert_eq!(few.wanted(8), Wanted::Top(8));
        for o in [
            SamplerOptions { top_k: 0, ..options(1.0) },
            SamplerOptions { top_k: TOP_MAX + 1, ..options(1.0) },
            SamplerOptions { repeat_penalty: 1.1, ..SamplerOptions::greedy() },
            SamplerOptions { presence_penalty: 0.1, ..options(1.0) },
        ] {
            assert_eq!(o.wanted(n_vocab), Wanted::Logits);
        }
    }

    #[test]
    fn logits_that_are_not_finite_are_taken_only_alone() {
        let mut s = Sampler::new(options(1.0));
        assert_eq!(s.sample_top(&[5, 2, 9], &[f32::INFINITY, 0.0, f32::NEG_INFINITY]), 2);
        assert_eq!(s.sample_top(&[5, 9], &[f32::NEG_INFINITY; 2]), 5);
    }

    #[test]
    fn penalties_push_recent_tokens_down_and_forget_old_ones() {
        let o =
            SamplerOptions { repeat_penalty: 2.0, repeat_last_n: 2, ..SamplerOptions::greedy() };
        let mut s = Sampler::new(o);
        s.accept(0);
        assert_eq!(s.sample(&[3.0, 2.0, 1.0]), 1);
        s.accept(1);
        assert_eq!(s.sample(&[3.0, 2.0, 1.6]), 2);
        s.accept(2);
        assert_eq!(s.sample(&[3.0, 2.0, 1.6]), 0);
    }
}
