//! The passes on a toy model: what llama.cpp's users see must be what comes out here.

use std::sync::Arc;

use proptest::prelude::*;

use crate::base::event::DeviceIndex;
use crate::engine::graph::{CacheId, Graph, GraphBuilder, InputKind, Name, Op, TensorId, WeightId};
use crate::engine::tensor::DType;

use super::{
    Begins, Capabilities, Cause, Home, Residence, SplitPlan, WeightPart, allocate, dump, plan_fact,
    split, spread,
};

const WIDTH: usize = 8;
const CELLS: usize = 16;

/// Devices in order of priority, the CPU last.
struct Fake {
    n: usize,
    /// Operations that every device but the CPU lacks.
    lacks: Vec<&'static str>,
    offload_from: usize,
    shared: Option<(u8, u8)>,
}

impl Fake {
    fn new(n: usize) -> Self {
        Self { n, lacks: Vec::new(), offload_from: usize::MAX, shared: None }
    }
}

impl Capabilities for Fake {
    fn n_devices(&self) -> usize {
        self.n
    }

    fn supports(&self, device: DeviceIndex, op: &Op, _: &[DType]) -> Result<(), String> {
        if device.0 as usize + 1 < self.n && self.lacks.contains(&op.name()) {
            return Err(format!("GPU{} has no {}", device.0, op.name()));
        }
        Ok(())
    }

    fn offloads(&self, _: DeviceIndex, op: &Op, batch: usize) -> bool {
        *op != Op::GetRows && batch >= self.offload_from
    }

    fn shares_memory(&self, a: DeviceIndex, b: DeviceIndex) -> bool {
        a == b || self.shared == Some((a.0.min(b.0), a.0.max(b.0)))
    }
}

/// The weights of layer `il`: norm, query, key, value, output projection, feed-forward.
const PER_LAYER: usize = 6;

struct Toy {
    b: GraphBuilder,
    t: usize,
    n_weights: u32,
}

impl Toy {
    fn weight(&mut self, rows: usize) -> TensorId {
        let id = WeightId(self.n_weights);
        self.n_weights += 1;
        let ne = [WIDTH, rows, 1, 1];
        self.b.weight(Name::global("w"), id, DType::F32, ne)
    }

    fn node(&mut self, stem: &'static str, il: usize, op: Op, src: &[TensorId]) -> TensorId {
        self.b.node(Name::layer(stem, il), op, src).unwrap()
    }

    fn store(&mut self, il: usize, cache: u32, x: TensorId, rows: TensorId) -> TensorId {
        let ne = [WIDTH, CELLS, 1, 1];
        let cache = self.b.cache(Name::layer("cache", il), CacheId(cache), DType::F32, ne);
        let stored = self.node("store", il, Op::SetRows, &[x, rows, cache]);
        self.b.heads(stored, WIDTH, 1).map(|_| ()).unwrap();
        let nb1 = WIDTH * 4;
        let ne = [WIDTH, CELLS, 1, 1];
        self.b.view(Name::layer("kv", il), stored, ne, [4, nb1, nb1, nb1], 0).unwrap()
    }

    fn layer(&mut self, il: usize, x: TensorId) -> TensorId {
        let (positions, rows) = (self.ints(InputKind::Positions), self.ints(InputKind::CacheRows));
        let mask = self.b.input(InputKind::Mask, DType::F16, [CELLS, self.t, 1, 1]);
        let [norm, q, k, v, o, f] = [1, WIDTH, WIDTH, WIDTH, WIDTH, WIDTH].map(|n| self.weight(n));
        let h = self.node("norm", il, Op::RmsNorm { eps: 1e-5 }, &[x, norm]);
        let [q, k, v] = [q, k, v].map(|w| self.node("qkv", il, Op::MulMat, &[w, h]));
        let q = self.b.heads(q, WIDTH, 1).unwrap();
        let rope = Op::Rope(crate::engine::graph::RopeParams {
            mode: crate::engine::graph::RopeMode::Neox,
            n_dims: WIDTH,
            freq_base: 1e4,
            freq_scale: 1.0,
            n_ctx_orig: 64,
            ext_factor: 0.0,
            attn_factor: 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
        });
        let q = self.node("rope", il, rope, &[q, positions]);
        let k = self.store(il, 2 * il as u32, k, rows);
        let v = self.store(il, 2 * il as u32 + 1, v, rows);
        let attention = Op::FlashAttn { scale: 1.0, softcap: 0.0 };
        let a = self.node("kqv_out", il, attention, &[q, k, v, mask]);
        let a = self.b.reshape(a, [WIDTH, self.t, 1, 1]).unwrap();
        let a = self.node("attn_out", il, Op::MulMat, &[o, a]);
        let x = self.node("ffn_inp", il, Op::Add, &[a, x]);
        let f = self.node("ffn", il, Op::MulMat, &[f, x]);
        self.node("l_out", il, Op::Add, &[f, x])
    }

