//! Rotary position embedding, with YaRN's stretching of the context.
//!
//! The angles are those of ggml's CPU backend, so that positions far from 0 agree: frequencies in
//! `f32`, one power per pair. Source of YaRN: Peng et al., arXiv 2309.00071.

use std::f32::consts::PI;

use super::simd::{Kernel, Simd, dispatch};
use crate::engine::backend::cpu::{Isa, TensorRef, Worker};
use crate::engine::graph::{RopeMode, RopeParams};

/// Elements of a head that can turn; no published model has heads this wide.
const MAX_DIMS: usize = 1024;

/// Tables that are kept: a model has one set of parameters, or one for windows and one for the rest.
const TABLES: usize = 2;

/// The angles of a run of nodes, for one worker: queries and keys of all layers turn by the same
/// ones, so that each is computed once.
///
/// It must not outlive the run: it remembers the address of the factors, not what they are.
#[derive(Default)]
pub struct RopeAngles {
    tables: Vec<Table>,
}

impl RopeAngles {
    /// The table for these parameters, empty if it is new.
    fn table(&mut self, params: &RopeParams, factors: Option<&[f32]>) -> &mut Table {
        let key = (*params, factors.map(<[f32]>::as_ptr));
        let found = self.tables.iter().position(|t| t.key == key);
        let at = found.unwrap_or_else(|| {
            self.tables.truncate(TABLES - 1);
            let frequencies = Frequencies::new(params);
            self.tables.insert(0, Table { key, frequencies, tokens: Vec::new() });
            0
        });
        &mut self.tables[at]
    }
}

/// The angles of one set of parameters.
struct Table {
    key: (RopeParams, Option<*const f32>),
    frequencies: Frequencies,
    /// For each token of the batch its position and its angles, once they were needed.
    tokens: Vec<Option<(i32, Angles)>>,
}

impl Table {
    fn angles(
        &mut self,
        token: usize,
        position: i32,
        factors: Option<&[f32]>,
        params: &RopeParams,
    ) -> &Angles {
        if token >= self.tokens.len() {
            self.tokens.resize_with(token + 1, || None);
        }
        let slot = &mut self.tokens[token];
        if slot.as_ref().is_none_or(|(at, _)| *at != position) {
            *slot = None;
        }
        let frequencies = &self.frequencies;
        &slot.get_or_insert_with(|| (position, frequencies.turn(position, factors, params))).1
    }
}

/// Rotates heads by position: `x` F32 `(d, n_head, t)`, `positions` I32 `(t)`, `factors` F32
/// `(n_dims / 2)` divisors of the frequencies → `dst` of the shape of `x`, which may be `x` itself.
///
/// `angles` is this worker's own.
///
/// # Safety
/// As the contract of [`super`].
pub unsafe fn rope(
    wk: &Worker,
    isa: Isa,
    x: TensorRef,
    positions: TensorRef,
    factors: Option<TensorRef>,
    dst: TensorRef,
    params: &RopeParams,
    angles: &mut RopeAngles,
) {
    assert!(params.n_dims <= MAX_DIMS.min(x.ne[0]), "{} of {} dims", params.n_dims, x.ne[0]);
    let (n_head, half) = (x.ne[1], params.n_dims / 2);
    // SAFETY: positions are I32 and gapless, factors hold one `f32` per pair.
    let (positions, factors) = unsafe {
        (positions.i32s(), factors.map(|f| std::slice::from_raw_parts(f.ptr.cast::<f32>(), half)))
    };
    let table = angles.table(params, factors);
    for i in wk.share(n_head * x.ne[2], 1) {
        let (head, token) = (i % n_head, i / n_head);
        let angles = table.angles(token, positions[token], factors, params);
        // SAFETY: head and token are below the extents of both tensors.
        unsafe {
            let kernel = Rotate {
                from: x.row(head, token, 0).cast(),
                to: dst.row(head, token, 0).cast(),
                d: x.ne[0],
                n_dims: params.n_dims,
                mode: params.mode,
                angles,
            };
            dispatch(isa, kernel);
        }
    }
}

/// Cosines and sines for one position, laid out as the mode reads them: by pair for
/// [`RopeMode::Neox`]; by element, the sine of a pair's first element negated, for
/// [`RopeMode::Norm`].
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// What does not depend on the position.
struct Frequencies {
    /// Radians per position of each pair.
    base: [f32; MAX_DIMS / 2],
    /// Pairs between which YaRN goes over from extrapolation to interpolation.
    ramp: (f32, f32),
    /// Factor on the rotated values.
    magnitude: f32,
}

