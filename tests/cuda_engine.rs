//! The whole engine on CUDA devices, through an emulated driver library: every architecture gives the
//! logits that the CPU's engine gives, cut as expected, and every failure is a readable error.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "figures for a failing run")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use gpuwhy::base::event::{Event, PlanFact, SpanKind, SyncKind};
use gpuwhy::base::sink::{NullSink, Sink};
use gpuwhy::engine::backend::DeviceSpec;
use gpuwhy::engine::gguf::Gguf;
use gpuwhy::engine::runtime::{BatchToken, Engine, GpuLayers, RuntimeError, RuntimeOptions, SeqId};
use gpuwhy::engine::sched::placement::{SplitMode, parse_overrides};

use support::cuda::{emulated, emulated_program, in_child, said};
use support::parity::{Case, cases, check_top, engine, engine_with, error, run, run_top};

/// Largest relative error of a position's logits against the CPU's engine, with F32 weights and an
/// F32 cache: prompts' products and attention go through tensor cores, which take 16 bits.
const TOLERANCE: f32 = 2e-2;

/// Two devices, in case a test names only one.
const TWO: [(&str, &str); 1] = [("CUDA_EMULATOR_DEVICES", "2")];

fn on(list: &str, layers: usize) -> impl FnOnce(&mut RuntimeOptions) + '_ {
    move |o| {
        o.devices = DeviceSpec::parse_list(list).unwrap();
        o.gpu_layers = GpuLayers::Count(layers);
    }
}

/// Keeps what an engine tells.
#[derive(Default)]
struct Keep(Mutex<Vec<Event>>);