    fn ints(&mut self, kind: InputKind) -> TensorId {
        self.b.input(kind, DType::I32, [self.t, 1, 1, 1])
    }
}

/// Embedding, `n_layer` layers, norm and output; weights are numbered in that order.
fn toy(n_layer: usize, t: usize) -> Graph {
    let mut toy = Toy { b: GraphBuilder::new(), t, n_weights: 0 };
    let ids = toy.ints(InputKind::Tokens);
    let table = toy.weight(32);
    let mut x = toy.b.node(Name::global("inp_embd"), Op::GetRows, &[table, ids]).unwrap();
    for il in 0..n_layer {
        x = toy.layer(il, x);
    }
    let (norm, out) = (toy.weight(1), toy.weight(32));
    let h = toy.b.node(Name::global("result_norm"), Op::RmsNorm { eps: 1e-5 }, &[x, norm]).unwrap();
    let logits = toy.b.node(Name::global("result_output"), Op::MulMat, &[out, h]).unwrap();
    toy.b.output(logits);
    toy.b.finish()
}

/// The embedding on the CPU, each layer where `layers` says, the output where its last entry says.
fn residence(layers: &[u8], cpu: u8) -> Residence {
    let n_layer = layers.len() - 1;
    let mut weights = vec![DeviceIndex(cpu)];
    for &device in &layers[..n_layer] {
        weights.extend([DeviceIndex(device); PER_LAYER]);
    }
    weights.extend([DeviceIndex(layers[n_layer]); 2]);
    let caches: Vec<DeviceIndex> =
        layers[..n_layer].iter().flat_map(|&d| [DeviceIndex(d); 2]).collect();
    Residence {
        weight_names: (0..weights.len()).map(|i| Arc::from(format!("w{i}"))).collect(),
        weight_reasons: weights.iter().map(|_| Arc::from("as placed")).collect(),
        cache_names: (0..caches.len()).map(|i| Arc::from(format!("cache{i}"))).collect(),
        weights,
        caches,
        ..Residence::default()
    }
}

/// As [`residence`] with all layers on device `gather` of two, but the query, key, value and
/// feed-forward matrices spread over both.
fn spread_residence(n_layer: usize, gather: u8) -> Residence {
    let mut residence = residence(&vec![gather; n_layer + 1], 2);
    for il in 0..n_layer {
        for w in [1, 2, 3, 5] {
            let of = WeightId((1 + il * PER_LAYER + w) as u32);
            for (device, rows) in [(0, 0..WIDTH / 4), (1, WIDTH / 4..WIDTH)] {
                residence.parts.push(WeightPart { of, rows, device: DeviceIndex(device) });
            }
        }
    }
    residence.gather = Some(DeviceIndex(gather));
    residence.weights.extend(residence.parts.iter().map(|p| p.device));
    for part in &residence.parts {
        residence.weight_names.push(Arc::from(format!("w{}[{:?}]", part.of.0, part.rows)));
        residence.weight_reasons.push(Arc::from("as spread"));
    }
    residence
}

