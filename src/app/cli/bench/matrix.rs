//! Which tests to run: lists and ranges of values, and their combinations in llama-bench's order.

use crate::engine::runtime::GpuLayers;
use crate::engine::tensor::DType;

/// Values of one option, at most; a typo in a range must not run for days.
const VALUES_MAX: usize = 1024;

/// The values of `512`, `512,1024`, `0-2048+512` or `1-64*2`.
///
/// # Errors
/// A sentence that says which part cannot be read.
pub(super) fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let mut values = Vec::new();
    for part in text.split(',') {
        values.extend(parse_range(part)?);
        if values.len() > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values"));
        }
    }
    Ok(values)
}

fn parse_range(text: &str) -> Result<Vec<usize>, String> {
    let bad = || format!("'{text}' is no number and no range like 128-512, 0-2048+512 or 1-64*2");
    let number = |t: &str| t.parse::<usize>().map_err(|_| bad());
    let Some((first, rest)) = text.split_once('-') else { return Ok(vec![number(text)?]) };
    let (last, step) = match rest.find(['+', '*']) {
        Some(at) => (&rest[..at], Some((rest.as_bytes()[at], number(&rest[at + 1..])?))),
        None => (rest, None),
    };
    let (first, last) = (number(first)?, number(last)?);
    let next = |v: usize| match step {
        None => v.checked_add(1),
        Some((b'+', step)) => v.checked_add(step),
        Some((_, factor)) => v.checked_mul(factor),
    };
    let (mut values, mut at) = (Vec::new(), first);
    while at <= last {
        if values.len() == VALUES_MAX {
            return Err(format!("'{text}' has more than {VALUES_MAX} values"));
        }
        values.push(at);
        match next(at) {
            Some(after) if after > at => at = after,
            Some(_) if at < last => return Err(format!("'{text}' never reaches its end")),
            _ => break,
        }
    }
    if values.is_empty() { Err(format!("'{text}' ends before it begins")) } else { Ok(values) }
}

/// `512,128`: a prompt and a generation, timed together.
pub(super) fn parse_pair(text: &str) -> Result<(usize, usize), String> {
    let pair = text.split_once(',').and_then(|(p, n)| Some((p.parse().ok()?, n.parse().ok()?)));
    pair.ok_or_else(|| format!("'{text}' is no pair like 512,128"))
}

/// The settings that a model is loaded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) gpu_layers: GpuLayers,
    pub(super) n_batch: usize,
    pub(super) n_ubatch: usize,
    pub(super) n_threads: usize,
    pub(super) type_k: DType,
    pub(super) type_v: DType,
}

/// One test: tokens of prompt and generation after a context of some depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "the names are llama-bench's")]
pub(super) struct Test {
    pub(super) n_prompt: usize,
    pub(super) n_gen: usize,
    pub(super) n_depth: usize,
}

impl Test {
    /// llama-bench's name: `pp512`, `tg128 @ d2048`, `pp512+tg128`.
    pub(super) fn name(&self) -> String {
        let name = match (self.n_prompt, self.n_gen) {
            (p, 0) => format!("pp{p}"),
            (0, g) => format!("tg{g}"),
            (p, g) => format!("pp{p}+tg{g}"),
        };
        if self.n_depth > 0 { format!("{name} @ d{}", self.n_depth) } else { name }
    }

    /// Context that it needs.
    pub(super) fn n_ctx(&self) -> usize {
        self.n_prompt.saturating_add(self.n_gen).saturating_add(self.n_depth)
    }
}

/// The lists of all options.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) n_prompt: Vec<usize>,
    pub(super) n_gen: Vec<usize>,
    pub(super) pairs: Vec<(usize, usize)>,
    pub(super) n_depth: Vec<usize>,
    pub(super) gpu_layers: Vec<GpuLayers>,
    pub(super) n_batch: Vec<usize>,
    pub(super) n_ubatch: Vec<usize>,
    pub(super) n_threads: Vec<usize>,
    pub(super) type_k: Vec<DType>,
    pub(super) type_v: Vec<DType>,
}

