//! How fast a log is read: a typical server log (see `server_log`), plain and in the journal's
//! envelope, whole through the parser. docs/measurements/logs.md has the figures.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gpuwhy::observe::logs::parse_bytes;

mod server_log;

fn logs(c: &mut Criterion) {
    let test = std::env::args().any(|arg| arg == "--test");
    let plain = server_log::server_log(if test { 64 << 10 } else { 16 << 20 }, 1);
    let prefix = "Sep 04 09:10:11 box ollama[4711]: ";
    let text = String::from_utf8_lossy(&plain);
    let journal = text.trim_end().replace('\n', &format!("\n{prefix}"));
    let journal = format!("{prefix}{journal}\n");
    let mut group = c.benchmark_group("logs");
    group.sample_size(10);
    for (name, log) in [("server", plain.as_slice()), ("server, journald", journal.as_bytes())] {
        let session = parse_bytes(log);
        assert_eq!(session.counts.unknown, 0, "{:?}", session.counts.unknown_shapes);
        group.throughput(Throughput::Bytes(log.len() as u64));
        group.bench_function(name, |b| b.iter(|| black_box(parse_bytes(log))));
    }
    group.finish();
}

criterion_group!(benches, logs);
criterion_main!(benches);
