// MUL_MAT of one column with matrices in Q5_K and Q6_K.
#include "mul_mat_vec.cuh"

MUL_MAT_VEC_MIXED_KERNEL(mul_mat_vec_q5_k_q6_k, Q5_K, Q6_K)
