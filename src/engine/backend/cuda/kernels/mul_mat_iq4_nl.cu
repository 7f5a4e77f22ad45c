// MUL_MAT with IQ4_NL weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(iq4_nl, Quantized<IQ4_NL>)
