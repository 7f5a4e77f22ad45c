//! Several products of the same activations in one call, against each of them alone: bit for bit.

use std::sync::Mutex;

use super::*;

const K: usize = 512;

/// The results of products with `types`, of the rows that stand beside them; and the ranges of rows
/// that were told, when `together`.
fn several(
    isa: Isa,
    weights: &[(Weights, usize)],
    t: usize,
    together: bool,
) -> (Vec<Vec<f32>>, Vec<Range<usize>>) {
    let pool = ThreadPool::new(3);
    let mut x = Rows::new(K, t, 0, 5);
    let x = x.tensor([K, t, 1, 1]);
    let mut results: Vec<Vec<f32>> = weights.iter().map(|(_, n)| vec![f32::NAN; n * t]).collect();
    let outputs: Vec<(TensorRef, TensorRef)> = weights
        .iter()
        .zip(&mut results)
        .map(|((w, n), dst)| {
            let dst = TensorRef::contiguous(dst.as_mut_ptr().cast(), DType::F32, [*n, t, 1, 1]);
            (w.tensor([K, *n, 1, 1]), dst)
        })
        .collect();
    let dtype = weights[0].0.dtype;
    let mut room = scratch(mul_mat_scratch_bytes(dtype, K, t, 3));
    let room = aligned(&mut room) as usize;
    let told = Mutex::new(Vec::new());
    // Whole structs are borrowed so that the closure is `Sync`.
    let (outputs, x) = (&outputs, &x);
    pool.run(&|wk| {
        let then = |range| told.lock().expect("nobody panics").push(range);
        // SAFETY: all tensors are live, results are written by this job only, `isa` is available.
        unsafe { mul_mats(wk, isa, outputs, *x, room as *mut u8, false, together, &then) };
    });
    let mut told = told.into_inner().expect("nobody panics");
    told.sort_by_key(|r| r.start);
    (results, told)
}

fn of(types: &[(DType, usize)]) -> Vec<(Weights, usize)> {
    types.iter().map(|&(dtype, n)| (Weights::new(dtype, K * n, n as u64, 1), n)).collect()
}

/// Packed alike and not, in any order, few columns and many, more than one panel's.
#[test]
fn products_of_the_same_activations_do_not_disturb_each_other() {
    let quantised = [(DType::Q4_K, 330), (DType::Q4_K, 70), (DType::Q6_K, 65), (DType::Q4_0, 40)];
    let plain = [(DType::F16, 330), (DType::F32, 33), (DType::BF16, 64)];
    for types in [&quantised[..], &plain[..]] {
        let weights = of(types);
        for t in [1, 5, 6, 50, 530] {
            for isa in Isa::available() {
                let (found, _) = several(isa, &weights, t, false);
                for (i, found) in found.iter().enumerate() {
                    let (alone, _) = several(isa, &weights[i..=i], t, false);
                    assert!(*found == alone[0], "{isa}, {t} columns: {:?}", types[i]);
                }
            }
        }
    }
}

#[test]
fn what_follows_a_chunk_is_told_each_row_once_all_products_have_it() {
    let alike = [(DType::Q4_K, 600), (DType::Q4_K, 600)];
    let apart = [(DType::Q4_K, 600), (DType::Q6_K, 600)];
    for types in [alike, apart] {
        let weights = of(&types);
        for t in [1, 4, 40, 520] {
            for isa in Isa::available() {
                let (found, told) = several(isa, &weights, t, true);
                let end = told.iter().fold(0, |at, r| if r.start == at { r.end } else { 0 });
                assert_eq!(end, 600, "{isa}, {t} columns: {told:?}");
                for (i, found) in found.iter().enumerate() {
                    let (alone, _) = several(isa, &weights[i..=i], t, false);
                    assert!(*found == alone[0], "{isa}, {t} columns: {:?}", types[i]);
                }
            }
        }
    }
}
