//! The list of all rules. A rule that is not here does not exist.

use super::rule::Rule;
use super::rules;

/// All rules, in the order of the taxonomy.
pub static RULES: &[&Rule] = &[
    &rules::gpu_backend_library_missing::RULE,
    &rules::build_without_gpu_support::RULE,
    &rules::invalid_library_override::RULE,
    &rules::gpu_compute_capability_too_low::RULE,
    &rules::cpu_lacks_avx::RULE,
    &rules::driver_too_old::RULE,
    &rules::driver_container_mismatch::RULE,
    &rules::driver_state_lost_after_suspend::RULE,
    &rules::nvidia_uvm_not_ready::RULE,
    &rules::container_no_gpu_access::RULE,
    &rules::container_gpu_lost_cgroup::RULE,
    &rules::discovery_timeout::RULE,
    &rules::rocm_gfx_unsupported::RULE,
    &rules::rocm_runtime_dep_missing::RULE,
    &rules::rocm_device_permission::RULE,
    &rules::vulkan_device_selection::RULE,
    &rules::igpu_weak::RULE,
    &rules::discovery_crashed::RULE,
    &rules::driver_not_loaded::RULE,
    &rules::gpu_hardware_error::RULE,
    &rules::no_gpu_found::RULE,
];
