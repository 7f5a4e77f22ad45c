//! Sessions folded from made-up events.

use super::*;
use crate::base::event::{Line, RequestStep, Sample, Span, SpanKind, Step, Track};

fn sample(at_ns: u64, subject: Subject, counter: Counter, value: f64) -> Event {
    Event::Sample(Sample { at_ns, subject, counter, value })
}

#[test]
fn series_keep_the_last_minute_and_the_extremes() {
    let mut session = Session::new();
    let gpu = Subject::Gpu(0);
    for i in 0..1000_u64 {
        session.take(&sample(i * 250_000_000, gpu, Counter::Energy, i as f64));
        session.take(&sample(i * 250_000_000, gpu, Counter::Power, (i % 7) as f64));
    }
    let energy = session.counters.get(gpu, Counter::Energy).unwrap();
    assert_eq!((energy.count, energy.points().len(), energy.first.value), (1000, 240, 0.0));
    assert_eq!(energy.rate(), Some(4.0));
    assert_eq!(energy.shown().len(), 239);
    let power = session.counters.get(gpu, Counter::Power).unwrap();
    assert_eq!((power.min, power.max, power.rate()), (0.0, 6.0, None));
    assert_eq!(session.counters.of(gpu).count(), 2);
    assert_eq!(session.counters.gpus().collect::<Vec<_>>(), [0]);
}

#[test]
fn what_is_sampled_again_is_not_absent() {
    use crate::base::event::AbsentReason;
    let mut session = Session::new();
    let gpu = Subject::Gpu(0);
    let absent = |subject, counter| {
        let (reason, text) = (AbsentReason::DeviceLost, String::new());
        let (at_ns, source, hint) = (1, Source::Nvml, String::new());
        Event::Absent(Absent { at_ns, source, subject, counter, reason, text, hint })
    };
    session.take(&absent(Some(gpu), None));
    session.take(&absent(Some(gpu), Some(Counter::Power)));
    session.take(&absent(None, None));
    session.take(&sample(2, Subject::Host, Counter::CpuBusy, 0.5));
    assert_eq!(session.absent.len(), 3);
    session.take(&sample(3, gpu, Counter::Power, 1.0));
    assert!(session.absent.is_empty());
}

#[test]
fn requests_are_followed_to_their_end() {
    let mut session = Session::new();
    let mut step =
        |at_ns, step| session.take(&Event::Request(RequestStep { at_ns, request: 7, step }));
    step(10, Step::Queued { prompt_tokens: 5 });
    step(20, Step::Started { slot: 1 });
    step(50, Step::Token);
    step(51, Step::Text("a".into()));
    step(70, Step::Token);
    step(71, Step::Text("b".into()));
    step(80, Step::Ended { finish: crate::base::event::Finish::Length, generated_tokens: 2 });
    let requests = &session.requests;
    assert_eq!((requests.open.len(), requests.ended_count), (0, 1));
    let ended = &requests.ended[0];
    assert_eq!((ended.request.text.as_str(), &ended.request.token_ns[..]), ("ab", &[30, 50][..]));
    assert_eq!((requests.first_token_ns[0], requests.inter_token_ns[0]), (30, 20));
}

#[test]
fn an_hour_of_ubatches_and_lines_stays_small() {
    let mut session = Session::new();
    for ubatch in 0..20_000_u64 {
        let at = ubatch * 1000;
        let span = |kind, start_ns, end_ns| {
            Event::Span(Span { track: Track::Host, kind, start_ns, end_ns, bytes: 0, tokens: 1 })
        };
        for split in 0..4 {
            session.take(&span(SpanKind::Compute { ubatch, split }, at, at + 100));
        }
        let (plan, capacity, sequences, prompt) = (0, 1, 1, false);
        let kind = SpanKind::Ubatch { ubatch, plan, capacity, sequences, prompt };
        session.take(&span(kind, at, at + 900));
        session.take(&Event::Line(Line { at_ns: at, text: format!("line {ubatch}") }));
    }
    assert_eq!(session.recent.ubatches().len(), 64);
    assert_eq!(session.recent.last(false).unwrap().parts.len(), 4);
    assert_eq!((session.log.count(), session.log.lines().len()), (20_000, 2000));
    session.log.settle();
    assert_eq!(session.log.told().counts.lines, 20_000);
}

#[test]
fn threads_that_come_and_go_leave_nothing_behind() {
    use crate::base::event::{AbsentReason, Warning};
    let mut session = Session::new();
    for id in 0..30_000_u32 {
        let (subject, at_ns) = (Subject::Thread(id), u64::from(id));
        let (name, details) = (format!("worker {id}"), Vec::new());
        session.take(&Event::Subject(Arc::new(SubjectFact { subject, name, details })));
        session.take(&sample(at_ns, subject, Counter::CpuUsed, 0.5));
        let (source, counter, reason) = (Source::Process, None, AbsentReason::Ended);
        let (subject, text, hint) = (Some(subject), String::new(), String::new());
        let absent = Absent { at_ns, source, subject, counter, reason, text, hint };
        session.take(&Event::Absent(absent));
        session.take(&Event::Warning(Warning { at_ns, text: format!("odd {id}") }));
    }
    assert!(session.subjects.len() <= 8192 && session.counters.subjects().count() <= 4096);
    assert!(session.absent.len() <= 1024 && session.sums.warnings.len() == 256);
    // The newest are known by name.
    assert_eq!(session.name(Subject::Thread(29_999)), Some("worker 29999"));
    assert!(session.counters.subjects().all(|subject| session.name(subject).is_some()));
}
