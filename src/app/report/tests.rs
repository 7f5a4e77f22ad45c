//! Arithmetic of the accumulator from events made by hand, and what a report looks like.

use std::sync::Arc;

use crate::base::event::{
    DeviceFact, DeviceIndex, Event, InputFact, LoadStage, NodeFact, OutputFact, PlanFact, Span,
    SpanKind, SplitFact, SyncKind, Track, Warning,
};
use crate::base::sink::Sink;

use super::*;

const GPU: DeviceIndex = DeviceIndex(0);
const CPU: DeviceIndex = DeviceIndex(1);
const MIB: u64 = 1 << 20;

fn span(kind: SpanKind, start_us: u64, end_us: u64, bytes: u64, tokens: u32) -> Event {
    let (start_ns, end_ns) = (start_us * 1000, end_us * 1000);
    Event::Span(Span { track: Track::Host, kind, start_ns, end_ns, bytes, tokens })
}

fn device(index: DeviceIndex, name: &str, is_virtual: bool) -> Event {
    Event::Device(DeviceFact {
        index,
        name: name.to_string(),
        description: format!("the {name}"),
        is_virtual,
        memory_bytes_total: 1 << 30,
        memory_bytes_free: 1 << 29,
    })
}

fn node(name: &str, op: &str, cause: &str) -> NodeFact {
    NodeFact {
        name: name.to_string(),
        op: op.to_string(),
        tag: "1.wgt0".to_string(),
        cause: cause.to_string(),
        ne: [64, 1, 1, 1],
        weight_bytes: MIB,
    }
}

/// Split 0 on the CPU, split 1 on the device with one copy.
fn plan(id: u32, n_tokens: u32) -> Event {
    let embedding = node("inp_embd", "GET_ROWS", "token_embd.weight is on CPU");
    let first = node("Qcur-0", "MUL_MAT", "blk.0.attn_q.weight is on Virtual0");
    let second = node("result_output", "MUL_MAT", "output.weight is on Virtual0");
    Event::Plan(Arc::new(PlanFact {
        id,
        n_tokens,
        n_nodes: 3,
        splits: vec![
            SplitFact {
                device: CPU,
                nodes: vec![embedding],
                cause: "the graph begins: inp_embd (GET_ROWS) token_embd.weight is on CPU".into(),
                inputs: vec![],
            },
            SplitFact {
                device: GPU,
                nodes: vec![first, second],
                cause: "Qcur-0 (MUL_MAT) blk.0.attn_q.weight is on Virtual0".to_string(),
                inputs: vec![InputFact {
                    tensor: "inp_embd".to_string(),
                    from: CPU,
                    bytes: 256 * u64::from(n_tokens),
                    cause: "computed on CPU, needed on Virtual0".to_string(),
                }],
            },
        ],
        outputs: vec![OutputFact { tensor: "result_output".to_string(), from: GPU }],
    }))
}

/// A ubatch of 100 µs from `at`: 2 inputs, 30 + 50 computing, 3 waiting, 10 copying, 5 logits.
fn ubatch(n: u64, plan: u32, at: u64, tokens: u32, prompt: bool) -> Vec<Event> {
    let wait = |split, sync| SpanKind::Wait { ubatch: n, split, sync };
    let compute = |split| SpanKind::Compute { ubatch: n, split };
    let copy = SpanKind::Copy { ubatch: n, split: 1, input: 0, from: CPU, to: GPU, blocking: true };
    let whole = SpanKind::Ubatch { ubatch: n, plan, capacity: 4, sequences: 1, prompt };
    vec![
        span(wait(0, SyncKind::None), at + 2, at + 3, 0, tokens),
        span(compute(0), at + 3, at + 33, 0, tokens),
        span(wait(1, SyncKind::BlockingCopy), at + 33, at + 35, 0, tokens),
        span(copy, at + 35, at + 45, 256 * u64::from(tokens), tokens),
        span(compute(1), at + 45, at + 95, 0, tokens),
        span(SpanKind::Output { ubatch: n, output: 0, from: GPU }, at + 96, at + 99, 512, tokens),
        span(whole, at, at + 100, 0, tokens),
    ]
}