impl Matrix {
    /// Every combination of settings.
    pub(super) fn setups(&self) -> Vec<Setup> {
        let mut out = vec![Setup {
            gpu_layers: GpuLayers::Auto,
            n_batch: 0,
            n_ubatch: 0,
            n_threads: 0,
            type_k: DType::F16,
            type_v: DType::F16,
        }];
        out = each(&out, &self.gpu_layers, |s, v| s.gpu_layers = v);
        out = each(&out, &self.n_batch, |s, v| s.n_batch = v);
        out = each(&out, &self.n_ubatch, |s, v| s.n_ubatch = v);
        out = each(&out, &self.type_k, |s, v| s.type_k = v);
        out = each(&out, &self.type_v, |s, v| s.type_v = v);
        each(&out, &self.n_threads, |s, v| s.n_threads = v)
    }

    /// The tests of each combination: by depth, prompts before generation.
    pub(super) fn tests(&self) -> Vec<Test> {
        let mut out = Vec::new();
        for &n_depth in &self.n_depth {
            let prompts = self.n_prompt.iter().map(|&p| (p, 0));
            let generations = self.n_gen.iter().map(|&g| (0, g));
            let all = prompts.chain(generations).chain(self.pairs.iter().copied());
            let tests = all.map(|(n_prompt, n_gen)| Test { n_prompt, n_gen, n_depth });
            out.extend(tests.filter(|t| t.n_prompt > 0 || t.n_gen > 0));
        }
        out
    }
}

/// Each setup with each value.
fn each<V: Copy>(setups: &[Setup], values: &[V], set: impl Fn(&mut Setup, V)) -> Vec<Setup> {
    let mut out = Vec::with_capacity(setups.len() * values.len());
    for &setup in setups {
        for &value in values {
            let mut one = setup;
            set(&mut one, value);
            out.push(one);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        assert_eq!(parse_list("512"), Ok(vec![512]));
        assert_eq!(parse_list("0,512,512"), Ok(vec![0, 512, 512]));
        assert_eq!(parse_list("0-1024+512,7"), Ok(vec![0, 512, 1024, 7]));
        assert_eq!(parse_list("1-10*2"), Ok(vec![1, 2, 4, 8]));
        assert_eq!(parse_list("3-5"), Ok(vec![3, 4, 5]));
        assert_eq!(parse_list("5-5*2"), Ok(vec![5]));
        for bad in ["", "x", "1-", "-1", "5-3", "0-8*2", "1-8+0", "0-99999", "1,,2"] {
            assert!(parse_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tests_are_named_and_ordered_as_in_llama_bench() {
        let matrix = Matrix {
            n_prompt: vec![512, 0],
            n_gen: vec![128],
            pairs: vec![(16, 8)],
            n_depth: vec![0, 2048],
            gpu_layers: vec![GpuLayers::Auto, GpuLayers::Count(3)],
            n_batch: vec![2048],
            n_ubatch: vec![512, 64],
            n_threads: vec![0],
            type_k: vec![DType::F16],
            type_v: vec![DType::F16],
        };
        let names: Vec<String> = matrix.tests().iter().map(Test::name).collect();
        let expected =
            ["pp512", "tg128", "pp16+tg8", "pp512 @ d2048", "tg128 @ d2048", "pp16+tg8 @ d2048"];
        assert_eq!(names, expected);
        assert_eq!(matrix.tests()[5].n_ctx(), 2072);
        let setups: Vec<_> = matrix.setups().iter().map(|s| (s.gpu_layers, s.n_ubatch)).collect();
        let (auto, three) = (GpuLayers::Auto, GpuLayers::Count(3));
        assert_eq!(setups, [(auto, 512), (auto, 64), (three, 512), (three, 64)]);
    }

    #[test]
    fn pairs() {
        assert_eq!(parse_pair("512,128"), Ok((512, 128)));
        assert!(parse_pair("512").is_err());
    }
}
