//! Which rows of which matrices go to which device with `-sm row`.
//!
//! The matrices of plain products are spread; experts, norms and biases stay whole. Rows are cut
//! between blocks of a format by nature, since a block lies in one row.

use std::ops::Range;
use std::sync::Arc;

use crate::base::event::DeviceIndex;
use crate::engine::graph::{CONCAT_MAX, WeightId};
use crate::engine::model::{WeightInfo, WeightKind};

use super::assign::{Residence, WeightPart};
use super::placement::{PlacementError, Target};

/// Whether `-sm row` spreads a weight: the matrices of plain products, which are most of a dense
/// model.
pub(super) fn is_matrix(weight: &WeightInfo) -> bool {
    let product =
        matches!(weight.kind, WeightKind::Attention | WeightKind::FeedForward | WeightKind::Output);
    product && weight.ne[1] > 1 && weight.ne[2] == 1
}

/// Rows that a part has a multiple of, but for the last one: whole tiles of the products' kernels
/// where there are many.
fn row_step(rows: usize) -> usize {
    if rows >= 2048 { 128 } else { 16 }
}

/// The rows of each device that has any. `shares` are the upper bounds of the devices' parts, from 0
/// to 1.
fn parts(rows: usize, shares: &[f32]) -> Vec<(usize, Range<usize>)> {
    let step = row_step(rows);
    let bound = |share: &f32| {
        let steps = (rows as f64 * f64::from(*share) / step as f64).round();
        (steps as usize * step).min(rows)
    };
    let mut ends: Vec<usize> = shares.iter().map(bound).collect();
    // Sums of shares fall short of 1 by rounding: the last device that has a share has the rest.
    let last = (1..ends.len()).rfind(|&d| shares[d] > shares[d - 1]).unwrap_or(0);
    ends[last..].fill(rows);
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let ranges = starts.zip(&ends).map(|(start, &end)| start..end).enumerate();
    ranges.filter(|(_, rows)| !rows.is_empty()).collect()
}

/// Gives each device its share of the rows of the weights in `spread`, and `main_gpu` the results.
///
/// # Errors
/// When there are more devices than one node can gather from.
pub(super) fn spread(
    residence: &mut Residence,
    weights: &[WeightInfo],
    spread: &[usize],
    shares: &[f32],
    gpus: &[Target],
    main_gpu: usize,
) -> Result<(), PlacementError> {
    if gpus.len() > CONCAT_MAX {
        return Err(PlacementError::TooManyParts { devices: gpus.len(), most: CONCAT_MAX });
    }
    let index = |device: usize| DeviceIndex(device as u8);
    for &i in spread {
        let rows = weights[i].ne[1];
        if rows < row_step(rows) * gpus.len() {
            continue; // too few to divide
        }
        let parts = parts(rows, shares);
        if let [(device, _)] = parts[..] {
            residence.weights[i] = index(device);
            continue;
        }
        let names: Vec<&str> = parts.iter().map(|(d, _)| gpus[*d].name.as_str()).collect();
        let reason = &residence.weight_reasons[i];
        let reason = format!("{reason}; -sm row spreads its rows over {}", names.join(", "));
        residence.weight_reasons[i] = Arc::from(reason);
        let of = WeightId(i as u32);
        let part = |(device, rows)| WeightPart { of, rows, device: index(device) };
        residence.parts.extend(parts.into_iter().map(part));
    }
    residence.gather = Some(index(main_gpu));
    for part in &residence.parts {
        let (weight, rows) = (&weights[part.of.0 as usize], &part.rows);
        let (first, last, all) = (rows.start, rows.end - 1, weight.ne[1]);
        let name = format!("{}[{}..{}]", weight.name, rows.start, rows.end);
        let reason = format!("-sm row gives it rows {first} to {last} of {all}");
        residence.weights.push(part.device);
        residence.weight_names.push(Arc::from(name));
        residence.weight_reasons.push(Arc::from(reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::engine::model::LayerClass;
    use crate::engine::sched::placement::{
        Placement, PlacementOptions, SplitMode, parse_overrides, place,
    };
    use crate::engine::tensor::DType;

    use super::*;

    fn matrix(name: &str, rows: usize, kind: WeightKind) -> WeightInfo {
        WeightInfo {
            name: name.to_string(),
            dtype: DType::F32,
            ne: [64, rows, 1, 1],
            bytes: 256 * rows,
            class: LayerClass::Repeating(0),
            tensor: 0,
            duplicate_of: None,
            kind,
        }
    }

    #[test]
    fn rows_of_large_matrices_are_shared_and_the_rest_is_on_the_main_device() {
        let table = [
            matrix("q", 4096, WeightKind::Attention),
            matrix("up", 100, WeightKind::FeedForward),
            matrix("few", 20, WeightKind::Attention),
            matrix("norm", 1, WeightKind::Norm),
            matrix("exps", 4096, WeightKind::Expert),
            matrix("kept", 4096, WeightKind::FeedForward),
        ];
        let placed = |split: &[f32], main_gpu: usize| {
            let gpu = |i| Target { name: format!("GPU{i}"), free_bytes: 1 };
            let targets: Vec<Target> = (0..3).map(gpu).collect();
            let options = PlacementOptions {
                gpu_layers: 99,
                split_mode: SplitMode::Row,
                tensor_split: split.to_vec(),
                main_gpu,
                overrides: parse_overrides("kept=GPU2").unwrap(),
                kv_on_host: false,
            };
            place(&table, &[], 1, &targets, &options).unwrap()
        };
        let parts = |placed: &Placement| -> Vec<(u32, usize, usize, u8)> {
            let parts = placed.residence.parts.iter();
            parts.map(|p| (p.of.0, p.rows.start, p.rows.end, p.device.0)).collect()
        };
        let homes = |placed: &Placement| -> Vec<u8> {
            placed.residence.weights[..6].iter().map(|d| d.0).collect()
        };
        // The CPU is the third target, so that there are two devices.
        let thirds = placed(&[2.0, 1.0], 1);
        let expected = [(0, 0, 2688, 0), (0, 2688, 4096, 1), (1, 0, 64, 0), (1, 64, 100, 1)];
        assert_eq!(parts(&thirds), expected);
        assert_eq!(homes(&thirds), [1, 1, 1, 1, 0, 2]);
        assert_eq!(thirds.layers, [DeviceIndex(1); 2]);
        assert_eq!(thirds.residence.gather, Some(DeviceIndex(1)));
        assert_eq!(&*thirds.residence.weight_names[6], "q[0..2688]");
        assert_eq!(
            &*thirds.residence.weight_reasons[7],
            "-sm row gives it rows 2688 to 4095 of 4096"
        );
        assert!(thirds.residence.weight_reasons[0].contains("spreads its rows over GPU0, GPU1"));
        // A device without a share has nothing but, as the main one, what is not spread.
        for (split, home) in [([1.0, 0.0], 0), ([0.0, 1.0], 1)] {
            let one = placed(&split, 0);
            assert_eq!(parts(&one), []);
            assert_eq!(homes(&one), [home, home, 0, 0, home, 2]);
        }
    }

    #[test]
    fn every_row_has_one_device() {
        for rows in [17, 100, 2047, 2048, 5000] {
            for shares in [&[0.5, 1.0][..], &[0.1, 0.2, 0.999_999_9], &[0.0, 0.7, 0.7], &[1.0]] {
                let mut next = 0;
                for (_, part) in parts(rows, shares) {
                    assert_eq!(part.start, next);
                    next = part.end;
                }
                assert_eq!(next, rows);
            }
        }
    }
}