/// A prompt of 4 + 2 tokens and three decoded ones; a decode step takes 120 µs of which 8 are not
/// covered by any span.
fn session() -> Vec<Event> {
    let mut events = vec![device(GPU, "Virtual0", true), device(CPU, "CPU", false)];
    events.push(span(SpanKind::Load { stage: LoadStage::Header }, 0, 10, 0, 0));
    events.push(span(SpanKind::Load { stage: LoadStage::Weights }, 10, 40, 7 * MIB, 0));
    events.push(span(SpanKind::Load { stage: LoadStage::ReadAhead }, 12, 62, 7 * MIB, 0));
    events.push(span(SpanKind::Tokenise, 50, 55, 20, 6));
    events.push(span(SpanKind::GraphBuild, 970, 995, 0, 4));
    let text = "3 threads for 2 processors".to_string();
    events.push(Event::Warning(Warning { at_ns: 960_000, text }));
    events.push(plan(0, 4));
    events.extend(ubatch(0, 0, 1000, 4, true));
    events.push(plan(1, 2));
    events.extend(ubatch(1, 1, 1100, 2, true));
    events.push(span(SpanKind::Sampling, 1203, 1210, 0, 1));
    events.push(span(SpanKind::Detokenise, 1210, 1215, 0, 1));
    events.push(plan(2, 1));
    for i in 0..3 {
        let at = 1220 + 120 * i;
        events.extend(ubatch(2 + i, 2, at, 1, false));
        events.push(span(SpanKind::Sampling, at + 105, at + 115, 0, 1));
        events.push(span(SpanKind::Detokenise, at + 115, at + 117, 0, 1));
    }
    events
}

fn accumulate(events: Vec<Event>) -> Accumulator {
    let sums = Accumulator::new();
    for event in events {
        sums.record(event);
    }
    sums
}

fn layer(layer: &str, device: &str, cause: &str) -> LayerPlacement {
    let text = |t: &str| t.to_string();
    let (weight_bytes, kv, experts) = (0, None, None);
    let (layer, device, cause) = (text(layer), text(device), text(cause));
    LayerPlacement { layer, device, cause, weight_bytes, kv, experts }
}

fn facts() -> SetupFact {
    let device = |name: &str, is_virtual, layers| DeviceFacts {
        name: name.to_string(),
        description: format!("the {name}"),
        is_virtual,
        memory_bytes_total: 1 << 30,
        memory_bytes_free: 1 << 29,
        layers,
    };
    let memory = |name: &str, weight_bytes| DeviceMemory {
        device: name.to_string(),
        weight_bytes,
        kv_bytes: MIB,
        compute_bytes: MIB / 2,
        scratch_bytes: 0,
        needed_bytes: weight_bytes + MIB + MIB / 2,
        free_bytes: 1 << 29,
        total_bytes: 1 << 30,
    };
    let reach = "-ngl 2 does not reach layer 1 of 4";
    let among = "layer 2 is among the last 2 of 4 that are offloaded";
    SetupFact {
        model: ModelFacts {
            name: "tiny".to_string(),
            file: "/models/tiny.gguf".to_string(),
            architecture: "llama".to_string(),
            file_type: "Q4_K_M".to_string(),
            parameters: 12_345_678,
            weight_bytes: 7 * MIB,
            bits_per_weight: 4.756,
            layers: 3,
            notes: vec!["tensor \"extra\" is not used".to_string()],
            ..ModelFacts::default()
        },
        devices: vec![device("Virtual0", true, 2), device("CPU", false, 2)],
        placement: PlacementFacts {
            embedding: None,
            layers_asked: None,
            layers_offloaded: 2,
            layers_total: 4,
            limit: None,
            layers: vec![
                layer("0", "CPU", "-ngl 2 does not reach layer 0 of 4"),
                layer("1", "CPU", reach),
                layer("2", "Virtual0", among),
                layer("output", "Virtual0", "the output is among the last 2 of 4"),
            ],
            exceptions: vec![WeightPlacement {
                weight: "token_embd.weight".to_string(),
                count: 1,
                device: "CPU".to_string(),
                cause: "input weights stay on the CPU, as in llama.cpp".to_string(),
            }],
        },
        memory: MemoryFacts {
            devices: vec![memory("Virtual0", 3 * MIB), memory("CPU", 4 * MIB)],
            output_bytes: 4096,
            predicted_bytes: 10 * MIB + 4096,
            rss_before_bytes: Some(2 * MIB),
            peak_rss_bytes: Some(11 * MIB),
        },
        context: ContextFacts {
            n_ctx: 512,
            n_batch: 512,
            n_ubatch: 4,
            n_seq_max: 1,
            type_k: "F16".to_string(),
            type_v: "F16".to_string(),
        },
        graph: GraphFacts { nodes: 3, splits_prompt: 2, splits_decode: 2 },
        threads: "2 (physical cores)".to_string(),
        isa: "AVX2+FMA+F16C".to_string(),
        weight_layout: "mapped from the file, in its layout, not repacked".to_string(),
        gpus: "none was asked for".to_string(),
        processors_allowed: 2,
        processor_use: Some(ProcessorUse { others_share: 0.25, ..ProcessorUse::default() }),
    }
}

