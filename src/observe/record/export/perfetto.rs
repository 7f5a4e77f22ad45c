//! A timeline in Perfetto's own format, which ui.perfetto.dev and trace_processor read.
//!
//! Format: protos/perfetto/trace of the Perfetto project (`trace_packet.proto`,
//! `track_event/track_event.proto`, `track_descriptor.proto`); only the fields that are written stand
//! here, with their numbers. Packets are sorted by time, and those of one track that share a time keep
//! the order in which slices close and open.

use std::collections::BTreeMap;
use std::io::{self, Write};

use prost::Message;
use serde_json::{Map, Value};

use crate::base::counter::{Counter, Subject};
use crate::base::event::Event;

use super::timeline::{Timeline, arguments, category};

/// The track of the engine's process; its own tracks follow.
const ENGINE: u64 = 1;

/// Tracks of subjects and their counters begin here.
const SUBJECTS: u64 = 1 << 20;

/// All packets are of one writer.
const SEQUENCE: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct TracePacket {
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "11")]
    track_event: Option<TrackEvent>,
    #[prost(uint32, optional, tag = "13")]
    sequence_flags: Option<u32>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<TrackDescriptor>,
}

/// `SEQ_INCREMENTAL_STATE_CLEARED`: nothing before the first packet is missing.
const SEQUENCE_BEGINS: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
    #[prost(message, optional, tag = "8")]
    counter: Option<CounterDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct CounterDescriptor {
    #[prost(string, optional, tag = "6")]
    unit_name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    debug_annotations: Vec<DebugAnnotation>,
    #[prost(enumeration = "Type", optional, tag = "9")]
    r#type: Option<i32>,
    #[prost(uint64, optional, tag = "11")]
    track_uuid: Option<u64>,
    #[prost(string, repeated, tag = "22")]
    categories: Vec<String>,
    #[prost(string, optional, tag = "23")]
    name: Option<String>,
    #[prost(double, optional, tag = "44")]
    double_counter_value: Option<f64>,
}

/// `TrackEvent.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
enum Type {
    Unspecified = 0,
    SliceBegin = 1,
    SliceEnd = 2,
    Instant = 3,
    Counter = 4,
}

#[derive(Clone, PartialEq, Message)]
struct DebugAnnotation {
    #[prost(bool, optional, tag = "2")]
    bool_value: Option<bool>,
    #[prost(uint64, optional, tag = "3")]
    uint_value: Option<u64>,
    #[prost(double, optional, tag = "5")]
    double_value: Option<f64>,
    #[prost(string, optional, tag = "6")]
    string_value: Option<String>,
    #[prost(string, optional, tag = "10")]
    name: Option<String>,
}

/// A file is a `Trace`: packets, each as the field 1.
#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<TracePacket>,
}

/// Writes a session's timeline.
pub fn perfetto(events: impl Iterator<Item = Event>, to: &mut dyn Write) -> io::Result<()> {
    let line = Timeline::read(events);
    let mut descriptors = vec![TrackDescriptor {
        uuid: Some(ENGINE),
        name: Some("engine".to_string()),
        ..TrackDescriptor::default()
    }];
    descriptors.extend(line.tracks.iter().map(|track| TrackDescriptor {
        uuid: Some(ENGINE + track.tid),
        name: Some(track.name.clone()),
        parent_uuid: Some(ENGINE),
        ..TrackDescriptor::default()
    }));
    let mut packets = slices(&line);
    packets.extend(line.marks.iter().map(|(at_ns, text)| {
        let event =
            TrackEvent { track_uuid: Some(ENGINE), name: Some(text.clone()), ..of(Type::Instant) };
        (*at_ns, event)
    }));
    counters(&line, &mut descriptors, &mut packets);
    packets.sort_by_key(|(at_ns, _)| *at_ns);
    for (number, descriptor) in descriptors.into_iter().enumerate() {
        let packet = TracePacket {
            trusted_packet_sequence_id: Some(SEQUENCE),
            sequence_flags: (number == 0).then_some(SEQUENCE_BEGINS),
            track_descriptor: Some(descriptor),
            ..TracePacket::default()
        };
        write(packet, to)?;
    }
    for (at_ns, event) in packets {
        let packet = TracePacket {
            timestamp: Some(at_ns),
            trusted_packet_sequence_id: Some(SEQUENCE),
            track_event: Some(event),
            ..TracePacket::default()
        };
        write(packet, to)?;
    }
    Ok(())
}

/// One packet at a time is a part of a `Trace` that may be written after another.
fn write(packet: TracePacket, to: &mut dyn Write) -> io::Result<()> {
    to.write_all(&Trace { packet: vec![packet] }.encode_to_vec())
}

