//! Graphs of every architecture: nodes, shapes, inputs and outputs.

use std::collections::HashSet;

use crate::engine::graph::{Graph, InputKind, Node, Op, Role};
use crate::engine::model::{Arch, Blueprint, GraphShape, Wanted, WeightKind};
use crate::engine::tensor::DType;

use super::tiny::{
    HEAD_DIM, N_EMBD, N_EXPERT_USED, N_FF, N_FF_EXPERT, N_HEAD, N_HEAD_KV, N_LAYER, N_VOCAB, Tiny,
    shape,
};

fn blueprint(arch: Arch) -> Blueprint {
    Tiny::new(arch).bind().unwrap()
}

fn name(graph: &Graph, node: &Node) -> String {
    graph.tensor(node.dst).name.to_string()
}

fn find<'a>(graph: &'a Graph, wanted: &str) -> &'a Node {
    let node = graph.nodes.iter().rfind(|n| name(graph, n) == wanted);
    node.unwrap_or_else(|| panic!("no node {wanted}"))
}

fn ne(graph: &Graph, wanted: &str) -> [usize; 4] {
    graph.tensor(find(graph, wanted).dst).ne
}

fn input(graph: &Graph, kind: InputKind) -> Option<[usize; 4]> {
    graph.inputs().find(|(k, _)| *k == kind).map(|(_, id)| graph.tensor(id).ne)
}

/// Operands are leaves or results of earlier nodes.
fn check_order(graph: &Graph) {
    let mut written = HashSet::new();
    for node in &graph.nodes {
        for &src in &node.src {
            let root = graph.root(src);
            let ready = graph.tensor(root).role != Role::Result || written.contains(&root);
            assert!(ready, "{} reads what is not there yet", name(graph, node));
        }
        written.insert(graph.root(node.dst));
    }
}

#[test]
fn graphs_have_the_nodes_that_the_architecture_implies() {
    // Of a layer: 2 norms, 4 products, 2 rotations, 2 writes, attention and 2 residuals are 13;
    // a gated block adds 4. Outside layers: embedding, last norm, output.
    let per_layer = |arch| match arch {
        Arch::Llama => 13 + 4,
        Arch::Qwen2 => 13 + 4 + 3,
        Arch::Qwen3 => 13 + 4 + 2,
        // logits, softmax, choice, weights; gate, up, activation, down, sum
        Arch::Qwen3Moe => 13 + 9 + 2,
        Arch::Gemma3 => 13 + 4 + 4,
        // One product for query, key and value, and one for gate and up.
        Arch::Phi3 => 13 + 4 - 3,
    };
    for arch in Arch::ALL {
        let model = blueprint(arch);
        let global = 3 + usize::from(arch == Arch::Gemma3);
        for (n_outputs, gathers) in [(3, 0), (1, 2)] {
            let graph = model.build(&shape(3, n_outputs)).unwrap();
            check_order(&graph);
            assert_eq!(graph.nodes.len(), N_LAYER * per_layer(arch) + global + gathers, "{arch}");
        }
    }
}

#[test]
fn logits_come_out_for_the_rows_that_are_wanted() {
    for arch in Arch::ALL {
        let model = blueprint(arch);
        for n_outputs in 1..=3 {
            let graph = model.build(&shape(3, n_outputs)).unwrap();
            let [out] = graph.outputs[..] else { panic!("{arch}") };
            let out = graph.tensor(out);
            assert_eq!(out.name.to_string(), "result_output");
            assert_eq!((out.ne, out.dtype), ([N_VOCAB, n_outputs, 1, 1], DType::F32));
            let rows = (n_outputs < 3).then_some([n_outputs, 1, 1, 1]);
            assert_eq!(input(&graph, InputKind::OutputRows), rows);
            // Before the last layer's gather all tokens are there, after it only the wanted.
            assert_eq!(ne(&graph, "l_out-0"), [N_EMBD, 3, 1, 1]);
            assert_eq!(ne(&graph, "kqv_out-1"), [HEAD_DIM, N_HEAD, 3, 1]);
            assert_eq!(ne(&graph, "ffn_inp-1"), [N_EMBD, n_outputs, 1, 1]);
        }
    }
}

