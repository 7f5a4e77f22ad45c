//! Every type with every number of columns that kernels tell apart, without chance: the property
//! tests draw few products that are narrow enough for row dot products.

use super::*;

/// Columns: each count that kernels have code of their own for, and rests of larger ones.
const COLUMNS: [usize; 9] = [1, 2, 3, 4, 5, 6, 7, 10, 13];

/// A row shorter than a group of 256, and one of several groups with a rest, where the type has
/// such rows.
fn lengths(dtype: DType) -> [usize; 2] {
    match dtype.block_len() {
        256 => [256, 5 * 256],
        1 => [19, 1303],
        len => [3 * len, 41 * len],
    }
}

#[test]
fn every_type_agrees_for_few_and_for_many_columns() {
    for dtype in DType::WEIGHTS {
        for k in lengths(dtype) {
            // An odd number of rows, more than any tile has.
            let n = 35;
            let w = Weights::new(dtype, k * n, 7 + k as u64, 1);
            for t in COLUMNS {
                let c = Case { dtype, k, n, t, gap: 1, shift: 1, threads: 1, seed: 0 };
                let mut x = Rows::new(k, t, c.gap, t as u64);
                let reference = product_of(Isa::Scalar, &c, &w, &mut x);
                for isa in Isa::available() {
                    let got = product_of(isa, &c, &w, &mut x);
                    for i in 0..n * t {
                        let (row, col) = (i % n, i / n);
                        let (_, scale) = exact(&w.values[row * k..][..k], x.row(col, k));
                        let (a, b) = (f64::from(got[i]), f64::from(reference[i]));
                        let at = format!("{isa} {dtype:?} {k}×{n}×{t} ({row}, {col})");
                        assert!((a - b).abs() <= scale * SAME_INPUT, "{at}: {a} {b}");
                    }
                }
            }
        }
    }
}
