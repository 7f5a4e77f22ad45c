//! A scripted session: two virtual devices and the CPU, splits with their causes, copies, waits and
//! stalls, counters, requests and log lines. Tests of all panels draw it.
//!
//! Times are made up and always the same; sums of what a test expects can be read off the constants.

use std::sync::Arc;

use crate::advise::diagnose::{Diagnosis, Facts, diagnose};
use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::{
    Absent, AbsentReason, DeviceFact, DeviceIndex, Event, Finish, InputFact, Line, LoadStage,
    NodeFact, OutputFact, PlanFact, RequestStep, Sample, Span, SpanKind, SplitFact, Step,
    SubjectFact, SyncKind, Track,
};
use crate::base::setup::{
    ContextFacts, DeviceFacts, DeviceMemory, GraphFacts, LayerPlacement, MemoryFacts, ModelFacts,
    PartPlacement, PlacementFacts, SetupFact, WeightPlacement,
};
use crate::observe::session::Session;

const MIB: u64 = 1 << 20;
const US: u64 = 1000;

/// First virtual device.
pub(in crate::app::tui) const V0: DeviceIndex = DeviceIndex(0);
/// Second virtual device.
pub(in crate::app::tui) const V1: DeviceIndex = DeviceIndex(1);
/// The CPU.
pub(in crate::app::tui) const CPU: DeviceIndex = DeviceIndex(2);

/// The splits: device, layers, what cut the graph there, what the split waits for.
const SPLITS: [(DeviceIndex, &[usize], &str, SyncKind); 5] = [
    (CPU, &[0, 1], "the graph begins", SyncKind::None),
    (V0, &[2, 3, 4], "layer 2 is on Virtual0", SyncKind::UserInput),
    (V1, &[5], "layer 5 is on Virtual1", SyncKind::BlockingCopy),
    (
        CPU,
        &[6],
        "no other device supports FLASH_ATTN_EXT with keys of Q4_0",
        SyncKind::BlockingCopy,
    ),
    (V1, &[6, 7], "layer 6 is on Virtual1", SyncKind::Event),
];

/// Where the layers are, the output last.
const LAYERS: [DeviceIndex; 9] = [CPU, CPU, V0, V0, V0, V1, V1, V1, V1];

/// Bytes of a layer's weights.
pub(in crate::app::tui) const LAYER_BYTES: u64 = 24 * MIB;

/// How long a split computes for one token, by split.
pub(in crate::app::tui) const COMPUTE_US: [u64; 5] = [4000, 3000, 1000, 2500, 2000];

/// How long a copy takes for one token.
pub(in crate::app::tui) const COPY_US: u64 = 300;

/// How long a split waits before its copy.
pub(in crate::app::tui) const WAIT_US: u64 = 100;

/// Sampling and text after an ubatch.
const HOST_US: u64 = 500;

/// Events as they are told, with a clock that goes on as they come.
#[derive(Clone, Debug, Default)]
pub(in crate::app::tui) struct Script {
    /// So far.
    pub events: Vec<Event>,
    /// Where the clock stands.
    pub now_ns: u64,
    ubatch: u64,
    energy_j: f64,
}

/// Everything: loading, a prompt, thirty tokens, counters and log lines.
pub(in crate::app::tui) fn whole() -> Script {
    let mut script = Script::loaded();
    script.log_lines();
    script.request(Step::Queued { prompt_tokens: 96 });
    script.request(Step::Started { slot: 0 });
    script.ubatch(96);
    for token in 0..30 {
        script.ubatch(1);
        script.request(Step::Token);
        script.request(Step::Text(format!(" word{token}")));
        if token % 10 == 0 {
            script.samples();
        }
    }
    script.request(Step::Ended { finish: Finish::Length, generated_tokens: 30 });
    script.samples();
    script
}

/// The session of events.
pub(in crate::app::tui) fn fold(events: &[Event]) -> Session {
    let mut session = Session::new();
    for event in events {
        session.take(event);
    }
    session.log.settle();
    session
}

