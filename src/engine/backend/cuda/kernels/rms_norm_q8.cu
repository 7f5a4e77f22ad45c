// RMS_NORM, with or without the ADD before it, and its result in 8 bits as products of a few columns take
// it (see quantize.cu). One block per row. The host joins them; see launch/fuse_rounding.rs for when.
#include "activations.cuh"
#include "rms_norm.cuh"

CUDA_KERNEL(rms_norm_q8, NormQ8Params, 1024) {
    begin_after_earlier_work();
    norm_row(p.norm);
    __syncthreads();
    const float* x = p.norm.dst + blockIdx.x % p.norm.ne1 * p.norm.dst_row + blockIdx.x / p.norm.ne1 * p.norm.dst_plane;
    quantize_row(x, p.rounded.out + blockIdx.x * p.rounded.out_bytes, p.norm.ne0, 0, 1);
}

CUDA_KERNEL(add_rms_norm_q8, AddNormQ8Params, 1024) {
    begin_after_earlier_work();
    add_and_norm_row(p.norm);
    __syncthreads();
    const float* x = p.norm.dst + static_cast<u64>(blockIdx.x) * p.norm.ne0;
    quantize_row(x, p.rounded.out + blockIdx.x * p.rounded.out_bytes, p.norm.ne0, 0, 1);
}
