//! What changed in the facts that do not vary from run to run: where layers are, how graphs are cut,
//! what is copied, which memory is needed.
//!
//! There is no statistics here: a fact is the same or it is not. Where it is known which way is worse,
//! that is said; a change of which nobody knows is for a person to look at, and holds the gate as well.

use serde::Serialize;
use serde_json::Value;

use crate::advise::measure::Structure;

/// Facts under this path depend on the processor that the program runs on.
const OF_MACHINE: &str = "machine.";

/// What a change of a fact means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// For the worse: more on the CPU, more splits, more copied, more memory.
    Worse,
    /// Neither is better in itself: another type of cache, another cause.
    Changed,
    /// For the better.
    Better,
}

/// A fact that is not what it was.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct StructureChange {
    /// The test whose structure it is.
    pub test: String,
    /// Which fact: `decode.splits`.
    pub fact: String,
    /// What it was; absent where there was none.
    pub baseline: Option<Value>,
    /// What it is; absent where it is gone.
    pub candidate: Option<Value>,
    /// What that means.
    pub effect: Effect,
}

/// Which direction of a number is the good one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Less,
    More,
    Neither,
}

/// Everything that changed, what is worse first and what tells most before what follows from it.
pub fn structure_changes(
    test: &str,
    baseline: &Structure,
    candidate: &Structure,
    same_machine: bool,
) -> Vec<StructureChange> {
    let mut changes: Vec<StructureChange> = baseline
        .keys()
        .chain(candidate.keys().filter(|k| !baseline.contains_key(*k)))
        .filter(|fact| same_machine || !fact.starts_with(OF_MACHINE))
        .filter(|fact| baseline.get(*fact) != candidate.get(*fact))
        .map(|fact| {
            let (before, after) = (baseline.get(fact), candidate.get(fact));
            StructureChange {
                test: test.to_string(),
                fact: fact.clone(),
                baseline: before.cloned(),
                candidate: after.cloned(),
                effect: effect(fact, before, after),
            }
        })
        .collect();
    let offloads_more = |c: &StructureChange| c.fact == OFFLOADED && c.effect == Effect::Better;
    if changes.iter().any(offloads_more) {
        // What a device holds and where cuts lie follows from that; the sums still count.
        for change in changes.iter_mut().filter(|c| follows_from_placement(&c.fact)) {
            change.effect = Effect::Better;
        }
    }
    changes.sort_by_key(|c| (c.effect, rank(&c.fact)));
    changes
}

/// How many layers are on devices beside the CPU.
const OFFLOADED: &str = "placement.layers_offloaded";

/// Whether a fact has to change when more layers are offloaded, and not for the worse.
fn follows_from_placement(fact: &str) -> bool {
    let words: Vec<&str> = fact.split('.').collect();
    match words.as_slice() {
        ["placement", "elsewhere", ..] | [_, "split", ..] => true,
        ["memory", device, ..] | [_, "nodes" | "ops", device, ..] => *device != "CPU",
        _ => false,
    }
}

fn effect(fact: &str, before: Option<&Value>, after: Option<&Value>) -> Effect {
    let wanted = wanted(fact);
    // Of a number that is missing nothing was copied, held or placed.
    let number = |v: Option<&Value>| v.map_or(Some(0.0), Value::as_f64);
    let (Some(before), Some(after)) = (number(before), number(after)) else {
        return Effect::Changed;
    };
    match wanted {
        Wanted::Less if after > before => Effect::Worse,
        Wanted::More if after < before => Effect::Worse,
        Wanted::Neither => Effect::Changed,
        _ => Effect::Better,
    }
}

fn wanted(fact: &str) -> Wanted {
    let words: Vec<&str> = fact.split('.').collect();
    match words.as_slice() {
        ["placement", "layers_offloaded"] | ["memory", "gpu_percent"] => Wanted::More,
        ["placement", "layers", device] => if_cpu(device, Wanted::Less, Wanted::More),
        [_, "nodes", device] | [_, "ops", device, ..] => {
            if_cpu(device, Wanted::Less, Wanted::Neither)
        }
        [_, "splits" | "copy_bytes"]
        | [_, "split", _, "copies", ..]
        | ["memory", _, ..]
        | ["machine", "memory", ..] => Wanted::Less,
        _ => Wanted::Neither,
    }
}