/// What follows from a session.
pub(in crate::app::tui) fn diagnosis(session: &Session) -> Diagnosis {
    diagnose(&Facts::of_session(session))
}

impl Script {
    /// Devices, what subjects are, the setup and two plans; one request's worth of nothing yet.
    pub(crate) fn loaded() -> Self {
        let mut script = Self { now_ns: 1_000_000_000, ..Self::default() };
        for (index, facts) in devices().into_iter().enumerate() {
            script.events.push(Event::Device(DeviceFact {
                index: DeviceIndex(index as u8),
                name: facts.name,
                description: facts.description,
                is_virtual: facts.is_virtual,
                memory_bytes_total: facts.memory_bytes_total,
                memory_bytes_free: facts.memory_bytes_free,
            }));
        }
        script.subjects();
        script.host(SpanKind::Load { stage: LoadStage::Header }, 5_000);
        script.host(SpanKind::Load { stage: LoadStage::Weights }, 90_000);
        script.events.push(Event::Setup(Arc::new(setup())));
        for (id, n_tokens) in [(0, 96), (1, 1)] {
            script.events.push(Event::Plan(Arc::new(plan(id, n_tokens))));
        }
        script
    }

    /// A span of the host that takes some microseconds.
    pub(crate) fn host(&mut self, kind: SpanKind, us: u64) {
        self.span(Track::Host, kind, us, 0, 0);
    }

    fn span(&mut self, track: Track, kind: SpanKind, us: u64, bytes: u64, tokens: u32) {
        let start_ns = self.now_ns;
        self.now_ns += us * US;
        let end_ns = self.now_ns;
        self.events.push(Event::Span(Span { track, kind, start_ns, end_ns, bytes, tokens }));
    }

    /// An ubatch by the plan for so many tokens, with the host's work after it. Prompts take a quarter
    /// of a token's time for each further token.
    pub(crate) fn ubatch(&mut self, tokens: u32) {
        let (ubatch, start_ns) = (self.ubatch, self.now_ns);
        self.ubatch += 1;
        let slower = 1 + u64::from(tokens) / 4;
        self.now_ns += 20 * US;
        for (split, (device, _, _, sync)) in SPLITS.into_iter().enumerate() {
            let (track, split) = (Track::Device(device), split as u16);
            if split > 0 {
                self.span(track, SpanKind::Wait { ubatch, split, sync }, WAIT_US, 0, 0);
                let from = SPLITS[split as usize - 1].0;
                let blocking = sync == SyncKind::BlockingCopy;
                let kind = SpanKind::Copy { ubatch, split, input: 0, from, to: device, blocking };
                self.span(track, kind, COPY_US, hidden_bytes(tokens), 0);
            }
            let us = COMPUTE_US[split as usize] * slower;
            self.span(track, SpanKind::Compute { ubatch, split }, us, 0, 0);
        }
        let kind = SpanKind::Output { ubatch, output: 0, from: V1 };
        self.span(Track::Host, kind, 200, 4 * 151_936, 0);
        let (plan, capacity, prompt) = (u32::from(tokens == 1), 512, tokens > 1);
        let kind = SpanKind::Ubatch { ubatch, plan, capacity, sequences: 1, prompt };
        let end_ns = self.now_ns;
        let track = Track::Host;
        self.events.push(Event::Span(Span { track, kind, start_ns, end_ns, bytes: 0, tokens }));
        self.host(SpanKind::Sampling, HOST_US - 100);
        self.host(SpanKind::Detokenise, 100);
    }

    /// A step of request 1.
    pub(crate) fn request(&mut self, step: Step) {
        let at_ns = self.now_ns;
        self.events.push(Event::Request(RequestStep { at_ns, request: 1, step }));
    }

    /// A counter's value now.
    pub(crate) fn sample(&mut self, subject: Subject, counter: Counter, value: f64) {
        self.events.push(Event::Sample(Sample { at_ns: self.now_ns, subject, counter, value }));
    }

