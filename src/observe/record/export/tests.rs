//! Exports of a small session, looked at as their readers do.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::base::event::{DeviceIndex, Event, Span, SpanKind, Track};

use super::super::tests::one_of_each;
use super::*;

fn text(
    export: impl FnOnce(std::vec::IntoIter<Event>, &mut dyn std::io::Write) -> std::io::Result<()>,
    events: Vec<Event>,
) -> String {
    let mut bytes = Vec::new();
    export(events.into_iter(), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What Perfetto's importer of JSON demands: known phases with their fields, numbers as times, and
/// slices of one track that nest.
fn checked(trace: &str) -> Vec<Value> {
    let trace: Value = serde_json::from_str(trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap().clone();
    let mut open: BTreeMap<(u64, u64), Vec<f64>> = BTreeMap::new();
    for event in &events {
        let phase = event["ph"].as_str().unwrap();
        assert!(event["name"].as_str().is_some_and(|n| !n.is_empty()), "{event}");
        let pid = event["pid"].as_u64().unwrap();
        match phase {
            "M" => assert!(event["args"]["name"].is_string(), "{event}"),
            "C" => {
                assert!(event["ts"].is_number());
                let args = event["args"].as_object().unwrap();
                assert!(!args.is_empty() && args.values().all(Value::is_number), "{event}");
            }
            "i" => assert!(event["ts"].is_number() && event["s"] == "g", "{event}"),
            "X" => {
                let (start, length) =
                    (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
                assert!(start >= 0.0 && length >= 0.0, "{event}");
                let ends = open.entry((pid, event["tid"].as_u64().unwrap())).or_default();
                ends.retain(|end| *end > start);
                let inside = ends.iter().all(|end| start + length <= *end + 1e-9);
                assert!(inside, "{event} overlaps");
                ends.push(start + length);
            }
            other => panic!("phase {other}: {event}"),
        }
    }
    events
}

#[test]
fn a_timeline_has_slices_with_names_and_counters() {
    let events = checked(&text(chrome, one_of_each()));
    let find = |name: &str| events.iter().find(|e| e["name"] == name).unwrap();
    let copy = find("copy l_out-2");
    assert_eq!((copy["cat"].as_str(), copy["args"]["bytes"].as_u64()), (Some("copy"), Some(256)));
    assert_eq!(copy["args"]["from"], "CPU");
    assert_eq!(copy["args"]["cause"], "made on CPU");
    assert_eq!((copy["ts"].as_f64(), copy["dur"].as_f64()), (Some(1.5), Some(0.5)));
    assert_eq!(find("split 0")["args"]["cause"], "the device changes");
    assert_eq!(find("wait before split 0")["cat"], "stall");
    assert_eq!(find("power_w")["args"]["W"], 4500.0);
    let thread = |tid: &Value| {
        let named = events.iter().find(|e| e["name"] == "thread_name" && e["tid"] == *tid);
        named.unwrap()["args"]["name"].as_str().unwrap().to_string()
    };
    assert_eq!(thread(&copy["tid"]), "CUDA0 copies");
    assert_eq!(thread(&find("split 0")["tid"]), "CUDA0");
    assert_eq!(thread(&find("decode ubatch")["tid"]), "host");
    let names: Vec<&str> = events
        .iter()
        .filter(|e| e["name"] == "process_name")
        .map(|e| e["args"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["engine", "GPU 1 (Example \"GPU\")"]);
}

#[test]
fn slices_that_overlap_get_a_track_of_their_own() {
    let span = |start_ns, end_ns| {
        let (from, to) = (DeviceIndex(1), DeviceIndex(0));
        let kind = SpanKind::Copy { ubatch: 0, split: 0, input: 0, from, to, blocking: false };
        let track = Track::Device(DeviceIndex(0));
        Event::Span(Span { track, kind, start_ns, end_ns, bytes: 0, tokens: 0 })
    };
    let events = vec![span(20, 40), span(0, 30), span(5, 10), span(30, 50), span(40, 60)];
    let events = checked(&text(chrome, events));
    let tracks = events.iter().filter(|e| e["name"] == "thread_name").count();
    assert_eq!(tracks, 2);
}

#[test]
fn a_table_quotes_what_needs_it() {
    let table = text(csv, one_of_each());
    let rows: Vec<&str> = table.split("\r\n").collect();
    assert_eq!(rows[0], "kind,start_ns,end_ns,where,what,value,unit,bytes,tokens");
    assert!(rows.contains(&"span,1500,2000,CUDA0,copy tensor,,,256,1"), "{table}");
    let quoted = "sample,4500,4500,\"GPU 1 (Example \"\"GPU\"\")\",power_w,4500,W,,";
    assert!(rows.contains(&quoted), "{table}");
    assert!(rows.contains(&"warning,4700,4700,,\"slow, \"\"very\"\"\",,,,"), "{table}");
}

#[test]
fn metrics_have_types_and_labels() {
    let metrics = text(prometheus, one_of_each());
    let line = "gpuwhy_power_w{subject=\"gpu\",gpu=\"1\",name=\"Example \\\"GPU\\\"\"} 4500\n";
    assert!(metrics.contains(&format!("# TYPE gpuwhy_power_w gauge\n{line}")), "{metrics}");
    let line = "gpuwhy_span_seconds_total{device=\"CUDA0\",kind=\"compute\"} 0.000002\n";
    assert!(metrics.contains(line), "{metrics}");
}