#[test]
fn spread_products_let_devices_compute_at_the_same_time() {
    for gather in [0, 1] {
        let (residence, other) = (spread_residence(1, gather), 1 - gather);
        let graph = spread(toy(1, 3), &residence);
        let plan = split(&graph, &residence, &Fake::new(3)).unwrap();
        // Embedding; query, key and value on the other device, then here; what follows; the same for
        // the feed-forward matrix.
        let expected = [2, gather, other, gather, gather, other, gather, gather];
        assert_eq!(devices_of(&plan), expected);
        let ops = |s: usize| -> Vec<&str> {
            let split = &plan.splits[s];
            graph.nodes[split.start..split.end].iter().map(|n| n.op.name()).collect()
        };
        assert_eq!(ops(2), ["MUL_MAT"; 3]);
        assert_eq!(ops(3), ["MUL_MAT"; 3]);
        assert_eq!(ops(4)[..4], ["CONCAT", "CONCAT", "CONCAT", "ROPE"]);
        // The activations travel once for three products; what is not waited for is not copied first.
        let inputs = |s: usize| plan.splits[s].inputs.len();
        assert_eq!((inputs(2), inputs(3), inputs(5), inputs(6), inputs(7)), (1, 0, 1, 0, 1));
        assert!(plan.splits[4].inputs[..3].iter().all(|i| i.from == DeviceIndex(other)));
        assert_eq!(plan.splits[4].begins, Begins::Gather);
        let at = plan.splits[4].start;
        assert_eq!(plan.assignment.nodes[at], (DeviceIndex(gather), Cause::Gathered));
        // Rows stand in the order of the weight's, whoever computed them.
        let concat = &graph.nodes[at];
        let rows: Vec<usize> = concat.src.iter().map(|&s| graph.tensor(s).ne[0]).collect();
        assert_eq!(rows, [WIDTH / 4, WIDTH - WIDTH / 4]);
        assert_eq!(graph.tensor(concat.dst).ne, [WIDTH, 3, 1, 1]);
        let allocation = allocate(&graph, &plan, 3);
        assert!(allocation.copies.iter().zip(&plan.splits).all(|(c, s)| c.len() == s.inputs.len()));
    }
}

#[test]
fn a_graph_without_spread_weights_stays_as_it_is() {
    let graph = spread(toy(2, 1), &residence(&[0, 0, 1], 2));
    assert_eq!(graph.nodes.len(), toy(2, 1).nodes.len());
}

fn devices_of(plan: &SplitPlan) -> Vec<u8> {
    plan.splits.iter().map(|s| s.device.0).collect()
}

#[test]
fn a_fully_offloaded_model_has_one_split_more_than_devices() {
    let graph = toy(4, 1);
    let one = split(&graph, &residence(&[0; 5], 1), &Fake::new(2)).unwrap();
    assert_eq!(devices_of(&one), [1, 0]);
    let two = split(&graph, &residence(&[0, 0, 1, 1, 1], 2), &Fake::new(3)).unwrap();
    assert_eq!(devices_of(&two), [2, 0, 1]);
    let cpu = split(&graph, &residence(&[0; 5], 0), &Fake::new(1)).unwrap();
    assert_eq!(devices_of(&cpu), [0]);
    assert_eq!(cpu.splits[0].begins, Begins::Graph);
}

#[test]
fn layers_that_stay_on_the_cpu_join_the_embedding() {
    let graph = toy(4, 1);
    let plan = split(&graph, &residence(&[1, 1, 0, 0, 0], 1), &Fake::new(2)).unwrap();
    assert_eq!(devices_of(&plan), [1, 0]);
    // llama.cpp's rule before 2026 left the output behind: one more split at the end.
    let old = split(&graph, &residence(&[1, 1, 0, 0, 1], 1), &Fake::new(2)).unwrap();
    assert_eq!(devices_of(&old), [1, 0, 1]);
}

#[test]
fn what_a_split_needs_is_listed_once() {
    let graph = toy(2, 3);
    let plan = split(&graph, &residence(&[0; 3], 1), &Fake::new(2)).unwrap();
    let names = |s: usize| -> Vec<String> {
        plan.splits[s].inputs.iter().map(|i| graph.tensor(i.tensor).name.to_string()).collect()
    };
    assert!(names(0).is_empty());
    let mut inputs = names(1);
    inputs.sort();
    assert_eq!(inputs, ["KQ_mask", "inp_embd", "inp_pos", "kv_idxs"]);
}

