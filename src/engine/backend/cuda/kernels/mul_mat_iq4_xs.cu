// MUL_MAT with IQ4_XS weights, many columns.
#include "mul_mat.cuh"

MUL_MAT_KERNELS(iq4_xs, Quantized<IQ4_XS>)