fn if_cpu(device: &str, cpu: Wanted, other: Wanted) -> Wanted {
    if device == "CPU" { cpu } else { other }
}

/// What tells most comes first: placement, then cuts, then copies, then what follows from these.
fn rank(fact: &str) -> u8 {
    let words: Vec<&str> = fact.split('.').collect();
    match words.as_slice() {
        ["model", ..] => 0,
        ["placement", "layers_offloaded"] => 1,
        ["placement", ..] => 2,
        ["context" | "weights", ..] => 3,
        [_, "splits"] => 4,
        [_, "copy_bytes"] => 5,
        [_, "nodes", _] | [_, "flash_attention_nodes"] => 6,
        ["memory", ..] => 7,
        ["machine", ..] => 8,
        [_, "ops", ..] => 9,
        _ => 10,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn structure(facts: &[(&str, Value)]) -> Structure {
        facts.iter().map(|(k, v)| ((*k).to_string(), v.clone())).collect()
    }

    #[test]
    fn a_layer_less_is_worse_and_comes_first() {
        let before = structure(&[
            ("decode.ops.CPU.MUL_MAT", json!(3)),
            ("decode.split.001.cause", json!("a")),
            ("decode.splits", json!(2)),
            ("memory.Virtual0.weight_bytes", json!(100)),
            ("placement.layers_offloaded", json!(13)),
            ("placement.layers.CPU", json!(12)),
            ("placement.layers.Virtual0", json!(13)),
        ]);
        let after = structure(&[
            ("decode.ops.CPU.MUL_MAT", json!(10)),
            ("decode.split.001.cause", json!("b")),
            ("decode.splits", json!(2)),
            ("memory.Virtual0.weight_bytes", json!(90)),
            ("placement.layers_offloaded", json!(12)),
            ("placement.layers.CPU", json!(13)),
            ("placement.layers.Virtual0", json!(12)),
        ]);
        let changes = structure_changes("t", &before, &after, true);
        let told: Vec<(&str, Effect)> =
            changes.iter().map(|c| (c.fact.as_str(), c.effect)).collect();
        assert_eq!(
            told,
            [
                ("placement.layers_offloaded", Effect::Worse),
                ("placement.layers.CPU", Effect::Worse),
                ("placement.layers.Virtual0", Effect::Worse),
                ("decode.ops.CPU.MUL_MAT", Effect::Worse),
                ("decode.split.001.cause", Effect::Changed),
                ("memory.Virtual0.weight_bytes", Effect::Better),
            ]
        );
        assert!(structure_changes("t", &before, &before, true).is_empty());
        // On the way back more memory of the device follows from the layer.
        let back = structure_changes("t", &after, &before, true);
        assert!(back.iter().all(|c| c.effect == Effect::Better), "{back:?}");
    }

    #[test]
    fn what_came_or_went_counts_as_from_or_to_nothing() {
        let copies = structure(&[("decode.split.001.copies.inp", json!(64))]);
        let none = Structure::new();
        assert_eq!(structure_changes("t", &none, &copies, true)[0].effect, Effect::Worse);
        assert_eq!(structure_changes("t", &copies, &none, true)[0].effect, Effect::Better);
        let kv = |name: &str| structure(&[("context.type_k", json!(name))]);
        assert_eq!(
            structure_changes("t", &kv("F16"), &kv("Q8_0"), true)[0].effect,
            Effect::Changed
        );
    }

    #[test]
    fn facts_of_the_machine_are_not_compared_with_another_ones() {
        let kernels = |name: &str| structure(&[("machine.kernels", json!(name))]);
        let (a, b) = (kernels("AVX2"), kernels("AVX-512"));
        assert_eq!(structure_changes("t", &a, &b, true).len(), 1);
        assert_eq!(structure_changes("t", &a, &b, false), []);
    }
}
