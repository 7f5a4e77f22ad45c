//! `gpuwhy selftest`: whether a device computes correctly, and what it and its link can do.
//!
//! Every kernel runs on random shapes and inputs and is held against the CPU's; then bandwidths,
//! rates and latencies are measured. A person, or a release, learns from it that a GPU is sound.

use std::any::Any;
use std::process::ExitCode;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::report::Table;
use crate::base::sink::NullSink;
use crate::base::units::{Bytes, BytesPerSecond, Nanos};
use crate::engine::backend::{
    CaseResult, CudaDevice, CudaMeasurements, Device, DeviceSpec, MeasureSize, selftest,
};
use crate::engine::runtime::{OpenedDevices, RuntimeOptions, open_devices};

use super::failure::Failure;
use super::flags::Format;
use super::output;

/// The exit code when a device computes wrongly.
const EXIT_FAILED: u8 = 1;

/// Failures that are printed at most; JSON has them all.
const FAILURES_PRINTED: usize = 20;

/// Arguments of `gpuwhy selftest`.
#[derive(Debug, Args)]
pub(super) struct SelftestArgs {
    /// [-dev] Devices to test: auto (every GPU), CUDA0, or a virtual device, several separated by
    /// commas
    #[arg(long, value_name = "LIST", default_value = "auto")]
    device: String,

    /// Seed of shapes and inputs
    #[arg(short = 's', long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// How often each kernel is tested, each time on other shapes and inputs
    #[arg(long, value_name = "N", default_value_t = 4)]
    rounds: usize,

    /// Check the kernels only; measure nothing
    #[arg(long)]
    no_measure: bool,

    /// Measure with little work, where a device is emulated
    #[arg(long)]
    small: bool,

