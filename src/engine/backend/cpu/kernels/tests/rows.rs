//! Rows out of tables and into the cache, against the scalar conversions.

use proptest::prelude::*;

use super::super::rows::{concat, get_rows, set_rows};
use super::{Bytes, Floats, Ints, Random, on_every_isa};
use crate::engine::tensor::{DType, dequantize, quantize_vec};

/// What a KV cache can be made of.
const CACHE_TYPES: [DType; 9] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::IQ4_NL,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_come_out_as_the_scalar_code_reads_them(
        blocks in 1_usize..4, rows in 1_usize..8, t in 1_usize..9, threads in 1_usize..5, seed: u64,
    ) {
        let random = &mut Random::new(seed);
        for dtype in DType::WEIGHTS {
            // Plain types have odd lengths too.
            let n = if dtype.block_len() == 1 { 37 * blocks - 5 } else { dtype.block_len() * blocks };
            let mut table = Bytes::quantized(dtype, [n, rows, 1], random);
            let ids: Vec<i32> = (0..t).map(|_| random.below(rows) as i32).collect();
            let mut ids = Ints { data: ids, ne: [t, 1] };
            let mut out = Floats::zeros([n, t, 1], 3);
            let (table_view, ids_view) = (table.view(), ids.view());
            on_every_isa(threads, |run| {
                let dst = out.view();
                // SAFETY: all tensors are live and have fitting shapes; ids are below `rows`.
                run(&|wk, isa| unsafe { get_rows(wk, isa, table_view, ids_view, dst) });
                assert!(out.gaps_hold());
                for (i, &id) in ids.data.iter().enumerate() {
                    assert_eq!(out.row(i), &table.floats(id as usize)[..], "{dtype}");
                }
            });
        }
    }

    #[test]
    fn rows_stand_side_by_side(
        widths in prop::collection::vec(0_usize..2000, 2..5), t in 1_usize..4,
        threads in 1_usize..5, seed: u64,
    ) {
        let random = &mut Random::new(seed);
        let parts: Vec<Floats> =
            widths.iter().map(|&n| Floats::random([n, t, 1], 3, random)).collect();
        let mut kept = parts.clone();
        let views: Vec<_> = kept.iter_mut().map(Floats::view).collect();
        let mut out = Floats::zeros([widths.iter().sum(), t, 1], 2);
        on_every_isa(threads, |run| {
            let dst = out.view();
            // SAFETY: all tensors are live, and the result is as wide as the parts together.
            run(&|wk, _| unsafe { concat(wk, &views, dst) });
            assert!(out.gaps_hold());
            for r in 0..t {
                let want: Vec<f32> = parts.iter().flat_map(|p| p.row(r).to_vec()).collect();
                assert_eq!(out.row(r), &want[..]);
            }
        });
    }

    #[test]
    fn rows_go_in_as_the_scalar_code_writes_them(
        blocks in 1_usize..5, t in 1_usize..6, threads in 1_usize..5, seed: u64,
    ) {
        let cells = 9;
        let random = &mut Random::new(seed);
        for dtype in CACHE_TYPES {
            let n = if dtype.block_len() == 1 { 37 * blocks - 5 } else { dtype.block_len() * blocks };
            let mut src = Floats::random([n, t, 1], 3, random);
            // Distinct rows in an order of their own.
            let rows: Vec<i32> = (0..t).map(|i| (i * 4 + 3) as i32 % cells).collect();
            let mut rows = Ints { data: rows, ne: [t, 1] };
            let (src_view, rows_view) = (src.view(), rows.view());
            let before = Bytes::quantized(dtype, [n, cells as usize, 1], random);
            on_every_isa(threads, |run| {
                let mut cache = before.clone();
                let dst = cache.view();
                // SAFETY: all tensors are live and have fitting shapes; rows are distinct.
                run(&|wk, isa| unsafe { set_rows(wk, isa, src_view, rows_view, dst) });
                for cell in 0..cells {
                    let want = match rows.data.iter().position(|&r| r == cell) {
                        Some(i) => quantize_vec(dtype, src.row(i)).unwrap(),
                        None => before.row(cell as usize).to_vec(),
                    };
                    assert_eq!(cache.row(cell as usize), &want[..], "{dtype} row {cell}");
                }
            });
        }
    }
}

#[test]
fn what_a_block_cannot_hold_is_read_back_as_nan() {
    let mut src = Floats::new([64, 1, 1], 0, || 1.0);
    src.data[3] = f32::INFINITY;
    let mut rows = Ints { data: vec![1], ne: [1, 1] };
    let mut cache = Bytes::quantized(DType::Q8_0, [64, 2, 1], &mut Random::new(1));
    let (src_view, rows_view) = (src.view(), rows.view());
    on_every_isa(1, |run| {
        let dst = cache.view();
        // SAFETY: all tensors are live and have fitting shapes.
        run(&|wk, isa| unsafe { set_rows(wk, isa, src_view, rows_view, dst) });
        let mut back = vec![0.0; 64];
        dequantize(DType::Q8_0, cache.row(1), &mut back).unwrap();
        assert!(back.iter().all(|x| x.is_nan()));
    });
}