#[test]
fn an_operation_that_the_device_lacks_goes_to_the_cpu_with_the_reason() {
    let graph = toy(3, 1);
    let devices = Fake { lacks: vec!["FLASH_ATTN_EXT"], ..Fake::new(2) };
    let plan = split(&graph, &residence(&[0; 4], 1), &devices).unwrap();
    // Embedding, then per layer the device, attention on the CPU, and the device at the end.
    assert_eq!(devices_of(&plan), [1, 0, 1, 0, 1, 0, 1, 0]);
    let names = ["GPU0".to_string(), "CPU".to_string()];
    let fact = plan_fact(&graph, &plan, &residence(&[0; 4], 1), &names);
    let cut = &fact.splits[2];
    assert_eq!(cut.nodes[0].tag, "3.best");
    assert!(cut.cause.contains("GPU0 has no FLASH_ATTN_EXT"), "{}", cut.cause);
    assert!(cut.inputs.iter().any(|i| i.tensor == "cache0"), "{:?}", cut.inputs);
    let text = dump(&fact, &names);
    assert!(text.starts_with("## SPLIT #0: CPU # 0 inputs:\n"), "{text}");
    assert_eq!(text.matches("## SPLIT").count(), 8);
}

#[test]
fn a_pinned_kv_cache_cuts_every_layer() {
    let graph = toy(3, 1);
    let mut on_host = residence(&[0; 4], 1);
    on_host.caches = vec![DeviceIndex(1); 6];
    on_host.pin_attention = Some(Arc::from("-nkvo"));
    let plan = split(&graph, &on_host, &Fake::new(2)).unwrap();
    let device_splits = plan.splits.iter().filter(|s| s.device.0 == 0).count();
    assert_eq!(device_splits, 4);
    assert_eq!(plan.splits.len(), 8);
}

#[test]
fn large_batches_bring_host_weights_over_each_in_a_split_of_its_own() {
    let host = residence(&[1; 3], 1);
    let devices = Fake { offload_from: 32, ..Fake::new(2) };
    let small = split(&toy(2, 31), &host, &devices).unwrap();
    assert_eq!(devices_of(&small), [1]);
    let graph = toy(2, 32);
    let large = split(&graph, &host, &devices).unwrap();
    assert!(large.splits.iter().any(|s| s.begins == Begins::AnotherWeight));
    let offloaded = large.assignment.nodes.iter().filter(|n| matches!(n.1, Cause::Offload { .. }));
    assert!(offloaded.count() >= 2 * 5);
    for part in &large.splits {
        let weights = part.inputs.iter().filter(|i| {
            matches!(graph.tensor(i.tensor).role, crate::engine::graph::Role::Weight(_))
        });
        assert!(weights.count() <= 2, "a split holds no more weights than its first nodes need");
    }
}

#[test]
fn shared_memory_lets_a_better_device_take_over() {
    let graph = toy(1, 1);
    let devices = Fake { shared: Some((0, 1)), ..Fake::new(2) };
    let plan = split(&graph, &residence(&[1, 1], 1), &devices).unwrap();
    assert_eq!(devices_of(&plan), [0]);
    assert!(plan.splits[0].inputs.is_empty());
    assert!(plan.assignment.nodes.iter().all(|n| n.1 == Cause::Upgraded));
}

#[test]
fn a_node_that_fits_nowhere_names_itself_and_the_reasons() {
    struct Nothing;
    impl Capabilities for Nothing {
        fn n_devices(&self) -> usize {
            1
        }
        fn supports(&self, _: DeviceIndex, op: &Op, _: &[DType]) -> Result<(), String> {
            if matches!(op, Op::Rope(_)) { Err("no ROPE here".to_string()) } else { Ok(()) }
        }
        fn offloads(&self, _: DeviceIndex, _: &Op, _: usize) -> bool {
            false
        }
    }
    let error = split(&toy(1, 1), &residence(&[0, 0], 0), &Nothing).unwrap_err();
    assert_eq!(error.to_string(), "no device can run rope-0 (ROPE): no ROPE here");
}