impl Frequencies {
    fn new(p: &RopeParams) -> Self {
        let mut base = [0.0; MAX_DIMS / 2];
        let step = -2.0 / p.n_dims as f32;
        for (i, f) in base.iter_mut().take(p.n_dims / 2).enumerate() {
            *f = p.freq_base.powf(step * i as f32);
        }
        let mut magnitude = p.attn_factor;
        if p.ext_factor != 0.0 {
            magnitude *= 1.0 + 0.1 * (1.0 / p.freq_scale).ln();
        }
        // The pair that turns `rotations` times within the context the model was trained with.
        let pair = |rotations: f32| {
            let turns = p.n_ctx_orig as f32 / (rotations * 2.0 * PI);
            p.n_dims as f32 * turns.ln() / (2.0 * p.freq_base.ln())
        };
        let low = pair(p.beta_fast).floor().max(0.0);
        let high = pair(p.beta_slow).ceil().min(p.n_dims as f32 - 1.0);
        Self { base, ramp: (low, high), magnitude }
    }

    fn turn(&self, position: i32, factors: Option<&[f32]>, p: &RopeParams) -> Angles {
        let mut to = Angles { cos: vec![0.0; p.n_dims], sin: vec![0.0; p.n_dims] };
        let (low, high) = self.ramp;
        for i in 0..p.n_dims / 2 {
            let far = position as f32 * self.base[i] / factors.map_or(1.0, |f| f[i]);
            let near = far * p.freq_scale;
            let theta = if p.ext_factor == 0.0 {
                near
            } else {
                let ramp = ((i as f32 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                let mix = (1.0 - ramp) * p.ext_factor;
                near * (1.0 - mix) + far * mix
            };
            let (sin, cos) = theta.sin_cos();
            let (sin, cos) = (sin * self.magnitude, cos * self.magnitude);
            match p.mode {
                RopeMode::Neox => (to.cos[i], to.sin[i]) = (cos, sin),
                RopeMode::Norm => {
                    (to.cos[2 * i], to.cos[2 * i + 1]) = (cos, cos);
                    (to.sin[2 * i], to.sin[2 * i + 1]) = (-sin, sin);
                }
            }
        }
        to
    }
}

/// Turns one head of `d` elements.
struct Rotate<'a> {
    from: *const f32,
    to: *mut f32,
    d: usize,
    n_dims: usize,
    mode: RopeMode,
    angles: &'a Angles,
}

impl Kernel for Rotate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, to, d, n_dims, mode, angles } = self;
        let (cos, sin) = (angles.cos.as_ptr(), angles.sin.as_ptr());
        match mode {
            RopeMode::Norm => {
                for i in (0..n_dims).step_by(S::W) {
                    let n = (n_dims - i).min(S::W);
                    // SAFETY: `n` elements from `i` are below `n_dims <= d` and MAX_DIMS. Pairs do
                    // not straddle vectors, because widths and `n_dims` are even.
                    unsafe {
                        let x = s.load_n(from.add(i), n);
                        let (c, t) = (s.load_n(cos.add(i), n), s.load_n(sin.add(i), n));
                        s.store_n(to.add(i), s.fma(x, c, s.mul(s.swap_pairs(x), t)), n);
                    }
                }
            }
            RopeMode::Neox => {
                let half = n_dims / 2;
                for i in (0..half).step_by(S::W) {
                    let n = (half - i).min(S::W);
                    // SAFETY: `n` elements from `i` are below `half`, so both halves hold them.
                    unsafe {
                        let (x, y) = (s.load_n(from.add(i), n), s.load_n(from.add(half + i), n));
                        let (c, t) = (s.load_n(cos.add(i), n), s.load_n(sin.add(i), n));
                        s.store_n(to.add(i), s.sub(s.mul(x, c), s.mul(y, t)), n);
                        s.store_n(to.add(half + i), s.fma(x, t, s.mul(y, c)), n);
                    }
                }
            }
        }
        // SAFETY: both heads have `d` elements; `copy` allows that they are the same.
        unsafe { std::ptr::copy(from.add(n_dims), to.add(n_dims), d - n_dims) }
    }
}
