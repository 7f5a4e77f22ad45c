//! Noise of a scripted machine: simulated kinds, and recorded series played again.

use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::Deserialize;

use super::super::sample::{Conditions, Metric};
use super::super::target::MeasureError;
use crate::base::stats;

/// A kind of noise. Sizes are of the logarithm of time: 0.03 is about 3 %.
#[derive(Clone, Debug)]
pub enum Noise {
    /// Independent from sample to sample and from metric to metric, normal.
    Gaussian {
        /// Standard deviation.
        sd: f64,
    },
    /// Independent from sample to sample, with far outliers: Student's t with three degrees of
    /// freedom.
    HeavyTailed {
        /// Of what is drawn; the standard deviation is 1.7 times this.
        scale: f64,
    },
    /// Wanders and comes back: what was above stays so for a while (an AR(1) process in time).
    Wander {
        /// Standard deviation.
        sd: f64,
        /// Seconds after which a third of a deviation is left.
        memory_s: f64,
    },
    /// Slows down steadily.
    Trend {
        /// Per hour.
        per_hour: f64,
    },
    /// Two speeds between which the machine changes, like clocks that are boosted or not.
    States {
        /// How many times as long things take in the slow one.
        ratio: f64,
        /// Seconds that a state lasts in the mean.
        stay_s: f64,
    },
    /// Now and then something takes far longer.
    Spikes {
        /// Share of the samples.
        share: f64,
        /// How many times as long, at most; at least half the extra.
        ratio: f64,
    },
    /// A recorded series, in blocks of neighbours that begin anywhere, so that drift stays what it
    /// was.
    Replay {
        /// What was recorded.
        series: Arc<Series>,
        /// Samples of a block.
        block: usize,
    },
}

/// A recorded series of samples of one target against itself: fixtures/check_noise.
#[derive(Clone, Debug, Deserialize)]
pub struct Series {
    /// What else went on.
    pub about: String,
    /// In order.
    pub samples: Vec<SeriesSample>,
}

/// One of a recorded series.
#[derive(Clone, Debug, Deserialize)]
pub struct SeriesSample {
    /// Seconds from the beginning of the recording.
    pub at_s: f64,
    /// What was measured.
    pub metrics: std::collections::BTreeMap<Metric, f64>,
    /// What else went on.
    pub conditions: Conditions,
}

impl Series {
    /// Reads a series; `file` is for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, MeasureError> {
        let series: Self = serde_json::from_str(text)
            .map_err(|e| MeasureError::new(format!("{file}: not a recorded series: {e}")))?;
        let sound = |s: &SeriesSample| s.metrics.values().all(|v| v.is_finite() && *v > 0.0);
        if series.samples.is_empty() || !series.samples.iter().all(sound) {
            return Err(MeasureError::new(format!("{file}: a series needs samples above 0")));
        }
        Ok(series)
    }

    /// Logarithm of how much longer the sample took than the series' median; 0 for what it lacks.
    fn log_slowness(&self, at: usize, metric: Metric) -> f64 {
        let of = |s: &SeriesSample| s.metrics.get(&metric).copied();
        let Some(value) = of(&self.samples[at]) else { return 0.0 };
        let median = stats::median(&self.samples.iter().filter_map(of).collect::<Vec<_>>());
        if metric.higher_is_better() { (median / value).ln() } else { (value / median).ln() }
    }
}

/// What the machine does during one sample.
pub(super) struct Weather {
    log_slowness: f64,
    replayed: Option<(usize, usize)>,
    pub(super) conditions: Option<Conditions>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) now_s: f64,
    seen_s: f64,
    random: Xoshiro256PlusPlus,
    noise: Vec<Noise>,
    /// By kind: what wanders, whether the state is slow, the next recorded sample.
    memory: Vec<Memory>,
    medians_cached: Vec<Vec<(Metric, Vec<f64>)>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    value: f64,
    slow: bool,
    next: usize,
    left: usize,
}