#[test]
fn without_outputs_the_graph_ends_at_the_last_keys_and_values() {
    for arch in Arch::ALL {
        let graph = blueprint(arch).build(&shape(3, 0)).unwrap();
        check_order(&graph);
        assert!(graph.outputs.is_empty());
        let last = graph.nodes.last().unwrap();
        assert_eq!((last.op, name(&graph, last).as_str()), (Op::SetRows, "cache_v_l-1"));
        let writes = graph.nodes.iter().filter(|n| n.op == Op::SetRows).count();
        assert_eq!(writes, 2 * N_LAYER, "{arch}");
        assert!(!graph.nodes.iter().any(|n| name(&graph, n) == "Qcur-1"), "{arch}");
    }
}

#[test]
fn every_weight_is_used_in_its_place() {
    for arch in Arch::ALL {
        let model = blueprint(arch);
        let graph = model.build(&shape(2, 2)).unwrap();
        let used: HashSet<usize> = graph
            .tensors
            .iter()
            .filter_map(|t| match t.role {
                Role::Weight(id) => {
                    let info = &model.weights()[id.0 as usize];
                    assert_eq!((t.dtype, t.ne), (info.dtype, info.ne));
                    Some(id.0 as usize)
                }
                _ => None,
            })
            .collect();
        let read: HashSet<_> = graph.nodes.iter().flat_map(|n| &n.src).collect();
        for (i, weight) in model.weights().iter().enumerate() {
            assert!(used.contains(&i), "{arch}: {} is never used", weight.name);
        }
        for (i, tensor) in graph.tensors.iter().enumerate() {
            let id = crate::engine::graph::TensorId(i as u32);
            let read = read.contains(&id) || !matches!(tensor.role, Role::Weight(_));
            assert!(read, "{arch}: {} is never read", tensor.name);
        }
    }
}

#[test]
fn products_of_one_operand_stand_together() {
    for arch in [Arch::Llama, Arch::Qwen2, Arch::Qwen3, Arch::Qwen3Moe, Arch::Gemma3] {
        let graph = blueprint(arch).build(&shape(2, 2)).unwrap();
        let at = graph.nodes.iter().position(|n| name(&graph, n) == "Qcur-1").unwrap();
        for (node, stem) in graph.nodes[at..at + 3].iter().zip(["Qcur-1", "Kcur-1", "Vcur-1"]) {
            assert_eq!((node.op, name(&graph, node).as_str()), (Op::MulMat, stem), "{arch}");
            assert_eq!(node.src[1], graph.nodes[at].src[1]);
        }
    }
}

#[test]
fn attention_looks_at_the_cells_in_use_head_by_head() {
    let graph = blueprint(Arch::Llama).build(&shape(3, 3)).unwrap();
    let node = find(&graph, "kqv_out-1");
    let Op::FlashAttn { scale, softcap } = node.op else { panic!("{:?}", node.op) };
    assert_eq!((scale, softcap), (1.0 / (HEAD_DIM as f32).sqrt(), 0.0));
    let [q, k, v, mask] = node.src[..] else { panic!() };
    assert_eq!(graph.tensor(q).ne, [HEAD_DIM, N_HEAD, 3, 1]);
    let (k, v) = (graph.tensor(k), graph.tensor(v));
    assert_eq!((k.ne, k.dtype), ([HEAD_DIM, 256, N_HEAD_KV, 1], DType::F16));
    assert_eq!((v.ne, v.dtype), ([HEAD_DIM, 256, N_HEAD_KV, 1], DType::Q8_0));
    // A cell holds all heads of a token: 64 F16, or 2 blocks of Q8_0.
    assert_eq!(k.nb, [2, 128, 64, 128]);
    assert_eq!(v.nb, [34, 68, 34, 68]);
    assert_eq!(graph.tensor(mask).ne, [256, 3, 1, 1]);
    assert_eq!(graph.tensor(mask).dtype, DType::F16);
    assert_eq!(input(&graph, InputKind::CacheRows), Some([3, 1, 1, 1]));
    assert_eq!(input(&graph, InputKind::CacheRowsWindow), None);
    assert_eq!(input(&graph, InputKind::MaskWindow), None);
}

#[test]
fn cache_tensors_in_the_graph_are_those_of_the_cache() {
    for arch in Arch::ALL {
        let model = blueprint(arch);
        let shape = shape(3, 3);
        let cache = model.cache_tensors(&shape.cache);
        assert_eq!(cache.len(), 2 * N_LAYER);
        assert_eq!((cache[0].name.as_str(), cache[3].name.as_str()), ("cache_k_l0", "cache_v_l1"));
        let graph = model.build(&shape).unwrap();
        let mut seen = 0;
        for tensor in graph.tensors.iter().filter(|t| t.view.is_none()) {
            if let Role::Cache(id) = tensor.role {
                let own = &cache[id.0 as usize];
                assert_eq!((tensor.ne, tensor.dtype), (own.ne, own.dtype), "{arch}");
                assert_eq!(tensor.bytes(), own.bytes);
                seen += 1;
            }
        }
        assert_eq!(seen, cache.len(), "{arch}");
    }
}

