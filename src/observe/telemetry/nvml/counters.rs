//! The counters of one GPU, in groups that one call of NVML reads.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, PcieUtilCounter, PerformancePolicy, TemperatureSensor,
};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id;

use crate::base::counter::Counter;

/// Values in the order of a group's counters.
type Values = Result<Vec<f64>, NvmlError>;

/// What one call reads.
pub(super) struct Group {
    /// Its counters.
    pub counters: &'static [Counter],
    /// The call.
    pub read: fn(&Device<'_>) -> Values,
}

const fn group(counters: &'static [Counter], read: fn(&Device<'_>) -> Values) -> Group {
    Group { counters, read }
}

/// What moves with the work: read at every sample.
pub(super) const FAST: &[Group] = &[
    group(&[Counter::VramTotal, Counter::VramUsed, Counter::VramFree], |d| {
        let memory = d.memory_info()?;
        Ok(vec![memory.total as f64, memory.used as f64, memory.free as f64])
    }),
    group(&[Counter::GpuClock], |d| hz(d.clock_info(Clock::SM))),
    group(&[Counter::VramClock], |d| hz(d.clock_info(Clock::Memory))),
    group(&[Counter::ThrottleReasons], |d| {
        // Bits that the wrapper does not know are left out; the strict call would fail instead.
        Ok(vec![d.current_throttle_reasons()?.bits() as f64])
    }),
    group(&[Counter::ThrottledByPower], |d| violated(d, PerformancePolicy::Power)),
    group(&[Counter::ThrottledByHeat], |d| violated(d, PerformancePolicy::Thermal)),
    group(&[Counter::Power], power),
    group(&[Counter::Energy], |d| Ok(vec![d.total_energy_consumption()? as f64 / 1e3])),
    group(&[Counter::Temperature], |d| one(d.temperature(TemperatureSensor::Gpu))),
    group(&[Counter::PcieGeneration], |d| one(d.current_pcie_link_gen())),
    group(&[Counter::PcieWidth], |d| one(d.current_pcie_link_width())),
    group(&[Counter::PcieSent, Counter::PcieReceived], pcie_totals),
];

/// What changes seldom, or costs more: read about once a second.
pub(super) const SLOW: &[Group] = &[
    group(&[Counter::Bar1Total, Counter::Bar1Used], |d| {
        let window = d.bar1_memory_info()?;
        Ok(vec![window.total as f64, window.used as f64])
    }),
    group(&[Counter::PcieReplays], |d| one(d.pcie_replay_counter())),
    group(&[Counter::PerformanceState], |d| Ok(vec![f64::from(d.performance_state()?.as_c())])),
    group(&[Counter::PowerLimit], |d| Ok(vec![f64::from(d.enforced_power_limit()?) / 1e3])),
    group(&[Counter::EccCorrected], |d| ecc(d, MemoryError::Corrected)),
    group(&[Counter::EccUncorrected], |d| ecc(d, MemoryError::Uncorrected)),
];

/// What a GPU and its slot can do: read once.
pub(super) const LIMITS: &[Group] = &[
    group(&[Counter::GpuClockMax], |d| hz(d.max_clock_info(Clock::SM))),
    group(&[Counter::VramClockMax], |d| hz(d.max_clock_info(Clock::Memory))),
    group(&[Counter::PcieGenerationMax], |d| one(d.max_pcie_link_gen())),
    group(&[Counter::PcieWidthMax], |d| one(d.max_pcie_link_width())),
];

/// Where totals of PCIe are missing. Each direction takes the driver 20 ms.
pub(super) const PCIE_RATES: Group =
    group(&[Counter::PcieSentRate, Counter::PcieReceivedRate], |d| {
        let kilobytes = |direction| d.pcie_throughput(direction);
        let (sent, received) =
            (kilobytes(PcieUtilCounter::Send)?, kilobytes(PcieUtilCounter::Receive)?);
        Ok(vec![f64::from(sent) * 1e3, f64::from(received) * 1e3])
    });

/// Shares of the last period, whose length is the driver's: used where there is no history.
pub(super) const UTILISATION: Group = group(&[Counter::GpuBusy, Counter::GpuMemoryBusy], |d| {
    let rates = d.utilization_rates()?;
    Ok(vec![f64::from(rates.gpu) / 100.0, f64::from(rates.memory) / 100.0])
});

fn one(value: Result<u32, NvmlError>) -> Values {
    Ok(vec![f64::from(value?)])
}

fn hz(mhz: Result<u32, NvmlError>) -> Values {
    Ok(vec![f64::from(mhz?) * 1e6])
}

fn violated(device: &Device<'_>, policy: PerformancePolicy) -> Values {
    Ok(vec![device.violation_status(policy)?.violation_time as f64])
}

fn ecc(device: &Device<'_>, kind: MemoryError) -> Values {
    Ok(vec![device.total_ecc_errors(kind, EccCounter::Volatile)? as f64])
}

/// Power in W: as it is, where a field tells; `power_usage` is a mean over a second on many GPUs.
fn power(device: &Device<'_>) -> Values {
    let instant = fields(device, &[field_id::NVML_FI_DEV_POWER_INSTANT]);
    let milliwatts = match instant.as_deref() {
        Ok([Some(value)]) if *value > 0.0 => *value,
        _ => f64::from(device.power_usage()?),
    };
    Ok(vec![milliwatts / 1e3])
}

fn pcie_totals(device: &Device<'_>) -> Values {
    let ids =
        [field_id::NVML_FI_DEV_PCIE_COUNT_TX_BYTES, field_id::NVML_FI_DEV_PCIE_COUNT_RX_BYTES];
    let values: Option<Vec<f64>> = fields(device, &ids)?.into_iter().collect();
    values.ok_or(NvmlError::NotSupported)
}

/// Values of fields by their numbers; `None` for those that this GPU does not have.
fn fields(device: &Device<'_>, ids: &[u32]) -> Result<Vec<Option<f64>>, NvmlError> {
    let ids: Vec<FieldId> = ids.iter().map(|id| FieldId(*id)).collect();
    let read = device.field_values_for(&ids)?;
    Ok(read.into_iter().map(|sample| Some(number(&sample.ok()?.value.ok()?))).collect())
}

pub(super) fn number(value: &SampleValue) -> f64 {
    match value {
        SampleValue::F64(v) => *v,
        SampleValue::U32(v) => f64::from(*v),
        SampleValue::U64(v) => *v as f64,
        SampleValue::I64(v) => *v as f64,
    }
}