    /// How to report
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The document `gpuwhy.selftest/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct SelftestReport {
    /// Always `gpuwhy.selftest/1`.
    pub(in crate::app::cli) schema: String,
    /// Seed of shapes and inputs.
    pub(in crate::app::cli) seed: u64,
    /// How often each kernel was tested.
    pub(in crate::app::cli) rounds: usize,
    /// True when no device computed anything wrongly.
    pub(in crate::app::cli) passed: bool,
    /// The devices.
    pub(in crate::app::cli) devices: Vec<DeviceReport>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct DeviceReport {
    /// As ggml names it.
    name: String,
    /// What it is, in words.
    description: String,
    /// All of its memory.
    memory_bytes_total: u64,
    /// Cases that ran or should have run.
    cases: usize,
    /// Cases that it computed wrongly, or could not finish.
    failed: usize,
    /// Cases that it has no kernel for; the CPU computes these.
    unsupported: usize,
    /// Time that its driver took to compile kernels, or to find them compiled.
    kernel_compile_ns: u64,
    /// By operation.
    operations: Vec<OperationReport>,
    /// What failed, and what it has no kernel for.
    notes: Vec<CaseReport>,
    /// What the device and its link can do; absent for devices that are no GPU, and when it was not
    /// measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    measurements: Option<Measurements>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct OperationReport {
    /// ggml's name of it.
    op: String,
    /// Cases.
    cases: usize,
    /// Of these, computed wrongly.
    failed: usize,
    /// Of these, without a kernel.
    unsupported: usize,
    /// The case that came closest to its tolerance: the error's share of it.
    worst_share_of_tolerance: f32,
    /// Its error: the largest difference from the CPU over the CPU's root mean square.
    worst_error: f32,
    /// Its types and shapes.
    worst_case: String,
}

/// One case that did not go well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct CaseReport {
    /// ggml's name of the operation.
    op: String,
    /// Types and shapes.
    case: String,
    /// True when the device has no kernel for it.
    unsupported: bool,
    /// What went wrong.
    problem: String,
}

/// What a GPU and its link can do. Rates are per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Measurements {
    /// A copy within the device's memory, reads and writes counted.
    memory_bytes_per_s: f64,
    /// An F16 matrix product as the engine runs it, multiplications and additions counted.
    matrix_f16_flops: Option<f64>,
    /// From page-locked host memory to the device.
    to_device_pinned_bytes_per_s: f64,
    /// From the device to page-locked host memory.
    from_device_pinned_bytes_per_s: f64,
    /// From ordinary host memory to the device.
    to_device_pageable_bytes_per_s: f64,
    /// From the device to ordinary host memory.
    from_device_pageable_bytes_per_s: f64,
    /// One of many launches in a row.
    launch_ns: Option<f64>,
    /// A single launch, from asking for it to knowing that it is done.
    launch_round_trip_ns: Option<f64>,
    /// Four bytes to the device and back.
    copy_round_trip_ns: f64,
}

impl From<CudaMeasurements> for Measurements {
    fn from(m: CudaMeasurements) -> Self {
        Self {
            memory_bytes_per_s: m.memory_bytes_per_s,
            matrix_f16_flops: m.matrix_f16_flops,
            to_device_pinned_bytes_per_s: m.to_device_pinned_bytes_per_s,
            from_device_pinned_bytes_per_s: m.from_device_pinned_bytes_per_s,
            to_device_pageable_bytes_per_s: m.to_device_pageable_bytes_per_s,
            from_device_pageable_bytes_per_s: m.from_device_pageable_bytes_per_s,
            launch_ns: m.launch_ns,
            launch_round_trip_ns: m.launch_round_trip_ns,
            copy_round_trip_ns: m.copy_round_trip_ns,
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &SelftestArgs) -> Result<ExitCode, Failure> {
    let devices = DeviceSpec::parse_list(&args.device)?;
    let options = RuntimeOptions { devices, ..RuntimeOptions::default() };
    let OpenedDevices { mut devices, gpus, .. } = open_devices(&options, &NullSink)?;
    let Some(mut cpu) = devices.pop().filter(|_| !devices.is_empty()) else {
        let why = gpus.strip_prefix("none: ").unwrap_or("-dev names no device");
        return Err(Failure::new(format!("there is no device to test: {why}"))
            .hint("-dev virtual:1GiB tests the CPU's own kernels"));
    };
    let mut reports = Vec::new();
    for device in &mut devices {
        reports.push(test(device.as_mut(), cpu.as_mut(), args)?);
    }
    let report = SelftestReport {
        schema: "gpuwhy.selftest/1".to_string(),
        seed: args.seed,
        rounds: args.rounds,
        passed: reports.iter().all(|d| d.failed == 0),
        devices: reports,
    };
    match args.format {
        Format::Json => output::json(&report)?,
        Format::Text => output::stdout(text(&report, false).as_bytes())?,
        Format::Markdown => output::stdout(text(&report, true).as_bytes())?,
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn test(
    device: &mut dyn Device,
    cpu: &mut dyn Device,
    args: &SelftestArgs,
) -> Result<DeviceReport, Failure> {
    let mut report = DeviceReport {
        name: device.info().name.clone(),
        description: device.info().description.clone(),
        memory_bytes_total: device.memory().total_bytes,
        cases: 0,
        failed: 0,
        unsupported: 0,
        kernel_compile_ns: 0,
        operations: Vec::new(),
        notes: Vec::new(),
        measurements: None,
    };
    selftest(device, cpu, args.seed, args.rounds, &mut |case| {
        report.add(case);
        true
    });
    report.kernel_compile_ns = device.compile_ns();
    // A device that no longer works has nothing left to measure.
    if !args.no_measure && report.failed == 0 {
        let size = if args.small { MeasureSize::SMALL } else { MeasureSize::FULL };
        if let Some(gpu) = (device as &mut dyn Any).downcast_mut::<CudaDevice>() {
            let failed = |e| Failure::new(format!("measuring: {e}"));
            report.measurements = Some(gpu.measure(size).map_err(failed)?.into());
        }
    }
    Ok(report)
}

impl DeviceReport {
    fn add(&mut self, case: CaseResult) {
        self.cases += 1;
        let at = self.operations.iter().position(|o| o.op == case.op);
        let at = at.unwrap_or_else(|| {
            self.operations.push(OperationReport {
                op: case.op.to_string(),
                cases: 0,
                failed: 0,
                unsupported: 0,
                worst_share_of_tolerance: 0.0,
                worst_error: 0.0,
                worst_case: String::new(),
            });
            self.operations.len() - 1
        });
        let operation = &mut self.operations[at];
        operation.cases += 1;
        if let Some(problem) = &case.unsupported {
            (self.unsupported, operation.unsupported) =
                (self.unsupported + 1, operation.unsupported + 1);
            self.notes.push(note(&case, true, problem.clone()));
            return;
        }
        if !case.passed() {
            (self.failed, operation.failed) = (self.failed + 1, operation.failed + 1);
            let wrong = format!("off by {:.1e}, {:.0e} is allowed", case.error, case.tolerance);
            self.notes.push(note(&case, false, case.problem.clone().unwrap_or(wrong)));
        }
        // An exact result is never allowed any error.
        let share = if case.error == 0.0 { 0.0 } else { case.error / case.tolerance };
        if share >= operation.worst_share_of_tolerance {
            operation.worst_share_of_tolerance = share;
            operation.worst_error = case.error;
            operation.worst_case = case.case;
        }
    }
}

fn note(case: &CaseResult, unsupported: bool, problem: String) -> CaseReport {
    CaseReport { op: case.op.to_string(), case: case.case.clone(), unsupported, problem }
}

fn text(report: &SelftestReport, markdown: bool) -> String {
    let mut out = String::new();
    let table = |t: &Table| {
        if markdown { t.markdown() } else { t.text("  ", output::style(&std::io::stdout())) }
    };
    for device in &report.devices {
        let verdict = if device.failed == 0 { "sound" } else { "NOT SOUND" };
        out.push_str(
            &[
                format!("{}: {verdict}. {}", device.name, device.description),
                format!(
                    "{} cases: {} wrong, {} without a kernel; kernels compiled in {}",
                    device.cases,
                    device.failed,
                    device.unsupported,
                    Nanos(device.kernel_compile_ns as f64)
                ),
                String::new(),
                String::new(),
            ]
            .join("\n"),
        );
        let mut operations =
            Table::new(&["operation", ">cases", ">wrong", ">no kernel", ">worst error", "of"]);
        for o in &device.operations {
            operations.row([
                o.op.clone(),
                o.cases.to_string(),
                o.failed.to_string(),
                o.unsupported.to_string(),
                format!("{:.1e}", o.worst_error),
                o.worst_case.clone(),
            ]);
        }
        out.push_str(&table(&operations));
        // What is wrong comes before what is only missing.
        let (missing, wrong): (Vec<_>, Vec<_>) = device.notes.iter().partition(|n| n.unsupported);
        for note in wrong.into_iter().chain(missing).take(FAILURES_PRINTED) {
            out.push_str(&[&note.op, " ", &note.case, ": ", &note.problem, "\n"].concat());
        }
        if let Some(m) = &device.measurements {
            out.push('\n');
            out.push_str(&table(&limits(m, device.memory_bytes_total)));
        }
    }
    out
}

fn limits(m: &Measurements, memory_bytes: u64) -> Table {
    let mut table = Table::new(&["what", ">measured"]);
    let mut row = |what: &str, value: String| table.row([what.to_string(), value]);
    let rate = |r: f64| BytesPerSecond(r).to_string();
    let optional = |v: Option<f64>, f: &dyn Fn(f64) -> String| v.map_or("no kernel".into(), f);
    row("memory", Bytes(memory_bytes).to_string());
    row("memory bandwidth, copy within, reads and writes", rate(m.memory_bytes_per_s));
    let tera = |f: f64| format!("{:.1} TFLOP/s", f / 1e12);
    row("F16 matrix product", optional(m.matrix_f16_flops, &tera));
    row("to the device, pinned", rate(m.to_device_pinned_bytes_per_s));
    row("from the device, pinned", rate(m.from_device_pinned_bytes_per_s));
    row("to the device, pageable", rate(m.to_device_pageable_bytes_per_s));
    row("from the device, pageable", rate(m.from_device_pageable_bytes_per_s));
    let time = |ns: f64| Nanos(ns).to_string();
    row("launch, of many in a row", optional(m.launch_ns, &time));
    row("launch, there and back", optional(m.launch_round_trip_ns, &time));
    row("copy of 4 bytes, there and back", time(m.copy_round_trip_ns));
    table
}