proptest! {
    /// However layers are spread, splits tile the nodes, every operand is at hand where it is
    /// needed, and no tensor that is still needed is overwritten.
    #[test]
    fn any_placement_is_complete_and_sound(
        layers in prop::collection::vec(0u8..3, 2..6),
        t in 1usize..40,
        offload in prop::bool::ANY,
        lacks in prop::bool::ANY,
    ) {
        let graph = toy(layers.len() - 1, t);
        let mut devices = Fake::new(3);
        if offload { devices.offload_from = 32; }
        if lacks { devices.lacks = vec!["FLASH_ATTN_EXT", "ADD"]; }
        let plan = split(&graph, &residence(&layers, 2), &devices).unwrap();
        let mut next = 0;
        for part in &plan.splits {
            prop_assert_eq!(part.start, next);
            prop_assert!(part.end > part.start);
            next = part.end;
        }
        prop_assert_eq!(next, graph.nodes.len());
        let allocation = allocate(&graph, &plan, 3);
        simulate(&graph, &plan, &allocation)?;
    }
}

/// Runs the plan on arenas that remember which tensor wrote each 64-byte line last.
fn simulate(
    graph: &Graph,
    plan: &SplitPlan,
    allocation: &super::Allocation,
) -> Result<(), TestCaseError> {
    let mut arenas: Vec<Vec<Option<TensorId>>> =
        allocation.arena_bytes.iter().map(|b| vec![None; b.div_ceil(64)]).collect();
    let lines = |offset: usize, bytes: usize| offset / 64..(offset + bytes).div_ceil(64);
    let mut write = |device: u8, offset: usize, id: TensorId| {
        let bytes = graph.tensor(id).span_bytes();
        for line in lines(offset, bytes) {
            arenas[device as usize][line] = Some(id);
        }
    };
    for (_, id) in graph.inputs() {
        let device = plan.assignment.tensors[id.index()];
        if let Some((Home::Arena(offset), _)) = allocation.place(graph, id, device) {
            write(device.0, offset, id);
        }
    }
    let mut reads = Vec::new();
    for (s, part) in plan.splits.iter().enumerate() {
        prop_assert_eq!(allocation.copies[s].len(), part.inputs.len());
        for step in &allocation.copies[s] {
            reads.push((step.from.0, step.from_home.0, graph.root(step.tensor)));
            check(graph, &reads, &arenas)?;
            let bytes = graph.tensor(step.tensor).span_bytes();
            for line in lines(step.to_offset, bytes) {
                arenas[part.device.0 as usize][line] = Some(step.tensor);
            }
        }
        for i in part.start..part.end {
            let node = &graph.nodes[i];
            reads.clear();
            for &src in &node.src {
                let place = allocation.place(graph, src, part.device);
                let Some((home, into)) = place else {
                    return Err(TestCaseError::fail(format!("{src:?} is not at hand")));
                };
                let known = if into == 0 && arenas_hold(&arenas, part.device.0, home, src) {
                    src
                } else {
                    graph.root(src)
                };
                reads.push((part.device.0, home, known));
            }
            check(graph, &reads, &arenas)?;
            reads.clear();
            if let Some((Home::Arena(offset), _)) = allocation.place(graph, node.dst, part.device) {
                let bytes = graph.tensor(node.dst).span_bytes();
                for line in lines(offset, bytes) {
                    arenas[part.device.0 as usize][line] = Some(node.dst);
                }
            }
        }
    }
    Ok(())
}

fn arenas_hold(arenas: &[Vec<Option<TensorId>>], device: u8, home: Home, id: TensorId) -> bool {
    matches!(home, Home::Arena(offset) if arenas[device as usize][offset / 64] == Some(id))
}

fn check(
    graph: &Graph,
    reads: &[(u8, Home, TensorId)],
    arenas: &[Vec<Option<TensorId>>],
) -> Result<(), TestCaseError> {
    for &(device, home, id) in reads {
        let Home::Arena(offset) = home else { continue };
        let bytes = graph.tensor(id).span_bytes();
        for line in offset / 64..(offset + bytes).div_ceil(64) {
            prop_assert_eq!(arenas[device as usize][line], Some(id), "overwritten while needed");
        }
    }
    Ok(())
}
