//! Whatever the size of the area, the session and the state: no panic, and nothing outside of it.

use std::sync::Arc;

use crossterm::event::KeyCode;
use proptest::prelude::*;

use crate::advise::diagnose::Place;
use crate::app::tui::tests::script::{fold, whole};
use crate::base::counter::{Counter, Source, Subject};
use crate::base::event::{
    Absent, AbsentReason, DeviceFact, DeviceIndex, Event, Finish, Phase, PlanFact, RequestStep,
    Sample, ServedModel, ServerFact, Span, SpanKind, SplitFact, Step, SyncKind, Track,
};

use super::*;

/// A span of any kind, for plans, splits and devices that mostly do not exist.
fn span() -> impl Strategy<Value = Event> {
    let numbers = (0..8_u64, 0..4_u16, 0..4_u16, 0..5_u8, any::<bool>(), 0..8_u8);
    let times = (prop_oneof![Just(0_u64), 0..1_u64 << 40, Just(1_u64 << 56)], 0..1_u64 << 34);
    (numbers, times, prop_oneof![Just(0_u64), any::<u64>()], 0..600_u32).prop_map(
        |((ubatch, split, other, device, flag, kind), (start_ns, long), bytes, tokens)| {
            let from = DeviceIndex(device);
            let kind = match kind {
                0 => SpanKind::Wait { ubatch, split, sync: SyncKind::Event },
                1 => {
                    let to = DeviceIndex(device / 2);
                    SpanKind::Copy { ubatch, split, input: other, from, to, blocking: flag }
                }
                2 => SpanKind::Output { ubatch, output: other, from },
                3 => SpanKind::Compute { ubatch, split },
                4 => SpanKind::Node { ubatch, split, node: other },
                5 => SpanKind::Sampling,
                6 => SpanKind::GraphBuild,
                _ => {
                    let (plan, capacity) = (u32::from(other), u32::from(split));
                    SpanKind::Ubatch { ubatch, plan, capacity, sequences: 0, prompt: flag }
                }
            };
            let track = if flag { Track::Host } else { Track::Device(from) };
            let end_ns = start_ns.saturating_add(long);
            Event::Span(Span { track, kind, start_ns, end_ns, bytes: bytes >> 8, tokens })
        },
    )
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        Just(Subject::Host),
        (0..300_u16).prop_map(Subject::Core),
        (0..3_u32).prop_map(Subject::Process),
        (0..3_u32).prop_map(Subject::Thread),
        (0..3_u8).prop_map(Subject::Gpu),
        (0..3_u8, 0..3_u32).prop_map(|(gpu, pid)| Subject::GpuProcess { gpu, pid }),
        Just(Subject::Observer(Source::Nvml)),
        Just(Subject::Server),
        (0..3_u16).prop_map(Subject::Slot),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let value = prop_oneof![
        Just(0.0),
        Just(-1.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(1e300),
        0.0..1.0,
        0.0..1e12
    ];
    let sample = (any::<u32>(), subject(), 0..Counter::ALL.len(), value).prop_map(
        |(at, subject, counter, value)| {
            let (at_ns, counter) = (at.into(), Counter::ALL[counter]);
            Event::Sample(Sample { at_ns, subject, counter, value })
        },
    );
    let device = (0..4_u8, any::<bool>(), "[A-Z]{0,12}[0-9]?").prop_map(|(index, virt, name)| {
        Event::Device(DeviceFact {
            index: DeviceIndex(index),
            name,
            description: "ü".repeat(90),
            is_virtual: virt,
            memory_bytes_total: 0,
            memory_bytes_free: 7,
        })
    });
    let plan = (0..4_u32, 0..3_usize).prop_map(|(id, n)| {
        let split = SplitFact {
            device: DeviceIndex(3),
            nodes: Vec::new(),
            cause: "\u{1b}[31m 漢字".into(),
            inputs: Vec::new(),
        };
        let splits = vec![split; n];
        Event::Plan(Arc::new(PlanFact { id, n_tokens: 0, n_nodes: 0, splits, outputs: vec![] }))
    });
    let step = prop_oneof![
        (0..9_u32).prop_map(|prompt_tokens| Step::Queued { prompt_tokens }),
        (0..9_u16).prop_map(|slot| Step::Started { slot }),
        Just(Step::Token),
        "\\PC{0,20}\n?".prop_map(Step::Text),
        Just(Step::Ended { finish: Finish::ContextFull, generated_tokens: 3 }),
    ];
    let request = (0..5_u64, any::<u64>(), step)
        .prop_map(|(request, at_ns, step)| Event::Request(RequestStep { at_ns, request, step }));
    let server = any::<bool>().prop_map(|has| {
        let bytes = has.then_some(0);
        let model = ServedModel { bytes, vram_bytes: Some(5), ..ServedModel::default() };
        Event::Server(Arc::new(ServerFact { models: vec![model; 3], ..ServerFact::default() }))
    });
    let absent = subject().prop_map(|subject| {
        let (reason, text, hint) = (AbsentReason::DeviceLost, "x ".repeat(90), String::new());
        let (source, subject, counter) = (Source::Nvml, Some(subject), None);
        Event::Absent(Absent { at_ns: 0, source, subject, counter, reason, text, hint })
    });
    prop_oneof![8 => span(), 4 => sample, 2 => device, 2 => plan, 3 => request, 1 => server, 1 => absent]
}

/// A part of the script, and then anything.
fn session() -> impl Strategy<Value = Session> {
    let script = whole().events;
    let odd = proptest::collection::vec(event(), 0..60);
    (prop_oneof![Just(0), 0..script.len()], odd).prop_map(move |(kept, odd)| {
        let events: Vec<Event> = script[..kept].iter().cloned().chain(odd).collect();
        fold(&events)
    })
}

fn state() -> impl Strategy<Value = PanelState> {
    let number = || prop_oneof![0..9_usize, Just(usize::MAX)];
    let numbers = (number(), number(), number(), number());
    (numbers, any::<bool>(), any::<u8>()).prop_map(|((a, b, c, d), is_open, mode)| PanelState {
        selected: a,
        offset: b,
        inner: c,
        inner_offset: d,
        is_open,
        mode,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_area_any_session_any_state(
        session in session(),
        (width, height) in (0..200_u16, 0..60_u16),
        mut state in state(),
        (unicode, search) in (any::<bool>(), prop_oneof![Just(""), Just("cpu"), Just("zzz")]),
        keys in proptest::collection::vec(prop_oneof![
            Just(KeyCode::Left), Just(KeyCode::Right),
            proptest::sample::select(vec!['p', '+', '-', 'f', '(', ')', 'x']).prop_map(KeyCode::Char),
        ], 0..5),
    ) {
        let mut stage = Stage::new(session);
        stage.theme = Theme::new(Palette::Sixteen, unicode);
        stage.search = search.to_string();
        let stage = stage
            .on(Place::Device(DeviceIndex(1)))
            .on(Place::Split { phase: Phase::Decode, index: 2 })
            .on(Place::Layer("3".to_string()))
            .on(Place::Counter(Subject::Gpu(0), Counter::Power));
        for panel in PANELS {
            let area = Rect::new(1, 1, width, height);
            let whole = Rect::new(0, 0, width + 2, height + 2);
            let mut buf = Buffer::empty(whole);
            stage.with(|cx| {
                for key in &keys {
                    panel.key(cx, &mut state, *key);
                }
                panel.rows(cx, &state);
                panel.draw(cx, &mut state, area, &mut buf);
                // And again, as the state is now what drawing made of it.
                panel.draw(cx, &mut state, area, &mut buf);
            });
            for y in 0..whole.height {
                for x in 0..whole.width {
                    let cell = buf[(x, y)].symbol();
                    let inside = area.contains((x, y).into());
                    prop_assert!(inside || cell == " ", "{} draws outside", panel.title());
                    prop_assert!(unicode || cell.is_ascii(), "{}: '{cell}'", panel.title());
                }
            }
        }
    }
}
