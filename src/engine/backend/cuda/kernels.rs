//! The kernels of one device: embedded PTX, compiled by the driver when a program first needs it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::clock::now_ns;

use super::driver::{Context, CudaError, Function, Module};
use super::ptx::{UNITS, Unit};

/// Dynamic shared memory that every launch may ask for without being allowed to.
const SHARED_BYTES_UNASKED: u32 = 48 << 10;

/// Set to anything but 0, it keeps kernels from starting before the ones before them have ended.
const NO_OVERLAP: &str = "GPUWHY_NO_CUDA_OVERLAP";

/// The first devices with programmatic dependent launch, and the first driver that captures it into a
/// graph.
const OVERLAP_CAPABILITY_MIN: (u32, u32) = (9, 0);
const OVERLAP_DRIVER_MIN: i32 = 12_030;

/// A kernel that could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoKernel {
    /// No embedded PTX defines it for this device.
    #[error("kernel {name} is not built for compute capability {}.{}", compute_capability.0,
        compute_capability.1)]
    NotBuilt { name: &'static str, compute_capability: (u32, u32) },
    /// The driver refused it.
    #[error(transparent)]
    Driver(#[from] CudaError),
}

/// See the module.
pub(super) struct Kernels {
    context: Arc<Context>,
    modules: HashMap<&'static str, Arc<Module>>,
    functions: HashMap<&'static str, (Function, u32)>,
    /// Whether the driver and the device can start a kernel while another one runs.
    overlap: bool,
    compile_ns: u64,
}

impl Kernels {
    /// The kernels of a device, with a driver for this version of CUDA.
    pub(super) fn new(context: &Arc<Context>, driver_version: i32) -> Self {
        let asked = std::env::var(NO_OVERLAP).is_ok_and(|v| v != "0");
        let overlap = !asked
            && driver_version >= OVERLAP_DRIVER_MIN
            && context.traits.compute_capability >= OVERLAP_CAPABILITY_MIN;
        let context = Arc::clone(context);
        let (modules, functions) = (HashMap::new(), HashMap::new());
        Self { context, modules, functions, overlap, compile_ns: 0 }
    }

    /// Time that the driver has spent on compiling PTX, or on finding it in its cache.
    pub(super) fn compile_ns(&self) -> u64 {
        self.compile_ns
    }

    /// A kernel that may use so much dynamic shared memory.
    pub(super) fn get(&mut self, name: &'static str, shared: u32) -> Result<Function, NoKernel> {
        if !self.functions.contains_key(name) {
            let (module, ptx) = self.module_of(name)?;
            let overlaps = self.overlap && waits_for_earlier_work(ptx, name);
            let function = Function::get(&module, name, overlaps)?;
            self.functions.insert(name, (function, SHARED_BYTES_UNASKED));
        }
        let compute_capability = self.context.traits.compute_capability;
        let not_built = NoKernel::NotBuilt { name, compute_capability };
        let (function, allowed) = self.functions.get_mut(name).ok_or(not_built)?;
        if shared > *allowed {
            function.allow_shared(shared)?;
            *allowed = shared;
        }
        Ok(function.clone())
    }

    fn module_of(&mut self, name: &'static str) -> Result<(Arc<Module>, &'static str), NoKernel> {
        let compute_capability = self.context.traits.compute_capability;
        let unit = UNITS.iter().find(|u| u.kernels.contains(&name));
        let ptx = unit.and_then(|unit| Some((unit, ptx_for(unit, compute_capability)?)));
        let (unit, ptx) = ptx.ok_or(NoKernel::NotBuilt { name, compute_capability })?;
        if let Some(module) = self.modules.get(unit.name) {
            return Ok((Arc::clone(module), ptx));
        }
        let start_ns = now_ns();
        let module = Module::load(&self.context, ptx)?;
        self.compile_ns += now_ns() - start_ns;
        self.modules.insert(unit.name, Arc::clone(&module));
        Ok((module, ptx))
    }
}

/// Whether a kernel waits, before it reads anything that changes, for kernels that still run: only then
/// may it start early. See `wait_for_earlier_work` in `kernels/device.cuh`.
fn waits_for_earlier_work(ptx: &str, name: &str) -> bool {
    let body = ptx
        .split(".entry ")
        .find(|body| body.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')));
    body.is_some_and(|body| body.contains("griddepcontrol.wait"))
}

/// The PTX for the highest capability that a device has. PTX for an "a" target, which uses what only
/// one generation has, serves that one alone.
fn ptx_for(unit: &Unit, device: (u32, u32)) -> Option<&'static str> {
    let fits = |&&(needs, ptx): &&((u32, u32), &'static str)| {
        needs == device || needs < device && !is_bound_to_generation(ptx)
    };
    unit.ptx.iter().filter(fits).max_by_key(|p| p.0).map(|p| p.1)
}

fn is_bound_to_generation(ptx: &str) -> bool {
    let target = ptx.lines().find_map(|l| l.strip_prefix(".target "));
    target.is_some_and(|t| t.split(',').next().unwrap_or_default().trim().ends_with('a'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Unit = Unit {
        name: "x",
        kernels: &["x"],
        ptx: &[
            ((7, 5), ".target sm_75\nold"),
            ((8, 0), ".target sm_80\nnew"),
            ((9, 0), ".target sm_90a, debug\nhopper"),
        ],
    };

    #[test]
    fn a_device_gets_the_newest_ptx_that_it_can_run() {
        let found = |device| ptx_for(&UNIT, device).map(|p| p.lines().last().unwrap());
        assert_eq!(found((7, 0)), None);
        assert_eq!(found((7, 5)), Some("old"));
        assert_eq!(found((8, 9)), Some("new"));
        assert_eq!(found((9, 0)), Some("hopper"));
        assert_eq!(found((10, 0)), Some("new"));
    }

    #[test]
    fn kernels_of_decode_wait_for_earlier_work() {
        let waits = |name| {
            let unit = UNITS.iter().find(|u| u.kernels.contains(&name)).unwrap();
            let at = |device| waits_for_earlier_work(ptx_for(unit, device).unwrap(), name);
            assert!(!at((8, 0)), "{name}: 8.0 knows no such instruction");
            at((9, 0))
        };
        for name in [
            "mul_mat_vec_q4_k",
            "mul_mat_vec_glu_q6_k",
            "mul_mat_vec_q4_k_q6_k",
            "mul_mat_vec_f16",
            "rms_norm_f32",
            "add_rms_norm_f32",
            "rope_set_rows_f16",
            "flash_attn_few_128",
            "flash_attn_merge",
            "mul_mat_few_q4_k",
            "add_rms_norm_q8",
            "glu_q8",
            "router_f32",
        ] {
            assert!(waits(name), "{name}");
        }
        assert!(!waits("mul_mat_wide_q4_k"), "prompts gain nothing by it");
    }

    #[test]
    fn every_unit_serves_the_oldest_device() {
        for unit in UNITS {
            assert!(ptx_for(unit, (7, 5)).is_some(), "{}", unit.name);
        }
    }
}
