//! Lines of a log become one [`LogSession`], whatever engine and version wrote them.
//!
//! Stages, each knowing only the one before: a source gives bytes; the envelope (journald, docker,
//! colours, quotes) is taken off a line; patterns of `profiles/engines/*.toml` recognise it; the
//! fold keeps what it says. Nothing here judges. Invariants: no line is fatal, memory is bounded
//! whatever the length of the log, and every kept value knows the line that it came from.

mod catalogue;
mod envelope;
mod fold;
mod join;
mod order;
mod parser;
mod pump;
mod recipe;
mod record;
mod session;
mod shape;
mod slog;
mod source;
mod text;

pub use catalogue::{Catalogue, CatalogueError, Pattern, SampleFault};
pub use fold::Kind;
pub use parser::{Options, Parser, parse_bytes};
pub use pump::{Pumped, pump};
pub use record::{Fields, Record};
pub use session::{
    BreakdownRow, Buffer, BufferKind, Device, Dialect, Engine, Estimate, Fit, FitDevice,
    FlashAttention, GpuFree, Graph, HostMemory, KvCache, Layers, LibraryKind, LineCounts, LineId,
    LineText, Lines, Load, LoadOutcome, LogSession, Model, Notice, Request, Requested, Requests,
    Role, Seen, Setting, Spread, Summary, Version,
};
pub use slog::go_map;
pub use source::{Host, Source, SourceError, Step, Stopper, Stream, default_sources};
