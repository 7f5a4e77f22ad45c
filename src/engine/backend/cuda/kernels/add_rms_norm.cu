// ADD and the RMS_NORM that follows it, in one pass over rows without gaps, one block per row. The host
// joins the two operations; see launch/fuse.rs for when.
#include "rms_norm.cuh"

CUDA_KERNEL(add_rms_norm_f32, AddNormParams, 1024) {
    begin_after_earlier_work();
    add_and_norm_row(p);
}
