//! Which lines belong to the load that is open, and which begin another one.
//!
//! A load's lines come in an order: decided, command, runner, loader, tensors, context, ready. A
//! line of an earlier stage than what was seen begins another load. The generations differ: before
//! 0.11.5 Ollama decided first and then started a runner, later it starts one and then decides.

use super::super::record::Record;
use super::kind::Kind;
use super::stream::{Open, slog};
use super::{engine_request, memory};

/// How far a load is, by the lines seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The scheduler decided.
    #[default]
    Decided,
    /// A runner was started.
    Command,
    /// The runner said something.
    Runner,
    /// The model's header was read.
    Loader,
    /// Weights were placed.
    Tensors,
    /// A context was made.
    Context,
    /// It answers.
    Ready,
    /// It failed or was unloaded.
    Ended,
}

/// The stage that a line is of; `None` when it says nothing of a load by itself.
pub(super) fn stage_of(kind: Kind) -> Option<Stage> {
    use Kind as K;
    Some(match kind {
        K::HostMemory
        | K::GpuMemory
        | K::Estimate
        | K::EarlyEstimate
        | K::EarlyRequired
        | K::LoadDecided
        | K::LoadPlan
        | K::FitStart
        | K::FitMeasuring
        | K::FitProjected
        | K::FitDeficit
        | K::FitContext
        | K::FitContextFixed
        | K::FitDevice => Stage::Decided,
        K::LoadCommand => Stage::Command,
        K::RunnerStart | K::LoadRequest | K::LayoutRetry | K::DeviceUsing => Stage::Runner,
        K::ModelFile | K::Metadata | K::ModelInfo | K::EngineModel | K::VocabOnly | K::NoAlloc => {
            Stage::Loader
        }
        K::TensorsStart
        | K::LayerAssigned
        | K::LayersOffloaded
        | K::OutputLayer
        | K::TensorOverride
        | K::BufferModel
        | K::MemoryRequired
        | K::VramUsed
        | K::MemoryTree => Stage::Tensors,
        K::ContextStart
        | K::ContextParameter
        | K::BufferKv
        | K::BufferCompute
        | K::BufferOutput
        | K::BufferRecurrent
        | K::BufferAdapter
        | K::BufferProjector
        | K::BufferCompute2023
        | K::KvInit
        | K::KvSize
        | K::RecurrentSize
        | K::GraphNodes
        | K::GraphSplits
        | K::GraphSummary
        | K::GraphTotal
        | K::ReserveStart
        | K::ReserveTook
        | K::PipelineParallel
        | K::FlashAttention
        | K::VramTotal
        | K::ServerSlots
        | K::BreakdownDevice
        | K::BreakdownHost => Stage::Context,
        K::LoadReady | K::ServerReady | K::SetupDone => Stage::Ready,
        K::LoadFailed => Stage::Ended,
        _ => return None,
    })
}

/// Whether a line begins another load than the one that is open.
pub(super) fn begins(open: &Open, stage: Stage, record: &Record<'_>) -> bool {
    use Kind as K;
    let load = &open.load;
    // A trial's lines and those of the load that follows are one load's.
    let past = |stage: Stage| open.stage >= stage && !open.trial;
    match record.kind {
        K::BreakdownDevice | K::BreakdownHost => false,
        // They come in the middle of a load of the fitting.
        K::FitMeasuring
        | K::FitProjected
        | K::FitDeficit
        | K::FitContext
        | K::FitContextFixed
        | K::FitDevice
        | K::NoAlloc
        | K::VocabOnly
        | K::LayoutRetry => open.stage >= Stage::Ready,
        K::LoadRequest => past(Stage::Ready) && !engine_request::is_close(record),
        K::LoadCommand => past(Stage::Tensors) || load.requested.command.is_some() || open.ended(),
        K::ModelFile => past(Stage::Tensors),
        K::Metadata | K::ModelInfo | K::EngineModel | K::TensorsStart => past(Stage::Context),
        K::LayersOffloaded => {
            past(Stage::Ready) || (load.layers.is_some() && past(Stage::Tensors) && !slog(record))
        }
        K::LoadReady => {
            open.ended() || (load.load_ns.is_some() && record.fields.get("seconds").is_some())
        }
        K::ServerReady | K::SetupDone => open.ended(),
        K::LoadFailed => open.stage == Stage::Ready,
        _ => match stage {
            Stage::Decided => past(Stage::Loader) || open.decided_before_command,
            Stage::Runner => past(Stage::Tensors),
            Stage::Tensors => past(Stage::Ready) || (past(Stage::Context) && !slog(record)),
            Stage::Context => memory::begins_context(open, record) && past(Stage::Ready),
            _ => open.ended(),
        },
    }
}
