//! One file per rule, named as its id with underscores. Each has its documentation, its check, and
//! tests with what must trigger it and what must not. `fixtures/rules/<id>/` has logs for both.

pub(super) mod build_without_gpu_support;
pub(super) mod container_gpu_lost_cgroup;
pub(super) mod container_no_gpu_access;
pub(super) mod cpu_lacks_avx;
pub(super) mod discovery_crashed;
pub(super) mod discovery_timeout;
pub(super) mod driver_container_mismatch;
pub(super) mod driver_not_loaded;
pub(super) mod driver_state_lost_after_suspend;
pub(super) mod driver_too_old;
pub(super) mod gpu_backend_library_missing;
pub(super) mod gpu_compute_capability_too_low;
pub(super) mod gpu_hardware_error;
pub(super) mod igpu_weak;
pub(super) mod invalid_library_override;
pub(super) mod no_gpu_found;
pub(super) mod nvidia_uvm_not_ready;
pub(super) mod rocm_device_permission;
pub(super) mod rocm_gfx_unsupported;
pub(super) mod rocm_runtime_dep_missing;
pub(super) mod vulkan_device_selection;
