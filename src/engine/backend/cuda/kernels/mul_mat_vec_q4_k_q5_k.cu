// MUL_MAT of one column with matrices in Q4_K and Q5_K.
#include "mul_mat_vec.cuh"

MUL_MAT_VEC_MIXED_KERNEL(mul_mat_vec_q4_k_q5_k, Q4_K, Q5_K)
