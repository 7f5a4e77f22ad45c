//! What each panel must say of the scripted session, in figures that follow from the script's
//! constants.

use crate::app::tui::tests::script::{
    COMPUTE_US, COPY_US, LAYER_BYTES, Script, V0, V1, WAIT_US, fold, hidden_bytes, whole,
};
use crate::base::counter::{Counter, Subject};
use crate::base::event::{Event, Phase, Step};
use crate::base::units::{Bytes, BytesPerSecond, Nanos};

use super::*;

const SMALL: (u16, u16) = (60, 12);
const LARGE: (u16, u16) = (200, 56);

/// Host work of a step that is not in the ubatch's own span, and what the ubatch does beside its
/// splits: inputs and the read of the result.
const HOST_US: u64 = 500;
const AROUND_US: u64 = 20 + 200;

fn stage() -> Stage {
    Stage::new(fold(&whole().events))
}

fn ubatch_us() -> u64 {
    COMPUTE_US.iter().sum::<u64>() + 4 * (COPY_US + WAIT_US) + AROUND_US
}

fn us(us: u64) -> String {
    Nanos(us as f64 * 1e3).to_string()
}

/// Wall time of thirty decoded tokens.
fn decode_us() -> u64 {
    30 * (ubatch_us() + HOST_US)
}

fn share_of_decode(us: u64) -> String {
    super::super::kit::percent(us as f64 / decode_us() as f64)
}

#[test]
fn layers_stand_over_their_devices_with_their_share_of_the_time() {
    let stage = stage();
    for size in [SMALL, LARGE] {
        let text = stage.shown(&Layers, size);
        has(
            &text,
            &["decode 7 of 9 layers offloaded", "estimated", "CCCCCCCCC000000000111111111111"],
        );
        // Split 0 runs layers 0 and 1, which have as many bytes.
        has(&text, &[&share_of_decode(30 * COMPUTE_US[0] / 2), &Bytes(LAYER_BYTES).to_string()]);
        // Three layers with their cache and the compute buffer; what kernels use beside it lies on the host.
        let needed = 3 * (LAYER_BYTES + (2 << 20)) + (30 << 20);
        let of = format!("{} of {}", Bytes(needed), Bytes(160 << 20));
        has(&text, &["Virtual0", &of]);
    }
    let text = stage.shown(&Layers, LARGE);
    // Layer 6 has its cache elsewhere.
    has(&text, &["2.00 MiB CPU", "Virtual0 is full: 152 of 160 MiB", "token embeddings stay in"]);
    let mut prompt = PanelState::default();
    assert!(stage.with(|cx| Layers.key(cx, &mut prompt, crossterm::event::KeyCode::Char('p'))));
    has(&stage.draw(&Layers, &mut prompt, SMALL), &["prompt 7 of 9"]);
}

#[test]
fn what_a_finding_rests_on_is_marked_in_every_panel() {
    let row = |text: &str, part: &str| {
        let line = text.lines().find(|l| l.contains(part)).map(str::to_string);
        line.unwrap_or_else(|| panic!("no '{part}' in\n{text}"))
    };
    let layer = stage().on(Place::Layer("5".to_string()));
    let text = layer.shown(&Layers, LARGE);
    let marked: Vec<&str> = text.lines().filter(|l| l.starts_with('◆')).collect();
    assert_eq!((marked.len(), marked[0].starts_with("◆5 ")), (1, true), "{text}");
    let split = stage().on(Place::Split { phase: Phase::Decode, index: 3 });
    assert!(row(&split.shown(&Splits, LARGE), "FLASH_ATTN_EXT").starts_with('◆'));
    assert!(row(&split.shown(&Transfers, LARGE), "l_out-5").starts_with('◆'));
    let device = stage().on(Place::Device(V1));
    assert!(row(&device.shown(&Timeline, LARGE), "Virtual1").starts_with('◆'));
    assert!(row(&device.shown(&Devices, LARGE), "Virtual1").contains('◆'));
    let power = stage().on(Place::Counter(Subject::Gpu(0), Counter::Power));
    assert!(row(&power.shown(&Devices, LARGE), "198 W").contains('◆'));
}

#[test]
fn splits_tell_wait_copy_compute_and_why_the_graph_was_cut() {
    let stage = stage();
    let text = stage.shown(&Splits, SMALL);
    has(&text, &["decode 5 splits, times per token"]);
    for us_each in COMPUTE_US {
        has(&text, &[&us(us_each)]);
    }
    has(&text, &[&us(COPY_US), &us(WAIT_US), "Virtual1"]);
    let text = stage.shown(&Splits, LARGE);
    has(&text, &["no other device supports FLASH_ATTN_EXT with keys of Q4_0"]);
    let busy = 30 * (COMPUTE_US[3] + COPY_US + WAIT_US);
    has(&text, &[&share_of_decode(busy), &Bytes(hidden_bytes(1)).to_string()]);
    // Prompts are told as a whole, and a quarter slower for each token more.
    let mut prompt = PanelState { mode: 1, ..PanelState::default() };
    let text = stage.draw(&Splits, &mut prompt, LARGE);
    has(&text, &["prompt 5 splits, times in all", &us(COMPUTE_US[0] * (1 + 96 / 4))]);
    has(&text, &[&Bytes(hidden_bytes(96)).to_string()]);
}

