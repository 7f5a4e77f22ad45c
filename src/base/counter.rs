//! The counters that telemetry reads: which there are, of what, in which unit.
//!
//! A list of words with units, not a reader. Invariant: an id is never used for another meaning, as
//! recordings and exports carry it; a counter that is dropped keeps its place in the list.

use serde::{Deserialize, Serialize};

/// Where samples come from: what runs on one thread and is absent or present as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// The operating system's view of the machine.
    Host,
    /// The operating system's view of the watched process.
    Process,
    /// The management library of NVIDIA's driver.
    Nvml,
    /// A foreign server's own interface.
    Server,
}

impl Source {
    /// What a person reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Process => "process",
            Self::Nvml => "NVML",
            Self::Server => "server",
        }
    }
}

/// What a sample is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    /// The machine, or the container as far as it has limits of its own.
    Host,
    /// A logical processor, by the system's number.
    Core(u16),
    /// A process, by its id.
    Process(u32),
    /// A thread of the watched process, by its id.
    Thread(u32),
    /// A GPU, by NVML's index, which need not be CUDA's.
    Gpu(u8),
    /// A process's part of a GPU.
    GpuProcess {
        /// NVML's index.
        gpu: u8,
        /// The process, as the driver numbers it: outside of containers.
        pid: u32,
    },
    /// One of the sources itself: what observing costs.
    Observer(Source),
    /// The foreign server that is watched.
    Server,
    /// One of its slots, by its number.
    Slot(u16),
}

/// How values of a counter relate to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Course {
    /// The value as it is, or its mean since the sample before.
    Level,
    /// A count that only grows; the difference of two samples has the meaning.
    Total,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident: $id:literal, $unit:literal, $course:ident;)+) => {
        /// A counter. Units are SI, shares lie between 0 and 1.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        pub enum Counter {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Counter {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name in exports, the unit last.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// Its unit: `bytes`, `share`, `ns`, or what is counted.
            pub fn unit(self) -> &'static str {
                match self { $(Self::$name => $unit,)+ }
            }

            /// How its values relate to time.
            pub fn course(self) -> Course {
                match self { $(Self::$name => Course::$course,)+ }
            }
        }
    };
}

