// RMS_NORM over rows, one block per row.
#include "rms_norm.cuh"

CUDA_KERNEL(rms_norm_f32, RowParams, 1024) {
    begin_after_earlier_work();
    norm_row(p);
}