fn report() -> Report {
    let output = Output {
        id: 0,
        text: "a ``` fence".to_string(),
        tokens_prompt: 6,
        tokens_generated: 3,
        finish: Finish::Length,
        first_token_ns: 210_000,
        total_ns: 600_000,
    };
    let token_ns = vec![vec![210_000, 330_000, 451_000]];
    let totals = Totals { output: vec![output], token_ns };
    let mut report = build(&accumulate(session()), facts(), totals);
    report.source.engine_version = "0.0.0".to_string();
    report
}

#[test]
fn steps_reach_from_ubatch_to_ubatch_and_their_parts_add_up() {
    let t = report().timings;
    let d = t.decode;
    assert_eq!((d.tokens, d.ubatches, d.total_ns), (3, 3, 357_000));
    let p = d.parts;
    assert_eq!((p.inputs_ns, p.wait_ns, p.copy_ns), (6_000, 9_000, 30_000));
    assert_eq!((p.compute_ns, p.logits_ns, p.graph_ns), (240_000, 15_000, 0));
    assert_eq!((p.sampling_ns, p.detokenise_ns), (30_000, 6_000));
    // 5 µs of each step before sampling, and 3 between the first steps.
    assert_eq!(p.unaccounted_ns, 21_000);
    assert!((d.accounted_share - 336.0 / 357.0).abs() < 1e-12);
    assert_eq!(d.token_ns, 119_000.0);
    let each = d.per_token;
    let sum = each.graph_ns + each.inputs_ns + each.splits_ns + each.logits_ns + each.sampling_ns;
    let sum = sum + each.detokenise_ns + each.unaccounted_ns;
    assert!((sum - d.token_ns).abs() < 1e-6);
}

#[test]
fn the_prompt_has_its_graph_and_the_first_token() {
    let t = report().timings;
    let p = t.prompt;
    // From building the graph at 970 to the first decode step at 1220.
    assert_eq!((p.tokens, p.ubatches, p.total_ns), (6, 2, 250_000));
    assert_eq!(p.occupancy, 0.75);
    assert_eq!(
        (p.parts.graph_ns, p.parts.sampling_ns, p.parts.detokenise_ns),
        (25_000, 7_000, 5_000)
    );
    assert_eq!((t.load.header_ns, t.load.weights_ns, t.load.total_ns), (10_000, 30_000, 40_000));
    assert_eq!((t.load.weight_bytes, t.tokenise_ns), (7 * MIB, 5_000));
    assert_eq!((t.load.read_ahead_ns, t.load.read_ahead_bytes), (50_000, 7 * MIB));
    // From opening the file at 0 to the first token at 1210, with two ubatches of 100 µs.
    let f = t.first_token;
    assert_eq!((f.total_ns, f.beyond_prompt_ns), (1_210_000, 1_010_000));
    assert_eq!((f.graph_ns, f.prompt_ns, f.sample_ns), (25_000, 200_000, 7_000));
    let parts = [f.open_ns, f.tokenizer_ns, f.weights_ns, f.reserve_ns, f.tokenise_ns, f.graph_ns];
    let sum: u64 = parts.iter().sum();
    assert_eq!(sum + f.prompt_ns + f.sample_ns + f.unaccounted_ns, f.total_ns);
    assert_eq!((t.first_token_ns, t.inter_token_median_ns), (210_000.0, 120_500.0));
}

