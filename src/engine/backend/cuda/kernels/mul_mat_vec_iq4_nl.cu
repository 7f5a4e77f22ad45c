// MUL_MAT with IQ4_NL weights, few columns.
#include "mul_mat_few.cuh"
#include "mul_mat_vec.cuh"

MUL_MAT_VEC_KERNELS(iq4_nl, IQ4_NL)
MUL_MAT_FEW_KERNEL(mul_mat_few_iq4_nl, IQ4_NL)
