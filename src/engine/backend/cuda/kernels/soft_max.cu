// SOFT_MAX over rows, one block per row.
#include "soft_max.cuh"

CUDA_KERNEL(soft_max_f32, RowParams, 1024) {
    begin_after_earlier_work();
    soft_max_of_row(p);
}