#[test]
fn layers_with_a_window_have_a_mask_and_a_cache_of_their_own() {
    let model = blueprint(Arch::Gemma3);
    let cache = model.cache_tensors(&shape(3, 3).cache);
    assert_eq!(cache.iter().map(|t| t.ne[1]).collect::<Vec<_>>(), [256, 256, 512, 512]);
    assert_eq!(cache.iter().map(|t| t.window).collect::<Vec<_>>(), [true, true, false, false]);
    let graph = model.build(&shape(3, 3)).unwrap();
    assert_eq!(input(&graph, InputKind::Mask), Some([256, 3, 1, 1]));
    assert_eq!(input(&graph, InputKind::MaskWindow), Some([128, 3, 1, 1]));
    let mask_of = |wanted| {
        let mask = graph.tensor(find(&graph, wanted).src[3]);
        mask.role
    };
    assert_eq!(mask_of("kqv_out-0"), Role::Input(InputKind::MaskWindow));
    assert_eq!(mask_of("kqv_out-1"), Role::Input(InputKind::Mask));
    let scale = find(&graph, "inp_scaled").op;
    assert_eq!(scale, Op::Scale { factor: 8.0 });
}

#[test]
fn heads_are_normed_before_they_turn() {
    for arch in [Arch::Qwen3, Arch::Qwen3Moe, Arch::Gemma3] {
        let graph = blueprint(arch).build(&shape(3, 3)).unwrap();
        let rope = find(&graph, "Qcur-0");
        assert!(matches!(rope.op, Op::Rope(_)));
        let normed = graph.tensor(rope.src[0]);
        assert_eq!(normed.name.to_string(), "Qcur_normed-0");
        assert_eq!(normed.ne, [HEAD_DIM, N_HEAD, 3, 1]);
        assert_eq!(ne(&graph, "Kcur_normed-0"), [HEAD_DIM, N_HEAD_KV, 3, 1]);
    }
}

#[test]
fn the_parts_of_fused_matrices_lie_side_by_side() {
    let graph = blueprint(Arch::Phi3).build(&shape(3, 3)).unwrap();
    let q = graph.tensor(find(&graph, "Qcur-0").src[0]);
    let k = graph.tensor(find(&graph, "Kcur-0").src[0]);
    let v = graph.tensor(find(&graph, "cache_v_l-0").src[0]);
    let offsets = [q, k, v].map(|t| t.view.unwrap().offset);
    assert_eq!(offsets, [0, 4 * N_HEAD * HEAD_DIM, 4 * (N_HEAD + N_HEAD_KV) * HEAD_DIM]);
    let row = 4 * (N_HEAD + 2 * N_HEAD_KV) * HEAD_DIM;
    assert_eq!((q.nb[2], k.nb[2], v.nb[1]), (row, row, row));
    let Op::Rope(p) = find(&graph, "Qcur-0").op else { panic!() };
    assert_eq!((p.n_dims, p.attn_factor), (24, 1.19));
    // The gate comes first.
    let glu = find(&graph, "ffn_swiglu-0");
    let [gate, up] = [0, 1].map(|i| graph.tensor(glu.src[i]).view.unwrap().offset);
    assert_eq!((gate, up), (0, 4 * N_FF));
}

#[test]
fn experts_are_chosen_weighted_and_summed() {
    let graph = blueprint(Arch::Qwen3Moe).build(&shape(3, 3)).unwrap();
    assert_eq!(ne(&graph, "ffn_moe_topk-0"), [N_EXPERT_USED, 3, 1, 1]);
    assert_eq!(ne(&graph, "ffn_moe_gate-0"), [N_FF_EXPERT, N_EXPERT_USED, 3, 1]);
    assert_eq!(ne(&graph, "ffn_moe_down-0"), [N_EMBD, N_EXPERT_USED, 3, 1]);
    assert_eq!(ne(&graph, "ffn_moe_out-0"), [N_EMBD, 3, 1, 1]);
    assert_eq!(find(&graph, "ffn_moe_weights-0").op, Op::ExpertWeights { normalise: true });
    let mut tiny = Tiny::new(Arch::Qwen3Moe);
    tiny.set("expert_weights_scale", 2.5f32);
    let graph = tiny.bind().unwrap().build(&shape(3, 3)).unwrap();
    assert_eq!(find(&graph, "ffn_moe_weights_scaled-1").op, Op::Scale { factor: 2.5 });
}