#[test]
fn an_opened_split_shows_its_nodes_and_what_was_copied_for_them() {
    let stage = stage();
    let mut open = PanelState { is_open: true, selected: 1, ..PanelState::default() };
    assert_eq!(stage.with(|cx| Splits.rows(cx, &open)), 15);
    let text = stage.draw(&Splits, &mut open, LARGE);
    has(&text, &["#1 Virtual0", "cut here: layer 2 is on Virtual0", "copies l_out-1 from CPU"]);
    has(&text, &["CPU has it, Virtual0 needs it", "nodes were not timed one by one"]);
    has(&text, &["Qcur-2", "MUL_MAT", "1.wgt0", "896 x 1", "4.00 MiB"]);
    has(&text, &["reads blk.3.attn_q.weight, which is on Virtual0"]);
    let text = stage.draw(&Splits, &mut open, SMALL);
    has(&text, &["#1 Virtual0", "attn_norm-2", "RMS_NORM"]);
}

#[test]
fn the_search_leaves_rows_that_have_it() {
    let mut stage = stage();
    stage.search = "flash_attn".to_string();
    let rows = |panel: &dyn Panel| stage.with(|cx| panel.rows(cx, &PanelState::default()));
    // All splits have attention, no layer names it.
    assert_eq!((rows(&Splits), rows(&Layers)), (5, 0));
    has(&stage.shown(&Layers, SMALL), &["No layer has what is looked for."]);
    stage.search = "q4_0".to_string();
    assert_eq!(stage.with(|cx| Splits.rows(cx, &PanelState::default())), 1);
    has(&stage.shown(&Splits, SMALL), &["1 of 5 splits", ">  3"]);
    stage.search = "l_out-5".to_string();
    assert_eq!(stage.with(|cx| Transfers.rows(cx, &PanelState::default())), 2);
}

#[test]
fn the_timeline_shows_who_computes_and_who_stalls() {
    let stage = stage();
    // One ubatch over the whole width: 1/4 of four, each cell about 160 µs.
    let mut state = PanelState { mode: 2 << 1, ..PanelState::default() };
    let text = stage.draw(&Timeline, &mut state, (100, 20));
    has(&text, &["ubatch 30 decode, 1 token", &us(ubatch_us()), "following", "computes", "stalls"]);
    let lane = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.chars().skip(10).collect::<Vec<char>>()
    };
    let (cells, window_us) = (90, (ubatch_us() + HOST_US) as f64);
    let at = |us: u64| (us as f64 / window_us * f64::from(cells)) as usize;
    let (v0, cpu) = (lane("Virtual0"), lane("CPU"));
    // Split 0 is the CPU's: it computes, and the device stalls.
    let middle = at(20 + COMPUTE_US[0] / 2);
    assert_eq!((v0[middle], cpu[middle]), ('·', '█'), "{text}");
    // Then the copy, at the end of which split 1 begins.
    let copied = at(20 + COMPUTE_US[0] + WAIT_US + COPY_US / 2);
    assert_eq!(v0[copied], '▒', "{text}");
    let middle = at(20 + COMPUTE_US[0] + WAIT_US + COPY_US + COMPUTE_US[1] / 2);
    assert_eq!(v0[middle], '█', "{text}");
    // The CPU drives the others: no stall.
    assert_eq!(cpu.get(middle).copied().unwrap_or(' '), ' ', "{text}");
    has(&text, &["split 1: 15 nodes", "cut here: layer 2 is on Virtual0"]);
    let narrow = stage.shown(&Timeline, SMALL);
    has(&narrow, &["ubatch 30", "host", "Virtual0", "CPU", "█", "computes"]);
}

#[test]
fn a_held_ubatch_stays_while_new_ones_come() {
    use crossterm::event::KeyCode;
    let mut script = whole();
    let stage = Stage::new(fold(&script.events));
    let mut state = PanelState::default();
    has(&stage.draw(&Timeline, &mut state, SMALL), &["ubatch 30 "]);
    stage.with(|cx| Timeline.key(cx, &mut state, KeyCode::Left));
    has(&stage.draw(&Timeline, &mut state, SMALL), &["ubatch 29 ", "held"]);
    // Rows move up once more come than are kept.
    (0..50).for_each(|_| script.ubatch(1));
    let later = Stage::new(fold(&script.events));
    has(&later.draw(&Timeline, &mut state, SMALL), &["ubatch 29 ", "held"]);
    // Moving the selection by any other way holds too.
    state.selected += 1;
    has(&later.draw(&Timeline, &mut state, SMALL), &["ubatch 30 ", "held"]);
    later.with(|cx| Timeline.key(cx, &mut state, KeyCode::Char('f')));
    has(&later.draw(&Timeline, &mut state, SMALL), &["ubatch 80 ", "following"]);
}