    /// A line of the log.
    pub(crate) fn line(&mut self, text: &str) {
        self.events.push(Event::Line(Line { at_ns: self.now_ns, text: text.to_string() }));
    }

    /// One reading of host, process and one GPU.
    pub(crate) fn samples(&mut self) {
        self.energy_j += 20.0;
        let (gpu, process) = (Subject::Gpu(0), Subject::Process(4711));
        let values = [
            (Subject::Host, Counter::CpuBusy, 0.71),
            (Subject::Host, Counter::MemoryAvailable, (9_u64 << 30) as f64),
            (Subject::Host, Counter::CgroupCpus, 2.0),
            (Subject::Host, Counter::CgroupThrottled, self.energy_j / 20.0),
            (Subject::Core(0), Counter::CpuBusy, 0.98),
            (Subject::Core(1), Counter::CpuBusy, 0.44),
            (process, Counter::CpuUsed, 1.4),
            (process, Counter::Resident, (700 * MIB) as f64),
            (Subject::Thread(4711), Counter::CpuUsed, 0.9),
            (Subject::Thread(4712), Counter::CpuUsed, 0.5),
            (gpu, Counter::GpuBusy, 0.31),
            (gpu, Counter::VramTotal, (24_u64 << 30) as f64),
            (gpu, Counter::VramUsed, (18_u64 << 30) as f64),
            (gpu, Counter::PcieGeneration, 4.0),
            (gpu, Counter::PcieGenerationMax, 4.0),
            (gpu, Counter::PcieWidth, 8.0),
            (gpu, Counter::PcieWidthMax, 16.0),
            (gpu, Counter::GpuClock, 1.2e9),
            (gpu, Counter::GpuClockMax, 2.1e9),
            (gpu, Counter::ThrottleReasons, 4.0),
            (gpu, Counter::Power, 198.0),
            (gpu, Counter::PowerLimit, 200.0),
            (gpu, Counter::Energy, self.energy_j),
            (gpu, Counter::Temperature, 81.0),
            (Subject::GpuProcess { gpu: 0, pid: 4711 }, Counter::VramUsed, (2_u64 << 30) as f64),
            (Subject::Observer(Source::Host), Counter::ReadingCost, 400_000.0),
        ];
        for (subject, counter, value) in values {
            self.sample(subject, counter, value);
        }
    }

    fn subjects(&mut self) {
        let names = [
            (Subject::Gpu(0), "NVIDIA GeForce RTX 3090"),
            (Subject::Process(4711), "gpuwhy"),
            (Subject::Thread(4711), "main"),
            (Subject::Thread(4712), "worker-1"),
        ];
        for (subject, name) in names {
            let fact = SubjectFact { subject, name: name.to_string(), details: Vec::new() };
            self.events.push(Event::Subject(Arc::new(fact)));
        }
        self.events.push(Event::Absent(Absent {
            at_ns: self.now_ns,
            source: Source::Nvml,
            subject: Some(Subject::Gpu(0)),
            counter: Some(Counter::EccCorrected),
            reason: AbsentReason::NotSupported,
            text: "this GPU does not count memory errors".to_string(),
            hint: String::new(),
        }));
    }

    /// What our own engine would log of this load, so that rules of logs have something to say.
    pub(crate) fn log_lines(&mut self) {
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        self.line("gpuwhy: loading model from scripted-8l.gguf");
        self.line("print_info: general.name          = Scripted 8L");
        self.line(
            "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA \
             runtime version",
        );
        self.line("gpuwhy: using device Virtual0 (models 160 MiB) - 160 MiB free");
        self.line("gpuwhy: using device Virtual1 (models 160 MiB) - 160 MiB free");
        for (number, device) in LAYERS.iter().enumerate() {
            let name = &devices()[device.0 as usize].name;
            self.line(&format!("load_tensors: layer {number:3} assigned to device {name}"));
        }
        self.line("load_tensors: offloaded 7/9 layers to GPU");
        for memory in &memory().devices {
            let (device, size) = (&memory.device, mib(memory.weight_bytes));
            self.line(&format!("load_tensors: {device:>10} model buffer size = {size:8.2} MiB"));
        }
        self.line("llama_context: n_ctx                 = 2048");
        self.line("sched_reserve: graph splits = 5");
    }
}