impl State {
    pub(super) fn new(seed: u64, noise: Vec<Noise>) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let memory = noise
            .iter()
            .map(|noise| Memory {
                value: match noise {
                    Noise::Wander { sd, .. } => sd * normal(&mut random),
                    _ => 0.0,
                },
                slow: random.next_u64() & 1 == 1,
                ..Memory::default()
            })
            .collect();
        let medians_cached = noise
            .iter()
            .map(|noise| match noise {
                Noise::Replay { series, .. } => Metric::ALL
                    .into_iter()
                    .filter(|m| series.samples.iter().any(|s| s.metrics.contains_key(m)))
                    .map(|m| {
                        (m, (0..series.samples.len()).map(|i| series.log_slowness(i, m)).collect())
                    })
                    .collect(),
                _ => Vec::new(),
            })
            .collect();
        Self { now_s: 0.0, seen_s: 0.0, random, noise, memory, medians_cached }
    }

    /// The noise of the next sample, for all metrics together.
    pub(super) fn next(&mut self) -> Weather {
        let passed_s = self.now_s - self.seen_s;
        self.seen_s = self.now_s;
        let mut weather = Weather { log_slowness: 0.0, replayed: None, conditions: None };
        let random = &mut self.random;
        for (i, (noise, memory)) in self.noise.iter().zip(&mut self.memory).enumerate() {
            weather.log_slowness += match noise {
                Noise::Gaussian { .. } => 0.0,
                Noise::HeavyTailed { scale } => {
                    let squares: f64 = (0..3).map(|_| normal(random).powi(2)).sum();
                    scale * normal(random) / (squares / 3.0).sqrt()
                }
                Noise::Wander { sd, memory_s } => {
                    let left = (-passed_s / memory_s).exp();
                    memory.value =
                        left * memory.value + sd * (1.0 - left * left).sqrt() * normal(random);
                    memory.value
                }
                Noise::Trend { per_hour } => per_hour * self.now_s / 3600.0,
                Noise::States { ratio, stay_s } => {
                    if uniform(random) < 0.5 * (1.0 - (-2.0 * passed_s / stay_s).exp()) {
                        memory.slow = !memory.slow;
                    }
                    if memory.slow { ratio.ln() } else { 0.0 }
                }
                Noise::Spikes { share, ratio } => {
                    let (hit, size) = (uniform(random) < *share, uniform(random));
                    if hit { (1.0 + (ratio - 1.0) * (0.5 + 0.5 * size)).ln() } else { 0.0 }
                }
                Noise::Replay { series, block } => {
                    let length = series.samples.len();
                    if memory.left == 0 {
                        let block = (*block).clamp(1, length);
                        let starts = (length - block + 1) as u64;
                        (memory.next, memory.left) = ((random.next_u64() % starts) as usize, block);
                    }
                    let at = memory.next;
                    (memory.next, memory.left) = (at + 1, memory.left - 1);
                    weather.replayed = Some((i, at));
                    weather.conditions = Some(series.samples[at].conditions.clone());
                    0.0
                }
            };
        }
        weather
    }

    /// The noise of one metric of that sample.
    pub(super) fn of(&mut self, weather: &Weather, metric: Metric) -> f64 {
        let mut sum = weather.log_slowness;
        for noise in &self.noise {
            if let Noise::Gaussian { sd } = noise {
                sum += sd * normal(&mut self.random);
            }
        }
        if let Some((noise, at)) = weather.replayed {
            let of_metric = self.medians_cached[noise].iter().find(|(m, _)| *m == metric);
            sum += of_metric.map_or(0.0, |(_, values)| values[at]);
        }
        sum
    }
}

/// From 0 to below 1.
fn uniform(random: &mut Xoshiro256PlusPlus) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal: Box and Muller 1958, one of the pair.
fn normal(random: &mut Xoshiro256PlusPlus) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(random)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(random)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean, standard deviation and correlation of neighbours of what a noise does each two
    /// seconds.
    fn describe(noise: Noise) -> (f64, f64, f64) {
        let mut state = State::new(7, vec![noise]);
        let values: Vec<f64> = (0..20_000)
            .map(|_| {
                state.now_s += 2.0;
                let weather = state.next();
                state.of(&weather, Metric::DecodeTokensPerS)
            })
            .collect();
        let (mean, sd) = (stats::mean(&values), stats::std_dev(&values));
        let products = values.windows(2).map(|w| (w[0] - mean) * (w[1] - mean));
        (mean, sd, products.sum::<f64>() / (values.len() as f64 - 1.0) / (sd * sd))
    }

    #[test]
    fn every_kind_is_what_it_says() {
        let (mean, sd, neighbours) = describe(Noise::Gaussian { sd: 0.03 });
        assert!(mean.abs() < 0.001 && (sd - 0.03).abs() < 0.001 && neighbours.abs() < 0.03);
        let (_, sd, neighbours) = describe(Noise::Wander { sd: 0.05, memory_s: 20.0 });
        assert!((sd - 0.05).abs() < 0.005, "{sd}");
        assert!((neighbours - (-0.1_f64).exp()).abs() < 0.02, "{neighbours}");
        let (mean, sd, neighbours) = describe(Noise::States { ratio: 1.2, stay_s: 60.0 });
        assert!((mean - 0.5 * 1.2_f64.ln()).abs() < 0.02, "{mean}");
        assert!((sd - 0.5 * 1.2_f64.ln()).abs() < 0.01 && neighbours > 0.9, "{sd} {neighbours}");
        let (mean, ..) = describe(Noise::Spikes { share: 0.1, ratio: 2.0 });
        assert!((mean - 0.1 * 1.75_f64.ln()).abs() < 0.005, "{mean}");
        let (mean, sd, _) = describe(Noise::HeavyTailed { scale: 0.02 });
        assert!(mean.abs() < 0.002 && sd > 0.025 && sd < 0.06, "{sd}");
    }

    #[test]
    fn a_replayed_series_keeps_neighbours_together() {
        let text = (0..40)
            .map(|i| {
                let speed = if i % 20 < 10 { 50.0 } else { 100.0 };
                format!(
                    "{{\"at_s\": {i}, \"metrics\": {{\"decode_tokens_per_s\": {speed}}}, \
                     \"conditions\": {{\"others_share\": {}}}}}",
                    if speed < 60.0 { 0.5 } else { 0.0 }
                )
            })
            .collect::<Vec<_>>()
            .join(",");
        let series =
            Series::parse("s.json", &format!("{{\"about\": \"\", \"samples\": [{text}]}}"));
        let noise = Noise::Replay { series: Arc::new(series.unwrap()), block: 20 };
        let (_, sd, neighbours) = describe(noise.clone());
        assert!((sd - 0.5 * 2.0_f64.ln()).abs() < 0.01 && neighbours > 0.7, "{sd} {neighbours}");
        let mut state = State::new(7, vec![noise]);
        for _ in 0..50 {
            let weather = state.next();
            let slow = state.of(&weather, Metric::DecodeTokensPerS) > 0.0;
            assert_eq!(
                weather.conditions.unwrap().others_share,
                Some(if slow { 0.5 } else { 0.0 })
            );
        }
        assert!(Series::parse("s.json", "{\"about\": \"\", \"samples\": []}").is_err());
    }
}
