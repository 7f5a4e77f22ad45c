// MUL_MAT with MXFP4 weights, few columns.
#include "mul_mat_few.cuh"
#include "mul_mat_vec.cuh"

MUL_MAT_VEC_KERNELS(mxfp4, MXFP4)
MUL_MAT_FEW_KERNEL(mul_mat_few_mxfp4, MXFP4)