#[test]
fn plans_that_cut_alike_are_one_cut() {
    let splits = report().splits;
    let places: Vec<_> = splits.iter().map(|s| (s.phase, s.cut, s.index)).collect();
    let (d, p) = (Phase::Decode, Phase::Prompt);
    assert_eq!(places, [(d, 0, 0), (d, 0, 1), (p, 0, 0), (p, 0, 1)]);
    let prompt = &splits[3];
    assert_eq!((prompt.count, prompt.copy_bytes, prompt.compute_ns), (2, 256 * 6, 100_000));
    assert_eq!((prompt.inputs[0].copies, prompt.inputs[0].bytes), (2, 768));
    let decode = &splits[1];
    assert_eq!(decode.per_token.compute_ns, 50_000.0);
    assert_eq!(decode.per_token.copy_bytes, 256.0);
    assert_eq!(decode.sync, [SyncCount { sync: SyncKind::BlockingCopy, count: 3 }]);
    assert_eq!((decode.device.as_str(), decode.is_virtual), ("Virtual0", true));
    assert_eq!(decode.ops, [OpCount { op: "MUL_MAT".to_string(), count: 2 }]);
}

#[test]
fn what_the_host_reads_is_told_beside_the_splits() {
    let reads = report().reads;
    let sums: Vec<_> = reads.iter().map(|r| (r.phase, r.copies, r.copy_bytes, r.copy_ns)).collect();
    assert_eq!(sums, [(Phase::Decode, 3, 1536, 9_000), (Phase::Prompt, 2, 1024, 6_000)]);
    assert_eq!((reads[0].tensor.as_str(), reads[0].from.as_str()), ("result_output", "Virtual0"));
    assert_eq!(reads[0].copy_bytes_per_token, 512.0);
}

#[test]
fn splits_of_another_cut_are_kept_apart() {
    let mut events = session();
    let Event::Plan(fact) = plan(3, 1) else { unreachable!() };
    let mut other = (*fact).clone();
    other.splits[1].inputs[0].tensor = "something else".to_string();
    events.push(Event::Plan(Arc::new(other)));
    events.extend(ubatch(9, 3, 5000, 1, false));
    let report = build(&accumulate(events), facts(), Totals::default());
    let cuts: Vec<u32> =
        report.splits.iter().filter(|s| s.phase == Phase::Decode).map(|s| s.cut).collect();
    assert_eq!(cuts, [0, 0, 1, 1]);
    let counts: Vec<u64> = report.splits.iter().map(|s| s.count).take(4).collect();
    assert_eq!(counts, [3, 3, 1, 1], "the cut with more time comes first");
}

#[test]
fn nodes_are_told_only_where_they_were_timed() {
    assert_eq!(report().splits[1].node_list[0].compute_ns, None);
    let mut events = session();
    let last = events.len() - 1;
    let kind = SpanKind::Node { ubatch: 4, split: 1, node: 1 };
    events.insert(last - 3, span(kind, 1510, 1530, 0, 1));
    let report = build(&accumulate(events), facts(), Totals::default());
    assert!(report.timings.per_node);
    assert_eq!(report.splits[1].node_list[1].compute_ns, Some(20_000));
}