#[test]
fn long_contexts_take_the_long_table() {
    let mut tiny = Tiny::new(Arch::Phi3);
    tiny.add("rope_factors_long.weight", DType::F32, &[12]).add(
        "rope_factors_short.weight",
        DType::F32,
        &[12],
    );
    let model = tiny.bind().unwrap();
    let table = |rope_ctx| {
        let graph = model.build(&GraphShape { rope_ctx, ..shape(1, 1) }).unwrap();
        let factors = graph.tensor(find(&graph, "Kcur-1").src[2]);
        let Role::Weight(id) = factors.role else { panic!() };
        let info = &model.weights()[id.0 as usize];
        assert_eq!(info.kind, WeightKind::Rope);
        info.name.clone()
    };
    // The model was trained with 1024 tokens.
    assert_eq!(table(1024), "rope_factors_short.weight");
    assert_eq!(table(1025), "rope_factors_long.weight");
}

#[test]
fn biases_are_added_where_the_file_has_them() {
    let mut tiny = Tiny::new(Arch::Llama);
    tiny.add("blk.1.attn_output.bias", DType::F32, &[N_EMBD])
        .add("blk.0.ffn_gate.bias", DType::F32, &[N_FF])
        .add("output.bias", DType::F32, &[N_VOCAB]);
    let model = tiny.bind().unwrap();
    assert_eq!(model.notes(), [] as [&str; 0]);
    let graph = model.build(&shape(3, 2)).unwrap();
    let plain = blueprint(Arch::Llama).build(&shape(3, 2)).unwrap();
    assert_eq!(graph.nodes.len(), plain.nodes.len() + 3);
    assert_eq!(find(&graph, "ffn_gate_b-0").op, Op::Add);
    assert_eq!(find(&graph, "result_output").op, Op::Add);
    assert_eq!(graph.tensor(graph.outputs[0]).ne, [N_VOCAB, 2, 1, 1]);
}

#[test]
fn where_only_the_likeliest_are_wanted_logits_are_no_output() {
    let model = blueprint(Arch::Llama);
    let graph = |k| model.build(&GraphShape { wanted: Wanted::Top(k), ..shape(3, 2) }).unwrap();
    let outputs = |graph: &Graph| -> Vec<_> {
        let told = graph.outputs.iter().map(|&id| graph.tensor(id));
        told.map(|t| (t.name.to_string(), t.dtype, t.ne)).collect()
    };
    let tokens = |k| ("result_top_k".to_string(), DType::I32, [k, 2, 1, 1]);
    assert_eq!(outputs(&graph(1)), [tokens(1)]);
    let logits = ("result_top_logits".to_string(), DType::F32, [5, 2, 1, 1]);
    assert_eq!(outputs(&graph(5)), [tokens(5), logits]);
    let nothing = GraphShape { wanted: Wanted::Top(5), ..shape(3, 0) };
    assert!(model.build(&nothing).unwrap().outputs.is_empty());
}

#[test]
fn shapes_that_contradict_themselves_are_errors() {
    let model = blueprint(Arch::Gemma3);
    let error = |bend: &dyn Fn(&mut GraphShape)| {
        let mut shape = shape(3, 1);
        bend(&mut shape);
        model.build(&shape).unwrap_err().to_string()
    };
    assert!(error(&|s| s.n_tokens = 0).contains("1 outputs of 0 tokens"));
    assert!(error(&|s| s.n_outputs = 4).contains("4 outputs of 3 tokens"));
    assert!(error(&|s| s.n_kv = 513).contains("cannot look at 513 of 512 cells"));
    assert!(error(&|s| s.n_kv_window = 0).contains("window cannot look at 0 of 256"));
    assert!(error(&|s| s.cache.type_k = DType::Q4_K).contains("cannot be stored as Q4_K"));
    // Models without windows do not care about their cells.
    let mut shape = shape(3, 1);
    (shape.n_kv_window, shape.cache.n_cells_window) = (0, 0);
    blueprint(Arch::Llama).build(&shape).unwrap();
}
