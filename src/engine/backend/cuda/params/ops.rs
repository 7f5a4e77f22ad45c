//! Arguments of everything but the matrix products; twins of the structs in
//! `kernels/params_ops.cuh`.