fn of(kind: Type) -> TrackEvent {
    TrackEvent { r#type: Some(kind as i32), ..TrackEvent::default() }
}

/// Begins and ends of all slices, of each track in the order in which they happen.
fn slices(line: &Timeline) -> Vec<(u64, TrackEvent)> {
    let mut packets = Vec::with_capacity(2 * line.slices.len());
    let mut open: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let end = |tid: u64| TrackEvent { track_uuid: Some(ENGINE + tid), ..of(Type::SliceEnd) };
    for (tid, span) in &line.slices {
        let ends_ns = open.entry(*tid).or_default();
        while let Some(end_ns) = ends_ns.pop_if(|end_ns| *end_ns <= span.start_ns) {
            packets.push((end_ns, end(*tid)));
        }
        ends_ns.push(span.end_ns);
        let annotations = arguments(&line.names, span);
        let event = TrackEvent {
            debug_annotations: annotated(&annotations),
            track_uuid: Some(ENGINE + tid),
            categories: vec![category(&span.kind).to_string()],
            name: Some(line.names.span(&span.kind)),
            ..of(Type::SliceBegin)
        };
        packets.push((span.start_ns, event));
    }
    for (tid, ends_ns) in open {
        packets.extend(ends_ns.into_iter().rev().map(|end_ns| (end_ns, end(tid))));
    }
    packets
}

fn annotated(arguments: &Map<String, Value>) -> Vec<DebugAnnotation> {
    let one = |(name, value): (&String, &Value)| {
        let mut note = DebugAnnotation { name: Some(name.clone()), ..DebugAnnotation::default() };
        match value {
            Value::Bool(value) => note.bool_value = Some(*value),
            Value::Number(value) => match value.as_u64() {
                Some(value) => note.uint_value = Some(value),
                None => note.double_value = value.as_f64(),
            },
            Value::String(value) => note.string_value = Some(value.clone()),
            other => note.string_value = Some(other.to_string()),
        }
        note
    };
    arguments.iter().map(one).collect()
}

/// Each subject is a track, with one track for each of its counters below it.
fn counters(
    line: &Timeline,
    descriptors: &mut Vec<TrackDescriptor>,
    packets: &mut Vec<(u64, TrackEvent)>,
) {
    let mut tracks: BTreeMap<(Subject, Option<Counter>), u64> = BTreeMap::new();
    for sample in &line.samples {
        for counter in [None, Some(sample.counter)] {
            let of = (sample.subject, counter);
            if tracks.contains_key(&of) {
                continue;
            }
            let uuid = SUBJECTS + tracks.len() as u64;
            let parent_uuid = tracks.get(&(sample.subject, None)).copied();
            tracks.insert(of, uuid);
            let name =
                counter.map_or_else(|| line.names.subject(sample.subject), |c| c.id().to_string());
            let counter =
                counter.map(|c| CounterDescriptor { unit_name: Some(c.unit().to_string()) });
            descriptors.push(TrackDescriptor {
                uuid: Some(uuid),
                name: Some(name),
                parent_uuid,
                counter,
            });
        }
        let track_uuid = tracks.get(&(sample.subject, Some(sample.counter))).copied();
        let double_counter_value = Some(sample.value);
        let event = TrackEvent { track_uuid, double_counter_value, ..of(Type::Counter) };
        packets.push((sample.at_ns, event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::{DeviceIndex, Span, SpanKind, Track};
    use crate::observe::record::tests::one_of_each;

    fn read(events: Vec<Event>) -> Vec<TracePacket> {
        let mut bytes = Vec::new();
        perfetto(events.into_iter(), &mut bytes).unwrap();
        Trace::decode(&bytes[..]).unwrap().packet
    }

    /// Opens and closes every track's slices as a reader does.
    fn nest(packets: &[TracePacket]) -> usize {
        let (mut open, mut slices, mut before) = (BTreeMap::<u64, i64>::new(), 0, 0);
        for packet in packets {
            let Some(event) = &packet.track_event else { continue };
            let at_ns = packet.timestamp.unwrap();
            assert!(at_ns >= before);
            before = at_ns;
            let depth = open.entry(event.track_uuid.unwrap()).or_default();
            match event.r#type.unwrap() {
                1 => {
                    *depth += 1;
                    slices += 1;
                }
                2 => *depth -= 1,
                _ => {}
            }
            assert!(*depth >= 0, "an end without a begin");
        }
        assert!(open.values().all(|d| *d == 0), "a slice stays open");
        slices
    }

    #[test]
    fn slices_begin_and_end_on_tracks_that_are_named() {
        let packets = read(one_of_each());
        assert!(nest(&packets) >= 3);
        let names: BTreeMap<u64, String> = packets
            .iter()
            .filter_map(|p| p.track_descriptor.as_ref())
            .map(|d| (d.uuid.unwrap(), d.name.clone().unwrap()))
            .collect();
        let copy = packets.iter().filter_map(|p| p.track_event.as_ref());
        let copy = copy.into_iter().find(|e| e.name.as_deref() == Some("copy l_out-2")).unwrap();
        assert_eq!(names[&copy.track_uuid.unwrap()], "CUDA0 copies");
        let note = |name: &str| {
            copy.debug_annotations.iter().find(|n| n.name.as_deref() == Some(name)).unwrap()
        };
        assert_eq!(note("bytes").uint_value, Some(256));
        assert_eq!(note("from").string_value.as_deref(), Some("CPU"));
        assert_eq!(packets[0].sequence_flags, Some(SEQUENCE_BEGINS));
        let of_counters: Vec<_> = packets
            .iter()
            .filter_map(|p| p.track_descriptor.as_ref().filter(|d| d.counter.is_some()))
            .collect();
        assert_eq!(of_counters[0].name.as_deref(), Some("power_w"));
        assert!(of_counters[0].parent_uuid.is_some());
    }

    #[test]
    fn slices_that_meet_close_before_the_next_opens() {
        let span = |start_ns, end_ns| {
            let kind = SpanKind::Compute { ubatch: 0, split: 0 };
            let track = Track::Device(DeviceIndex(0));
            Event::Span(Span { track, kind, start_ns, end_ns, bytes: 0, tokens: 0 })
        };
        let events =
            vec![span(0, 10), span(10, 20), span(10, 10), span(0, 20), span(20, 20), span(5, 15)];
        assert_eq!(nest(&read(events)), 6);
    }
}
