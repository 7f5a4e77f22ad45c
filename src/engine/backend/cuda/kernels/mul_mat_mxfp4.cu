// MUL_MAT with MXFP4 weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(mxfp4, Quantized<MXFP4>)