/// Bytes of the hidden state that travels.
pub(in crate::app::tui) fn hidden_bytes(tokens: u32) -> u64 {
    4 * 896 * u64::from(tokens)
}

fn devices() -> Vec<DeviceFacts> {
    let device = |name: &str, description: &str, total: u64, index: DeviceIndex| DeviceFacts {
        name: name.to_string(),
        description: description.to_string(),
        is_virtual: index != CPU,
        memory_bytes_total: total,
        memory_bytes_free: total,
        layers: LAYERS.iter().filter(|d| **d == index).count() as u64,
    };
    vec![
        device("Virtual0", "models 160 MiB behind 16 GB/s; computes on the CPU", 160 * MIB, V0),
        device("Virtual1", "models 160 MiB behind 16 GB/s; computes on the CPU", 160 * MIB, V1),
        device("CPU", "AVX2, 2 threads", 16 << 30, CPU),
    ]
}

fn name(device: DeviceIndex) -> String {
    devices()[device.0 as usize].name.clone()
}

fn memory() -> MemoryFacts {
    let of = |facts: DeviceFacts| {
        let weight_bytes = facts.layers * LAYER_BYTES;
        let (kv_bytes, compute_bytes, scratch_bytes) = (facts.layers * 2 * MIB, 30 * MIB, MIB);
        DeviceMemory {
            device: facts.name,
            weight_bytes,
            kv_bytes,
            compute_bytes,
            scratch_bytes,
            needed_bytes: weight_bytes + kv_bytes + compute_bytes + scratch_bytes,
            free_bytes: facts.memory_bytes_free,
            total_bytes: facts.memory_bytes_total,
        }
    };
    let devices: Vec<DeviceMemory> = devices().into_iter().map(of).collect();
    let predicted_bytes = devices.iter().map(|d| d.needed_bytes).sum();
    MemoryFacts { devices, output_bytes: MIB, predicted_bytes, ..MemoryFacts::default() }
}

/// How the engine has set up the scripted model.
pub(in crate::app::tui) fn setup() -> SetupFact {
    let layer = |(number, device): (usize, &DeviceIndex)| {
        let is_output = number + 1 == LAYERS.len();
        let kv_home = if number == 6 { CPU } else { *device };
        LayerPlacement {
            layer: if is_output { "output".to_string() } else { number.to_string() },
            device: name(*device),
            cause: match *device {
                CPU => "Virtual0 is full: 152 of 160 MiB".to_string(),
                _ => "-ngl 7: the last layers are offloaded".to_string(),
            },
            weight_bytes: LAYER_BYTES,
            kv: (!is_output).then(|| PartPlacement { device: name(kv_home), bytes: 2 * MIB }),
            experts: None,
        }
    };
    SetupFact {
        model: ModelFacts {
            name: "Scripted 8L".to_string(),
            file: "scripted-8l.gguf".to_string(),
            architecture: "qwen2".to_string(),
            file_type: "Q4_K_M".to_string(),
            parameters: 494_000_000,
            weight_bytes: 9 * LAYER_BYTES,
            bits_per_weight: 4.8,
            layers: 8,
            embedding: 896,
            vocabulary: 151_936,
            context_trained: 32_768,
            ..ModelFacts::default()
        },
        devices: devices(),
        placement: PlacementFacts {
            layers_asked: None,
            layers_offloaded: 7,
            layers_total: 9,
            limit: Some("Virtual0 has no room for one more layer".to_string()),
            embedding: Some(LayerPlacement {
                layer: "embedding".to_string(),
                device: name(CPU),
                cause: "token embeddings stay in host memory".to_string(),
                weight_bytes: 70 * MIB,
                kv: None,
                experts: None,
            }),
            layers: LAYERS.iter().enumerate().map(layer).collect(),
            exceptions: vec![WeightPlacement {
                weight: "blk.3.ffn_down.weight".to_string(),
                count: 2,
                device: name(CPU),
                cause: "-ot ffn_down=CPU".to_string(),
            }],
        },
        memory: memory(),
        context: ContextFacts {
            n_ctx: 2048,
            n_batch: 2048,
            n_ubatch: 512,
            n_seq_max: 1,
            type_k: "Q4_0".to_string(),
            type_v: "F16".to_string(),
        },
        graph: GraphFacts { nodes: 72, splits_prompt: 5, splits_decode: 5 },
        threads: "2 (both processors)".to_string(),
        isa: "AVX2".to_string(),
        weight_layout: String::new(),
        gpus: "no GPU was found".to_string(),
        processors_allowed: 2,
        processor_use: None,
    }
}