#[test]
fn spans_of_a_ubatch_that_failed_are_not_counted() {
    let mut events = session();
    events.push(span(SpanKind::Compute { ubatch: 77, split: 0 }, 4000, 4900, 0, 1));
    events.extend(ubatch(78, 2, 5000, 1, false));
    let report = build(&accumulate(events), facts(), Totals::default());
    assert_eq!(report.splits[0].compute_ns, 4 * 30_000);
}

#[test]
fn nothing_yields_an_empty_report() {
    let report = build(&Accumulator::new(), facts(), Totals::default());
    assert!(report.splits.is_empty());
    assert_eq!(report.timings, Timings::default());
    assert!(text(&report, Style::Plain).contains("loaded in 0 ns"));
}

#[test]
fn the_document_reads_back() {
    let report = report();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["schema"], "gpuwhy.report/1");
    assert_eq!(json["source"]["kind"], "run");
    assert_eq!(json["verdict"], "unknown");
    assert_eq!(json["splits"][1]["phase"], "decode");
    assert_eq!(json["facts"]["devices"][0]["virtual"], true);
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}

#[test]
fn text_says_everything_without_colour() {
    let plain = text(&report(), Style::Plain);
    assert!(!plain.contains('\x1b'));
    let coloured = text(&report(), Style::Colour);
    let stripped = coloured.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "");
    assert_eq!(stripped, plain);
    insta::assert_snapshot!("text", plain);
}

#[test]
fn markdown_is_fit_for_an_issue() {
    insta::assert_snapshot!("markdown", markdown(&report()));
}

#[test]
fn stalls_and_computing_add_up_to_the_time_of_a_phase() {
    let report = build(&accumulate(session()), facts(), Totals::default());
    let decode = |device: &str| {
        let mut of = report.stalls.iter();
        of.find(|s| s.phase == Phase::Decode && s.device == device).unwrap()
    };
    let gpu = decode("Virtual0");
    let told: Vec<(StallKind, Option<&str>, Option<&str>, u64)> = gpu
        .on
        .iter()
        .map(|c| (c.on, c.device.as_deref(), c.tensor.as_deref(), c.ns / 3000))
        .collect();
    assert_eq!(
        told,
        [
            (StallKind::Device, Some("CPU"), None, 31),
            (StallKind::Host, None, None, 23),
            (StallKind::Copy, Some("CPU"), Some("inp_embd"), 10),
            (StallKind::Read, Some("Virtual0"), Some("result_output"), 3),
            (StallKind::Wait, None, None, 2),
        ]
    );
    assert_eq!(gpu.on[4].sync, Some(SyncKind::BlockingCopy));
    assert_eq!(gpu.compute_ns, 150_000);
    for stall in &report.stalls {
        let on: u64 = stall.on.iter().map(|c| c.ns).sum();
        assert_eq!((stall.stall_ns, stall.compute_ns), (on, stall.total_ns - on));
        assert_eq!(stall.stall_share, on as f64 / stall.total_ns as f64);
    }
    assert_eq!(report.stalls.len(), 4, "both devices, both phases");
}

#[test]
fn devices_that_compute_at_once_do_not_wait_for_each_other_then() {
    let events: Vec<Event> = session()
        .into_iter()
        .map(|event| match event {
            // The device's split begins 20 µs earlier, while the CPU's still runs.
            Event::Span(mut s) if matches!(s.kind, SpanKind::Compute { split: 1, .. }) => {
                s.start_ns -= 20_000;
                Event::Span(s)
            }
            other => other,
        })
        .collect();
    let report = build(&accumulate(events), facts(), Totals::default());
    let stall = report.stalls.iter().find(|s| s.phase == Phase::Decode && s.device == "Virtual0");
    let stall = stall.unwrap();
    let on = |kind| stall.on.iter().filter(|c| c.on == kind).map(|c| c.ns / 3000).sum::<u64>();
    assert_eq!(stall.compute_ns / 3000, 70);
    // Of the CPU's 30 µs, 8 fall into the device's own; the copy lies in them altogether.
    assert_eq!((on(StallKind::Device), on(StallKind::Copy), on(StallKind::Wait)), (23, 0, 0));
}