impl Sink for Keep {
    fn record(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Keep {
    fn plans(&self) -> Vec<Arc<PlanFact>> {
        let events = self.0.lock().unwrap();
        let plans = events.iter().filter_map(|e| match e {
            Event::Plan(plan) => Some(Arc::clone(plan)),
            _ => None,
        });
        plans.collect()
    }

    fn warnings(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let warnings = events.iter().filter_map(|e| match e {
            Event::Warning(warning) => Some(warning.text.clone()),
            _ => None,
        });
        warnings.collect()
    }
}

/// Runs every architecture as `change` says and compares with the CPU's engine.
fn agrees(splits: Option<usize>, change: impl Fn(&mut RuntimeOptions)) {
    for case in cases() {
        let reference = run(&mut engine(&case, |_| {}), &case, case.n_prompt);
        let mut engine = engine(&case, &change);
        if let Some(splits) = splits {
            assert_eq!(engine.setup().summary.splits_decode, splits, "{}", case.name);
        }
        let e = error(&run(&mut engine, &case, case.n_prompt), &reference, case.n_vocab);
        println!("{}: {e:.1e}", case.name);
        assert!(e < TOLERANCE, "{}: {e}", case.name);
    }
}

#[test]
fn every_architecture_agrees_on_one_device() {
    emulated("every_architecture_agrees_on_one_device", &[], || {
        agrees(Some(2), |o| on("CUDA0", 999)(o));
    });
}

#[test]
fn every_architecture_agrees_on_two_devices() {
    emulated("every_architecture_agrees_on_two_devices", &TWO, || {
        agrees(Some(3), |o| on("CUDA0,CUDA1", 999)(o));
    });
}

fn by_rows(change: impl FnOnce(&mut RuntimeOptions)) -> impl FnOnce(&mut RuntimeOptions) {
    move |o| {
        on("CUDA0,CUDA1", 999)(o);
        o.placement.split_mode = SplitMode::Row;
        change(o);
    }
}

#[test]
fn every_architecture_agrees_spread_by_rows() {
    emulated("every_architecture_agrees_spread_by_rows", &TWO, || {
        agrees(None, |o| by_rows(|_| {})(o));
    });
}

#[test]
fn rows_are_gathered_on_the_main_device_through_the_host_where_there_is_no_other_way() {
    let settings = [("CUDA_EMULATOR_DEVICES", "2"), ("CUDA_EMULATOR_PEERS", "0")];
    let name = "rows_are_gathered_on_the_main_device_through_the_host_where_there_is_no_other_way";
    emulated(name, &settings, || {
        let change = by_rows(|o| {
            (o.placement.tensor_split, o.placement.main_gpu) = (vec![1.0, 1.0], 1);
        });
        let (case, keep) = (one_case(), Arc::new(Keep::default()));
        let reference = run(&mut engine(&case, |_| {}), &case, case.n_prompt);
        let sink: Arc<dyn Sink> = keep.clone();
        let mut engine = engine_with(&case, &sink, change);
        let e = error(&run(&mut engine, &case, case.n_prompt), &reference, case.n_vocab);
        assert!(e < TOLERANCE, "{e}");
        let warnings = keep.warnings();
        assert!(warnings.iter().any(|w| w.contains("cannot reach each other's memory")));
        // The other device has nothing but its rows, and sends their products.
        let budget = &engine.setup().budget.devices;
        assert_eq!(budget[0].kv_bytes, 0);
        assert!(budget[0].weight_bytes > 0);
        let total: u64 = budget[..2].iter().map(|d| d.weight_bytes).sum();
        let one_device = {
            let one = support::parity::engine(&case, on("CUDA0", 999));
            one.setup().budget.devices[0].weight_bytes
        };
        assert_eq!(total, one_device, "every row is on one device");
        let plan = keep.plans().into_iter().find(|p| p.n_tokens == 1).unwrap();
        let of_first = plan.splits.iter().filter(|s| s.device.0 == 0);
        assert!(of_first.flat_map(|s| &s.nodes).all(|n| n.op == "MUL_MAT"));
        let gathers = plan.splits.iter().filter(|s| s.nodes[0].op == "CONCAT");
        let mut n = 0;
        for split in gathers {
            assert_eq!(split.device.0, 1);
            assert!(split.cause.contains("-sm row"), "{}", split.cause);
            assert!(split.inputs.iter().any(|i| i.from.0 == 0));
            n += 1;
        }
        // Query, key and value; attention's output; gate and up; down; and the output's at the end.
        assert_eq!(n, 4 * engine.model().hparams().n_layer + 1);
    });
}

#[test]
fn every_architecture_agrees_half_offloaded() {
    emulated("every_architecture_agrees_half_offloaded", &[], || {
        agrees(None, |o| on("CUDA0", 2)(o));
    });
}

#[test]
fn every_architecture_agrees_with_the_cache_on_the_host() {
    emulated("every_architecture_agrees_with_the_cache_on_the_host", &[], || {
        agrees(None, |o| {
            on("CUDA0", 999)(o);
            o.placement.kv_on_host = true;
        });
    });
}

#[test]
fn the_largest_logits_are_found_on_the_device() {
    emulated("the_largest_logits_are_found_on_the_device", &TWO, || {
        // All layers on two devices, and the output alone on one.
        for (list, layers) in [("CUDA0,CUDA1", 999), ("CUDA0", 1)] {
            let case = one_case();
            // The same engine, so that the logits are the same to the last bit.
            let mut engine = engine(&case, on(list, layers));
            let logits = run(&mut engine, &case, case.n_prompt);
            for k in [1, 5] {
                engine.truncate(SeqId(0), 0);
                let top = run_top(&mut engine, &case, case.n_prompt, k);
                assert_eq!(top.k, k);
                check_top(&top, &logits, case.n_vocab);
            }
        }
    });
}

fn one_case() -> Case {
    case_named("llama")
}

fn case_named(name: &str) -> Case {
    cases().into_iter().find(|c| c.name == name).unwrap()
}

/// The plans of a run, and its events.
fn told(change: impl FnOnce(&mut RuntimeOptions)) -> Arc<Keep> {
    let (case, keep) = (one_case(), Arc::new(Keep::default()));
    let sink: Arc<dyn Sink> = keep.clone();
    let mut engine = engine_with(&case, &sink, change);
    run(&mut engine, &case, case.n_prompt);
    keep
}

#[test]
fn one_split_is_the_cpus_until_the_embedding_moves() {
    emulated("one_split_is_the_cpus_until_the_embedding_moves", &[], || {
        let plans = told(on("CUDA0", 999)).plans();
        assert!(!plans.is_empty());
        for plan in plans {
            let devices: Vec<u8> = plan.splits.iter().map(|s| s.device.0).collect();
            assert_eq!(devices, [1, 0], "the CPU is device 1");
            let nodes = &plan.splits[0].nodes;
            assert!(nodes.iter().all(|n| n.op == "GET_ROWS"), "{nodes:?}");
            let cause = &nodes[0].cause;
            assert!(cause.contains("token_embd.weight"), "{cause}");
        }
        let moved = told(|o| {
            on("CUDA0", 999)(o);
            o.placement.overrides = parse_overrides("token_embd.weight=CUDA0").unwrap();
        });
        for plan in moved.plans() {
            assert_eq!(plan.splits.len(), 1);
            assert_eq!(plan.splits[0].device.0, 0);
            let cause = &plan.splits[0].nodes[0].cause;
            assert!(cause.contains("-ot token_embd.weight=CUDA0"), "{cause}");
        }
    });
}

#[test]
fn spans_come_from_the_device_and_lie_in_their_ubatch() {
    emulated("spans_come_from_the_device_and_lie_in_their_ubatch", &TWO, || {
        let keep = told(on("CUDA0,CUDA1", 999));
        let events = keep.0.lock().unwrap();
        let spans: Vec<_> = events
            .iter()
            .filter_map(|e| match e {
                Event::Span(span) => Some(span),
                _ => None,
            })
            .collect();
        let mut queued = 0;
        for whole in spans.iter().filter(|s| matches!(s.kind, SpanKind::Ubatch { .. })) {
            let SpanKind::Ubatch { ubatch: number, .. } = whole.kind else { continue };
            let (mut computed, mut last) = (0, 0);
            for span in &spans {
                let (SpanKind::Wait { ubatch: of, .. }
                | SpanKind::Copy { ubatch: of, .. }
                | SpanKind::Compute { ubatch: of, .. }) = span.kind
                else {
                    continue;
                };
                if of != number {
                    continue;
                }
                assert!(span.start_ns >= whole.start_ns && span.end_ns <= whole.end_ns);
                match span.kind {
                    SpanKind::Compute { .. } => {
                        assert!(span.end_ns > span.start_ns, "the device took no time");
                        assert!(span.start_ns >= last, "splits of one chain overlap");
                        (computed, last) = (computed + 1, span.end_ns);
                    }
                    SpanKind::Copy { blocking, .. } => {
                        assert!(!blocking, "no copy here needs the host to wait");
                        queued += 1;
                    }
                    SpanKind::Wait { sync, split, .. } => {
                        let expected = if split == 0 { SyncKind::None } else { SyncKind::Event };
                        assert_eq!(sync, expected);
                    }
                    _ => {}
                }
            }
            assert_eq!(computed, 3);
        }
        assert!(queued > 0);
    });
}

/// The calls and kernels of a model's run in the test `name`, one a line.
fn traced(settings: &[(&str, &str)], name: &str, model: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let trace = path.to_str().unwrap();
    let settings: Vec<_> =
        settings.iter().copied().chain([("CUDA_EMULATOR_TRACE", trace)]).collect();
    emulated(name, &settings, || {
        let case = case_named(model);
        let reference = run(&mut engine(&case, |_| {}), &case, 4);
        let mut engine = engine(&case, on("CUDA0", 999));
        let e = error(&run(&mut engine, &case, 4), &reference, case.n_vocab);
        assert!(e < TOLERANCE, "{e}");
    });
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn decode_runs_as_a_graph_once_its_shape_has_come_back() {
    if support::cuda::emulator().is_none() {
        return;
    }
    let name = "decode_runs_as_a_graph_once_its_shape_has_come_back";
    let with = traced(&[], name, "llama");
    let without = traced(&[("GPUWHY_NO_CUDA_GRAPHS", "1")], name, "llama");
    // In the child there is nothing to look at.
    if with.is_empty() {
        return;
    }
    let count = |text: &str, call: &str| text.lines().filter(|l| *l == call).count();
    assert!(count(&with, "cuGraphLaunch") > 5);
    assert_eq!(count(&without, "cuGraphLaunch"), 0);
    assert!(count(&with, "cuLaunchKernel") < count(&without, "cuLaunchKernel") / 2);
}

/// Checks the kernels of a token's layers and those after them, on a device whose launches may overlap.
fn decode_takes(test: &str, model: &str, layer: &[&str], head: &[&str]) {
    if support::cuda::emulator().is_none() {
        return;
    }
    let trace = traced(&[("CUDA_EMULATOR_CAPABILITY", "9.0")], test, model);
    // In the child there is nothing to look at.
    if trace.is_empty() {
        return;
    }
    let lines: Vec<&str> = trace.lines().collect();
    let last_token = lines.iter().rposition(|l| *l == "cuGraphLaunch").unwrap();
    let ran = &lines[last_token..];
    let is_kernel = |l: &&str| !l.starts_with("cu") && !l.contains(' ');
    let kernels: Vec<&str> = ran.iter().copied().filter(is_kernel).collect();
    let (layers, after) = kernels.split_at(kernels.len() - head.len());
    assert_eq!(after, head);
    assert!(layers.len() >= 2 * layer.len());
    for (i, of_layer) in layers.chunks(layer.len()).enumerate() {
        // Nothing is added up before the first layer's norm.
        let of_layer: Vec<&str> = of_layer.to_vec();
        let from = usize::from(i == 0);
        assert_eq!(of_layer[from..], layer[from..]);
    }
    // All but the first may begin before the one before them has ended.
    let early = ran.iter().filter(|l| l.starts_with("early ")).count();
    assert_eq!(early, kernels.len() - 1);
}

/// The launches that docs/measurements/cuda.md counts with.
#[test]
fn a_layer_of_decode_takes_eight_launches() {
    let layer = [
        "rms_norm_f32",
        "mul_mat_vec_f32", // query, key and value
        "rope_set_rows_f32",
        "flash_attn_any",
        "mul_mat_vec_f32", // with the residual
        "rms_norm_f32",
        "mul_mat_vec_glu_f32",
        "mul_mat_vec_f32", // with the residual
    ];
    let head = ["rms_norm_f32", "mul_mat_vec_f32"];
    decode_takes("a_layer_of_decode_takes_eight_launches", "llama", &layer, &head);
}

#[test]
fn a_layer_of_experts_takes_fourteen_launches() {
    let layer = [
        "add_rms_norm_f32",
        "mul_mat_vec_f32", // query, key and value
        "rms_norm_f32",    // of the queries' heads
        "rope_f32",
        "rms_norm_f32", // of the keys' heads
        "rope_set_rows_f32",
        "flash_attn_any",
        "mul_mat_vec_f32", // with the residual
        "rms_norm_f32",
        "mul_mat_vec_f32", // the router's
        "router_f32",
        "mul_mat_vec_glu_f32",
        "mul_mat_vec_f32",
        "expert_sum_f32",
    ];
    let head = ["add_rms_norm_f32", "mul_mat_vec_f32"];
    decode_takes("a_layer_of_experts_takes_fourteen_launches", "qwen3moe", &layer, &head);
}

/// An engine that is expected not to load.
fn refused(change: impl FnOnce(&mut RuntimeOptions)) -> RuntimeError {
    let mut options = RuntimeOptions { n_ctx: 96, n_threads: 1, ..RuntimeOptions::default() };
    change(&mut options);
    let gguf = Arc::new(Gguf::open(&one_case().gguf).unwrap());
    let sink: Arc<dyn Sink> = Arc::new(NullSink);
    Engine::load(gguf, options, &sink, &mut |_| {}).err().expect("it should not load")
}

#[test]
fn what_does_not_fit_is_told_with_the_budget() {
    let settings = [("CUDA_EMULATOR_MEMORY", "150000")];
    emulated("what_does_not_fit_is_told_with_the_budget", &settings, || {
        let e = refused(on("CUDA0", 999));
        assert!(matches!(e, RuntimeError::DoesNotFit { .. }), "{e}");
        let text = e.to_string();
        for part in ["CUDA0: the model", "short", "device", "KV cache", "CPU"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(e.hint().unwrap().contains("-ngl"), "{:?}", e.hint());
    });
}

#[test]
fn auto_offloads_what_fits_and_says_what_did_not() {
    let settings = [("CUDA_EMULATOR_MEMORY", "540000")];
    emulated("auto_offloads_what_fits_and_says_what_did_not", &settings, || {
        let case = one_case();
        let mut engine = engine(&case, |o| {
            o.devices = vec![DeviceSpec::Auto];
            o.op_offload = false;
        });
        let layers = engine.setup().fit.gpu_layers;
        assert!(layers > 0 && layers < 5, "{layers}");
        let limit = engine.setup().fit.limit.clone().unwrap();
        assert!(limit.contains(&format!("-ngl {} does not fit", layers + 1)), "{limit}");
        run(&mut engine, &case, case.n_prompt);
    });
}

#[test]
fn auto_leaves_a_device_idle_that_is_too_small_for_anything() {
    let settings = [("CUDA_EMULATOR_MEMORY", "100000")];
    emulated("auto_leaves_a_device_idle_that_is_too_small_for_anything", &settings, || {
        let case = one_case();
        let mut engine = engine(&case, |o| o.devices = vec![DeviceSpec::Auto]);
        assert_eq!((engine.setup().fit.gpu_layers, engine.options().op_offload), (0, false));
        let limit = engine.setup().fit.limit.clone().unwrap();
        assert!(limit.contains("op offload does not fit: CUDA0: the model"), "{limit}");
        let logits = run(&mut engine, &case, case.n_prompt);
        assert!(error(&logits, &case.logits, case.n_vocab) < TOLERANCE);
    });
}

#[test]
fn auto_tries_fewer_layers_when_memory_is_short_after_all() {
    // The first allocation fails although the memory seemed to be free.
    let settings = [("CUDA_EMULATOR_FAIL", "cuMemAlloc_v2:2@1")];
    emulated("auto_tries_fewer_layers_when_memory_is_short_after_all", &settings, || {
        let (case, keep) = (one_case(), Arc::new(Keep::default()));
        let sink: Arc<dyn Sink> = keep.clone();
        let mut engine = engine_with(&case, &sink, |o| o.devices = vec![DeviceSpec::Auto]);
        let all = engine.model().hparams().n_layer + 1;
        assert_eq!(engine.setup().fit.gpu_layers, all - 1);
        let limit = engine.setup().fit.limit.clone().unwrap();
        assert!(limit.contains("did not fit after all"), "{limit}");
        assert!(keep.warnings().iter().any(|w| w.contains("trying fewer layers")));
        run(&mut engine, &case, case.n_prompt);
    });
}

#[test]
fn what_auto_finds_to_fit_does_fit_however_tight() {
    // From too little for a layer to enough for all, two steps a layer.
    let capacities: Vec<usize> = (0..14).map(|i| 8_000_000 + 453_777 * i).collect();
    let memory: Vec<String> = capacities.iter().map(usize::to_string).collect();
    let (devices, memory) = (capacities.len().to_string(), memory.join(","));
    let settings = [("CUDA_EMULATOR_DEVICES", &*devices), ("CUDA_EMULATOR_MEMORY", &*memory)];
    emulated("what_auto_finds_to_fit_does_fit_however_tight", &settings, || {
        // Quantised, so that products need scratch memory.
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/builtin/builtin.gguf");
        let gguf = Arc::new(Gguf::open(&file).unwrap());
        let (mut fitted, mut without) = (Vec::new(), 0);
        for i in 0..capacities.len() {
            let keep = Arc::new(Keep::default());
            let sink: Arc<dyn Sink> = keep.clone();
            let options = RuntimeOptions {
                n_ctx: 1024,
                // More scratch than what is left free for the driver.
                n_ubatch: 1024,
                n_threads: 1,
                devices: DeviceSpec::parse_list(&format!("CUDA{i}")).unwrap(),
                op_offload: false,
                ..RuntimeOptions::default()
            };
            let engine = Engine::load(Arc::clone(&gguf), options, &sink, &mut |_| {}).unwrap();
            // A second try would be told as a warning.
            assert_eq!(keep.warnings(), [] as [&str; 0], "{} bytes", capacities[i]);
            let (need, device) = (&engine.setup().budget.devices[0], &engine.devices()[0]);
            let memory = device.memory();
            let held = memory.total_bytes - memory.free_bytes;
            let predicted = need.weight_bytes + need.kv_bytes + need.compute_bytes;
            without += usize::from(need.scratch_bytes == 0);
            let most = predicted + need.scratch_bytes + 64 * 100;
            assert!(held >= predicted + need.scratch_bytes && held <= most, "{held}, {need:?}");
            fitted.push(engine.setup().fit.gpu_layers);
        }
        assert!(fitted.is_sorted() && fitted[0] < 2 && fitted[13] == 7, "{fitted:?}");
        // The output alone needs none for one token.
        assert_eq!(without, fitted.iter().filter(|&&n| n < 2).count(), "{fitted:?}");
    });
}

#[test]
fn memory_that_is_short_after_all_is_an_error_where_layers_were_named() {
    let settings = [("CUDA_EMULATOR_FAIL", "cuMemAlloc_v2:2@2")];
    emulated(
        "memory_that_is_short_after_all_is_an_error_where_layers_were_named",
        &settings,
        || {
            let e = refused(on("CUDA0", 999));
            assert!(matches!(e, RuntimeError::DoesNotFit { .. }), "{e}");
            assert!(e.to_string().contains("CUDA0: the KV cache needs"), "{e}");
        },
    );
}

#[test]
fn a_kernel_that_fails_is_a_readable_error() {
    let settings = [("CUDA_EMULATOR_FAIL", "kernel:700@20")];
    emulated("a_kernel_that_fails_is_a_readable_error", &settings, || {
        let case = one_case();
        let mut engine = engine(&case, on("CUDA0", 999));
        let token = |i: i32| BatchToken { token: 1, pos: i, seq: SeqId(0), logits: true };
        let failed = (0..50).find_map(|i| engine.decode(&[token(i)]).err()).unwrap();
        let text = failed.to_string();
        assert!(
            text.starts_with("CUDA0: ") && text.contains("CUDA_ERROR_ILLEGAL_ADDRESS"),
            "{text}"
        );
        assert!(failed.hint().unwrap().contains("gpuwhy selftest"));
        assert!(engine.decode(&[token(0)]).is_err(), "it cannot go on");
    });
}

#[test]
fn a_launch_that_is_refused_is_a_readable_error() {
    let settings = [("CUDA_EMULATOR_FAIL", "cuLaunchKernel:701@3")];
    emulated("a_launch_that_is_refused_is_a_readable_error", &settings, || {
        let case = one_case();
        let mut engine = engine(&case, on("CUDA0", 999));
        let token = BatchToken { token: 1, pos: 0, seq: SeqId(0), logits: true };
        let text = engine.decode(&[token]).unwrap_err().to_string();
        assert!(text.contains("CUDA0: starting kernels: cuLaunchKernel answered"), "{text}");
    });
}

#[test]
fn devices_that_cannot_reach_each_other_are_told() {
    let settings = [("CUDA_EMULATOR_DEVICES", "2"), ("CUDA_EMULATOR_PEERS", "0")];
    emulated("devices_that_cannot_reach_each_other_are_told", &settings, || {
        let keep = told(on("CUDA0,CUDA1", 999));
        let warnings = keep.warnings();
        let told = |w: &String| w.contains("CUDA0 and CUDA1 cannot reach each other's memory");
        assert!(warnings.iter().any(told), "{warnings:?}");
    });
}

#[test]
fn a_gpu_that_was_asked_for_and_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libcuda.so.1"), "damaged").unwrap();
    let name = "a_gpu_that_was_asked_for_and_is_not_there_is_an_error";
    in_child(name, folder.path(), &[], || {
        let e = refused(on("CUDA0", 999));
        assert!(e.to_string().starts_with("-dev: the NVIDIA driver cannot be used"), "{e}");
        assert!(e.hint().is_some());
        // Where none was asked for by name, the CPU computes, and a warning says why.
        let (case, keep) = (one_case(), Arc::new(Keep::default()));
        let sink: Arc<dyn Sink> = keep.clone();
        let engine = engine_with(&case, &sink, |o| o.devices = vec![DeviceSpec::Auto]);
        assert_eq!(engine.devices().len(), 1);
        assert!(engine.setup().gpus.starts_with("none: the NVIDIA driver cannot be used"));
        assert!(keep.warnings().iter().any(|w| w.contains("computing without a GPU")));
    });
}

fn program(command: &mut Command, arguments: &[&str]) -> (i32, String, String) {
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = said(&output);
    let out = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap_or(-1), out, text)
}

const RUN: [&str; 6] = ["run", "-n", "4", "--temp", "0", "-c"];

#[test]
fn the_program_uses_every_gpu_by_itself() {
    let Some(mut command) = emulated_program(&TWO) else { return };
    let arguments: Vec<&str> = RUN.iter().copied().chain(["64", "--format", "json"]).collect();
    let (code, out, all) = program(&mut command, &arguments);
    assert_eq!(code, 0, "{all}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let devices = report["facts"]["devices"].as_array().unwrap();
    let names: Vec<&str> = devices.iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["CUDA0", "CUDA1", "CPU"]);
    assert!(report["timings"]["load"]["kernels_ns"].as_u64().unwrap() > 0);
    // Layers lie on both, so each of them waits while the other computes.
    for (device, other) in [("CUDA0", "CUDA1"), ("CUDA1", "CUDA0")] {
        let stalls = report["stalls"].as_array().unwrap();
        let stall = stalls.iter().find(|s| s["device"] == device && s["phase"] == "decode");
        let stall = stall.unwrap_or_else(|| panic!("{device} is not told: {stalls:?}"));
        let on = stall["on"].as_array().unwrap();
        assert!(on.iter().any(|c| c["on"] == "device" && c["device"] == other), "{on:?}");
        assert!(on.iter().any(|c| c["on"] == "host"), "{on:?}");
        let ns = |v: &serde_json::Value| v.as_u64().unwrap();
        let told: u64 = on.iter().map(|c| ns(&c["ns"])).sum();
        assert_eq!(ns(&stall["compute_ns"]) + told, ns(&stall["total_ns"]));
    }
}

#[test]
fn greedy_decode_brings_tokens_to_the_host_and_no_logits() {
    let run = |devices: &str, more: &[&str]| {
        let mut command = emulated_program(&TWO)?;
        let common = ["64", "-dev", devices, "--format", "json"];
        let arguments: Vec<&str> = RUN.iter().chain(&common).chain(more).copied().collect();
        let (code, out, all) = program(&mut command, &arguments);
        assert_eq!(code, 0, "{all}");
        Some(serde_json::from_str::<serde_json::Value>(&out).unwrap())
    };
    let text = |report: &serde_json::Value| report["output"][0]["text"].to_string();
    let read = |report: &serde_json::Value| {
        let reads = report["reads"].as_array().unwrap().clone();
        let decode = reads.into_iter().filter(|r| r["phase"] == "decode");
        let told = |r: serde_json::Value| {
            let word = |key: &str| r[key].as_str().unwrap().to_string();
            (word("tensor"), word("from"), r["copy_bytes_per_token"].as_f64().unwrap())
        };
        decode.map(told).collect::<Vec<_>>()
    };
    for (devices, last) in [("CUDA0", "CUDA0"), ("CUDA0,CUDA1", "CUDA1")] {
        let Some(greedy) = run(devices, &[]) else { return };
        assert_eq!(read(&greedy), [("result_top_k".to_string(), last.to_string(), 4.0)]);
        if last == "CUDA0" {
            continue;
        }
        // A penalty too small to change the order of logits needs all of them.
        let penalty = ["--repeat-penalty", "1.0000001"];
        let Some(penalised) = run(devices, &penalty) else { return };
        let n_vocab = penalised["facts"]["model"]["vocabulary"].as_f64().unwrap();
        let logits = ("result_output".to_string(), last.to_string(), 4.0 * n_vocab);
        assert_eq!(read(&penalised), [logits]);
        assert_eq!(text(&greedy), text(&penalised));
    }
    // A draw among the 40 likeliest needs these and their logits.
    let Some(drawn) = run("CUDA0", &["--temp", "1"]) else { return };
    let bytes: Vec<f64> = read(&drawn).into_iter().map(|r| r.2).collect();
    assert_eq!(bytes, [160.0, 160.0]);
}

#[test]
fn the_selftest_finds_the_emulated_device_sound() {
    let Some(mut command) = emulated_program(&[]) else { return };
    let arguments = ["selftest", "-dev", "CUDA0", "--rounds", "1", "--small", "--format", "json"];
    let (code, out, all) = program(&mut command, &arguments);
    assert_eq!(code, 0, "{all}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["passed"], true);
    let device = &report["devices"][0];
    assert_eq!(device["unsupported"], 0, "{}", device["notes"]);
    assert_eq!(device["operations"].as_array().unwrap().len(), 16);
    assert!(device["measurements"]["memory_bytes_per_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_selftest_tells_a_device_that_fails() {
    let Some(mut command) = emulated_program(&[("CUDA_EMULATOR_FAIL", "kernel:719@30")]) else {
        return;
    };
    let (code, out, all) = program(&mut command, &["selftest", "-dev", "CUDA0", "--rounds", "1"]);
    assert_eq!(code, 1, "{all}");
    assert!(out.contains("CUDA0: NOT SOUND") && out.contains("CUDA_ERROR_LAUNCH_FAILED"), "{all}");
}