#[test]
fn the_batch_panel_tells_occupancy_speed_and_times() {
    let stage = stage();
    for size in [SMALL, LARGE] {
        let text = stage.shown(&Batch, size);
        // 96 of 512 tokens.
        has(&text, &["prompt", "18.8 % full", "96.0 of 512 tokens", "1.0 of 512 tokens"]);
        let each_s = (ubatch_us() + HOST_US) as f64 / 1e6;
        has(&text, &["0 of 1 busy", &format!("decode {:.2} tokens/s", 1.0 / each_s)]);
        has(&text, &[&format!("median {}", us(ubatch_us() + HOST_US))]);
        has(&text, &["length", "30"]);
    }
    let text = stage.shown(&Batch, LARGE);
    // 29 times between tokens, all of them between 10 and 20 ms.
    has(&text, &["time between tokens, and how often", "20.00 ms", " 29", "word29"]);
}

#[test]
fn running_requests_show_their_text_and_speed() {
    let mut script = Script::loaded();
    script.request(Step::Queued { prompt_tokens: 7 });
    let queued = Stage::new(fold(&script.events));
    has(&queued.shown(&Batch, SMALL), &["queued", "0 of 1 busy; 1 queued"]);
    script.request(Step::Started { slot: 0 });
    for word in ["one", " two\n", " three"] {
        script.ubatch(1);
        script.request(Step::Token);
        script.request(Step::Text(word.into()));
    }
    let text = Stage::new(fold(&script.events)).shown(&Batch, SMALL);
    let per_second = 1e6 / (ubatch_us() + HOST_US) as f64;
    has(&text, &["1 of 1 busy", "decoding", "…wo  three", &format!("{per_second:.2}")]);
}

#[test]
fn transfers_tell_rates_limits_and_reasons() {
    let stage = stage();
    for size in [SMALL, LARGE] {
        let text = stage.shown(&Transfers, size);
        has(&text, &["CPU      Virtual0", "Virtual1 CPU", "waits", "l_out-1"]);
    }
    let text = stage.shown(&Transfers, LARGE);
    has(&text, &["unknown: a virtual device", "Virtual1 has it, CPU needs it"]);
    let in_copies = BytesPerSecond(hidden_bytes(1) as f64 * 1e6 / COPY_US as f64).to_string();
    // 300 µs of each step.
    let part = COPY_US as f64 / (ubatch_us() + HOST_US) as f64;
    has(&text, &[&in_copies, &super::super::kit::percent(part), "the host reads the result"]);
    // Of thirty each: the copies to split 1 go on, those to split 2 block.
    has(&text, &["0 of 30", "30 of 30"]);
}

#[test]
fn a_gpu_with_counters_has_a_limit() {
    let mut script = whole();
    script.events.iter_mut().for_each(|event| {
        if let Event::Device(device) = event
            && device.index == V0
        {
            device.is_virtual = false;
            device.name = "CUDA0".to_string();
            device.description = "NVIDIA GeForce RTX 3090".to_string();
        }
    });
    let text = Stage::new(fold(&script.events)).shown(&Transfers, LARGE);
    // Generation 4 carries 16 GT/s in each of 8 lanes, 128 of 130 bits of it.
    let limit = BytesPerSecond(8.0 * 16e9 * 128.0 / 130.0 / 8.0).to_string();
    has(&text, &["CPU      CUDA0", &format!("{limit} (PCIe 4 x 8)")]);
    let text = Stage::new(fold(&script.events)).shown(&Devices, LARGE);
    has(&text, &["GPU 0  NVIDIA GeForce RTX 3090  CUDA0", &format!("carries {limit}")]);
}

#[test]
fn devices_tell_counters_limits_and_what_holds_clocks() {
    let stage = stage();
    let text = stage.shown(&Devices, LARGE);
    has(&text, &["GPU 0  NVIDIA GeForce RTX 3090", "31.0 %", "18.00 GiB of 24.00 GiB", "75.0 %"]);
    has(&text, &["1.20 GHz of 2.10 GHz", "198 W of 200 W", "81 °C", "held by     power limit"]);
    has(&text, &["generation 4 x 8 lanes of at most 4 x 16", "2.00 GiB gpuwhy (4711)"]);
    has(&text, &["no ecc_corrected_errors: this GPU does not count memory errors"]);
    has(
        &text,
        &["no counters: a virtual device computes on the CPU", "71.0 %", "2 cores", "2.00 CPUs"],
    );
    has(&text, &["9.00 GiB available", "gpuwhy (4711)", "1.40", "700.00 MiB resident"]);
    has(&text, &["cost of observing", "400.0 µs of CPU time each reading"]);
    // Three readings after the first, each with one more period.
    has(&text, &["held in 3 periods"]);
    let mut state = PanelState::default();
    let text = stage.draw(&Devices, &mut state, SMALL);
    has(&text, &["GPU 0", "31.0 %", "held by     power limit"]);
    // The last line can be reached.
    state.selected = usize::MAX;
    has(&stage.draw(&Devices, &mut state, SMALL), &["cost of observing"]);
}