counters! {
    /// Share of a processor's (or all processors') time with work.
    CpuBusy: "cpu_busy_share", "share", Level;
    /// Share of that time in which the hypervisor ran something else.
    CpuStolen: "cpu_stolen_share", "share", Level;
    /// A processor's clock.
    CpuClock: "cpu_clock_hz", "Hz", Level;
    /// Memory that programs can still have without swapping.
    MemoryAvailable: "memory_bytes_available", "bytes", Level;
    /// Memory in swap.
    SwapUsed: "swap_bytes_used", "bytes", Level;
    /// Read back from swap.
    SwapIn: "swap_in_bytes", "bytes", Total;
    /// Written to swap.
    SwapOut: "swap_out_bytes", "bytes", Total;
    /// Share of the last ten seconds in which some task waited for a processor.
    PressureCpu: "pressure_cpu_share", "share", Level;
    /// The same for memory.
    PressureMemory: "pressure_memory_share", "share", Level;
    /// The same for storage.
    PressureIo: "pressure_io_share", "share", Level;
    /// Processors that the control group may use at once.
    CgroupCpus: "cgroup_cpus_max", "CPUs", Level;
    /// Periods in which the control group had used up its processor time.
    CgroupThrottled: "cgroup_throttled_periods", "periods", Total;
    /// Time for which it was then held.
    CgroupThrottledTime: "cgroup_throttled_ns", "ns", Total;
    /// Memory that the control group may use.
    CgroupMemoryMax: "cgroup_memory_bytes_max", "bytes", Level;
    /// Memory that it uses.
    CgroupMemory: "cgroup_memory_bytes_used", "bytes", Level;
    /// Processors that a process or thread kept busy.
    CpuUsed: "cpu_used_cpus", "CPUs", Level;
    /// Time for which a process's threads could have run but had no processor; of threads that have
    /// ended nothing is left, so it may fall.
    RunQueueWait: "run_queue_wait_ns", "ns", Total;
    /// Times that a process's threads waited of themselves.
    VoluntarySwitches: "voluntary_switches", "switches", Total;
    /// Times that they were made to.
    InvoluntarySwitches: "involuntary_switches", "switches", Total;
    /// Pages that had to be read from storage.
    MajorFaults: "major_faults", "faults", Total;
    /// Pages that were at hand.
    MinorFaults: "minor_faults", "faults", Total;
    /// Read from storage by a process.
    DiskRead: "disk_read_bytes", "bytes", Total;
    /// Written to storage by a process.
    DiskWritten: "disk_written_bytes", "bytes", Total;
    /// A process's memory that is present.
    Resident: "resident_bytes", "bytes", Level;
    /// Threads of a process.
    Threads: "threads", "threads", Level;
    /// Share of time in which some kernel ran on the GPU; says nothing of how well it filled it.
    GpuBusy: "gpu_busy_share", "share", Level;
    /// Share of time in which the GPU's memory was read or written.
    GpuMemoryBusy: "gpu_memory_busy_share", "share", Level;
    /// All of the GPU's memory.
    VramTotal: "vram_bytes_total", "bytes", Level;
    /// What is used of it.
    VramUsed: "vram_bytes_used", "bytes", Level;
    /// What is free.
    VramFree: "vram_bytes_free", "bytes", Level;
    /// Size of the window through which the host reaches the GPU's memory.
    Bar1Total: "bar1_bytes_total", "bytes", Level;
    /// What is used of it.
    Bar1Used: "bar1_bytes_used", "bytes", Level;
    /// Generation of the PCIe link as it is; it falls when the GPU idles.
    PcieGeneration: "pcie_generation", "generation", Level;
    /// The highest that GPU and slot can do.
    PcieGenerationMax: "pcie_generation_max", "generation", Level;
    /// Lanes of the link as it is.
    PcieWidth: "pcie_width_lanes", "lanes", Level;
    /// The most that GPU and slot can do.
    PcieWidthMax: "pcie_width_lanes_max", "lanes", Level;
    /// Sent by the GPU over PCIe.
    PcieSent: "pcie_sent_bytes", "bytes", Total;
    /// Received by the GPU over PCIe.
    PcieReceived: "pcie_received_bytes", "bytes", Total;
    /// The same as rates over 20 ms, where there are no totals.
    PcieSentRate: "pcie_sent_bytes_per_s", "bytes/s", Level;
    /// See [`Self::PcieSentRate`].
    PcieReceivedRate: "pcie_received_bytes_per_s", "bytes/s", Level;
    /// Packets that had to be sent again.
    PcieReplays: "pcie_replays", "replays", Total;
    /// Clock of the GPU's processors.
    GpuClock: "gpu_clock_hz", "Hz", Level;
    /// The highest that it can do.
    GpuClockMax: "gpu_clock_hz_max", "Hz", Level;
    /// Clock of the GPU's memory.
    VramClock: "vram_clock_hz", "Hz", Level;
    /// The highest that it can do.
    VramClockMax: "vram_clock_hz_max", "Hz", Level;
    /// Why clocks are lower than they could be: bits as NVML gives them.
    ThrottleReasons: "throttle_reasons_bits", "bits", Level;
    /// Time for which power kept clocks low.
    ThrottledByPower: "throttled_by_power_ns", "ns", Total;
    /// Time for which heat kept clocks low.
    ThrottledByHeat: "throttled_by_heat_ns", "ns", Total;
    /// Performance state: 0 is the highest.
    PerformanceState: "performance_state", "state", Level;
    /// Power that the GPU draws.
    Power: "power_w", "W", Level;
    /// The most that it may draw.
    PowerLimit: "power_w_max", "W", Level;
    /// Energy that it has used.
    Energy: "energy_j", "J", Total;
    /// Its temperature.
    Temperature: "temperature_c", "°C", Level;
    /// Memory errors that were corrected, since the driver was loaded.
    EccCorrected: "ecc_corrected_errors", "errors", Total;
    /// Memory errors that were not.
    EccUncorrected: "ecc_uncorrected_errors", "errors", Total;
    /// A critical error: the driver's XID number, when it happened.
    Xid: "xid", "number", Level;
    /// Processor time that one reading took.
    ReadingCost: "reading_cpu_ns", "ns", Level;
    /// Time from a reading's begin to its end, waits included.
    ReadingTime: "reading_ns", "ns", Level;
    /// Requests that a server can work on at once.
    SlotsTotal: "slots", "slots", Level;
    /// Those on which it works; of a single slot 0 or 1.
    SlotsBusy: "slots_busy", "slots", Level;
    /// Requests that wait until it has a slot for them.
    RequestsQueued: "requests_queued", "requests", Level;
    /// Tokens of prompts that it has read.
    PromptTokens: "prompt_tokens", "tokens", Total;
    /// Tokens that it has written.
    DecodedTokens: "decoded_tokens", "tokens", Total;
    /// Tokens of prompts for each second that it read them: its own figure.
    PromptRate: "prompt_tokens_per_s", "tokens/s", Level;
    /// Tokens for each second that it wrote them: its own figure.
    DecodeRate: "decode_tokens_per_s", "tokens/s", Level;
    /// Share of its KV cache that is in use.
    KvUsed: "kv_used_share", "share", Level;
    /// Tokens of context that a slot has.
    SlotContext: "slot_context_tokens", "tokens", Level;
    /// Tokens of the prompt of a slot's request.
    SlotPrompt: "slot_prompt_tokens", "tokens", Level;
    /// Tokens that a slot has written for its request.
    SlotDecoded: "slot_decoded_tokens", "tokens", Level;
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_counter_has_an_id_of_its_own() {
        let ids: HashSet<&str> = Counter::ALL.iter().map(|c| c.id()).collect();
        assert_eq!(ids.len(), Counter::ALL.len());
        let word = |id: &str| id.bytes().all(|b| b.is_ascii_lowercase() || b"_1".contains(&b));
        assert!(ids.iter().all(|id| word(id)), "{ids:?}");
    }
}
