//! Arguments of the matrix products; twins of the structs in `kernels/params_matmul.cuh`.