fn plan(id: u32, n_tokens: u32) -> PlanFact {
    let split = |(number, (device, layers, cause, _)): (usize, &(_, &[usize], &str, SyncKind))| {
        let nodes: Vec<NodeFact> =
            layers.iter().flat_map(|il| nodes(*il, *device, n_tokens)).collect();
        let from = number.checked_sub(1).map(|before| SPLITS[before].0);
        let input = from.map(|from| InputFact {
            tensor: format!("l_out-{}", layers[0].saturating_sub(1)),
            from,
            bytes: hidden_bytes(n_tokens),
            cause: format!("{} has it, {} needs it", name(from), name(*device)),
        });
        SplitFact {
            device: *device,
            nodes,
            cause: (*cause).to_string(),
            inputs: input.into_iter().collect(),
        }
    };
    let splits: Vec<SplitFact> = SPLITS.iter().enumerate().map(split).collect();
    PlanFact {
        id,
        n_tokens,
        n_nodes: splits.iter().map(|s| s.nodes.len() as u32).sum(),
        splits,
        outputs: vec![OutputFact { tensor: "result_output".to_string(), from: V1 }],
    }
}

fn nodes(il: usize, device: DeviceIndex, n_tokens: u32) -> Vec<NodeFact> {
    let node = |name: &str, op: &str, tag: &str, cause: String, weight_bytes: u64| NodeFact {
        name: format!("{name}-{il}"),
        op: op.to_string(),
        tag: tag.to_string(),
        cause,
        ne: [896, n_tokens as usize, 1, 1],
        weight_bytes,
    };
    let on = name(device);
    let reads = |weight: &str| format!("reads blk.{il}.{weight}.weight, which is on {on}");
    if (il, device) == (6, CPU) {
        let cause = "CPU supports it; Virtual1 was refused: keys of Q4_0".to_string();
        return vec![node("kqv_out", "FLASH_ATTN_EXT", "3.best", cause, 0)];
    }
    vec![
        node("attn_norm", "RMS_NORM", "2.sup", format!("follows Qcur-{il} on {on}"), 4096),
        node("Qcur", "MUL_MAT", "1.wgt0", reads("attn_q"), 4 * MIB),
        node("kqv_out", "FLASH_ATTN_EXT", "2.sup", format!("follows Qcur-{il} on {on}"), 0),
        node("ffn_out", "MUL_MAT", "1.wgt0", reads("ffn_down"), 12 * MIB),
        node("l_out", "ADD", "2.sup", format!("follows ffn_out-{il} on {on}"), 0),
    ]
}

#[test]
fn the_script_tells_a_whole_session() {
    let session = fold(&whole().events);
    assert_eq!((session.sums.devices.len(), session.recent.ubatches().len()), (3, 31));
    assert_eq!(session.requests.ended[0].request.tokens, 30);
    assert_eq!(session.sums.cuts.len(), 1);
    assert_eq!(session.log.told().loads.len(), 1);
    let computed: Vec<_> = session.sums.stalls.computed().map(|(_, d, _)| d).collect();
    assert!([V0, V1, CPU].iter().all(|d| computed.contains(d)), "{computed:?}");
}
