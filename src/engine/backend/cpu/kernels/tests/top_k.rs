//! The largest of a row.

use proptest::prelude::*;

use super::super::top_k::top_k;
use super::{Floats, Ints, Random, on_every_isa};

/// What `top_k` must give for a row.
fn sorted(row: &[f32], k: usize) -> Vec<i32> {
    let at = |i: usize| if row[i].is_nan() { f32::NEG_INFINITY } else { row[i] };
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| at(b).partial_cmp(&at(a)).unwrap().then(a.cmp(&b)));
    order[..k].iter().map(|&i| i as i32).collect()
}

fn check(mut x: Floats, k: usize, threads: usize) {
    let [_, t, _] = x.ne;
    let mut out = Ints { data: vec![-1; k * t], ne: [k, t] };
    let x_view = x.view();
    on_every_isa(threads, |run| {
        out.data.fill(-1);
        let dst = out.view();
        // SAFETY: both tensors are live and have fitting shapes.
        run(&|wk, isa| unsafe { top_k(wk, isa, x_view, dst) });
        for r in 0..t {
            assert_eq!(&out.data[r * k..][..k], &sorted(x.row(r), k)[..]);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_largest_come_first_and_the_lower_index_among_equals(
        n in 1_usize..1500, k in 1_usize..70, t in 1_usize..6, few: bool, threads in 1_usize..5,
        seed: u64,
    ) {
        let random = &mut Random::new(seed);
        let x = Floats::new([n, t, 1], 2, || match random.below(50) {
            0 => f32::NAN,
            1 => f32::NEG_INFINITY,
            2 => -0.0,
            3 => f32::INFINITY,
            // Few distinct values, so that equals are common.
            _ if few => random.below(7) as f32,
            _ => random.float(),
        });
        check(x, k.min(n), threads);
    }
}

#[test]
fn rising_falling_and_constant_rows_are_sorted_too() {
    for slope in [1.0, -1.0, 0.0] {
        let mut i = 0.0;
        let x = Floats::new([1000, 1, 1], 0, || {
            i += slope;
            i
        });
        check(x.clone(), 1, 1);
        check(x, 33, 1);
    }
}

#[test]
fn nan_never_yields_an_index_outside_the_row() {
    for n in [5, 700] {
        check(Floats::new([n, 1, 1], 0, || f32::NAN), 5, 1);
    }
}
