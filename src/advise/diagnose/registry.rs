//! The list of all rules. A rule that is not here does not exist.

use super::rule::Rule;
use super::rules;

/// All rules, in the order of the taxonomy; those that extend it stand beside their kin.
pub static RULES: &[&Rule] = &[
    &rules::model_exceeds_vram::RULE,
    &rules::context_kv_too_large::RULE,
    &rules::parallel_multiplies_kv::RULE,
    &rules::parallel_slots_reduced::RULE,
    &rules::default_context_tier::RULE,
    &rules::compute_graph_too_large::RULE,
    &rules::output_layer_too_large::RULE,
    &rules::memory_estimate_too_high::RULE,
    &rules::estimate_too_low_oom::RULE,
    &rules::vram_used_by_other_process::RULE,
    &rules::models_share_vram::RULE,
    &rules::vram_not_released::RULE,
    &rules::vram_wait_warning_benign::RULE,
    &rules::system_ram_insufficient::RULE,
    &rules::gpu_layers_set_by_user::RULE,
    &rules::kv_cache_on_cpu::RULE,
    &rules::kv_quant_attention_on_cpu::RULE,
    &rules::op_unsupported_on_backend::RULE,
    &rules::flash_attention_unavailable::RULE,
    &rules::batch_too_small::RULE,
    &rules::multi_gpu_split_overhead::RULE,
    &rules::gpu_too_small_in_mixed_set::RULE,
    &rules::metal_working_set_exceeded::RULE,
    &rules::windows_shared_memory_spill::RULE,
    &rules::expected_behaviour::RULE,
    &rules::gpus_take_turns::RULE,
    &rules::graph_splits_normal::RULE,
    &rules::busy_core_normal::RULE,
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
    &rules::ngl_not_set::RULE,
    &rules::ngl_param_misspelled::RULE,
    &rules::too_many_threads::RULE,
    &rules::numa_placement::RULE,
    &rules::vulkan_device_selection::RULE,
    &rules::igpu_weak::RULE,
    &rules::reload_option_mismatch::RULE,
    &rules::prompt_truncated::RULE,
    &rules::context_shift_loop::RULE,
    &rules::load_timeout_slow_storage::RULE,
    &rules::gpu_power_cap::RULE,
    &rules::discovery_crashed::RULE,
    &rules::driver_not_loaded::RULE,
    &rules::gpu_hardware_error::RULE,
    &rules::mlock_failed::RULE,
    &rules::model_eviction_thrash::RULE,
    &rules::no_gpu_found::RULE,
    &rules::prompt_reprocessed::RULE,
    &rules::queue_full::RULE,
    &rules::removed_option::RULE,
    &rules::sampling_dominates::RULE,
    &rules::setting_disables_gpu::RULE,
    &rules::unknown_setting::RULE,
    &rules::cuda_device_unavailable::RULE,
    &rules::cuda_kernel_failed::RULE,
    &rules::projector_on_cpu::RULE,
    &rules::draft_model_on_cpu::RULE,
    &rules::experts_on_cpu::RULE,
    &rules::decode_slows_with_depth::RULE,
    &rules::pipeline_parallel_off::RULE,
    &rules::cuda_graphs_off::RULE,
    &rules::decode_at_memory_speed::RULE,
    &rules::kv_cache_full::RULE,
    &rules::devices_take_turns::RULE,
    &rules::copy_stalls::RULE,
    &rules::pcie_link_degraded::RULE,
    &rules::cpu_quota_throttled::RULE,
    &rules::cpu_used_by_others::RULE,
    &rules::weights_paged_in::RULE,
    &rules::served_model_on_cpu::RULE,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `rule` can be reached from itself by what it follows from.
    fn turns_in_a_circle(rule: &Rule) -> bool {
        let mut seen: Vec<&str> = Vec::new();
        let mut ahead = rule.follows_from.to_vec();
        while let Some(id) = ahead.pop() {
            if seen.contains(&id) {
                continue;
            }
            seen.push(id);
            ahead.extend(RULES.iter().filter(|r| r.id == id).flat_map(|r| r.follows_from));
        }
        seen.contains(&rule.id)
    }

    #[test]
    fn no_rule_follows_from_itself() {
        // Two findings that follow from each other would both be hidden.
        let circles: Vec<&str> =
            RULES.iter().filter(|r| turns_in_a_circle(r)).map(|r| r.id).collect();
        assert!(circles.is_empty(), "{circles:?}");
    }
}
