// What every kernel uses: the kernel's definition, shared memory, wrappers of PTX, reductions.
//
// This is the one file with inline PTX. fixtures/cuda_emulator/cuda_cpu.h defines the same names for
// the CPU, so a kernel includes this file and nothing of CUDA's own.
#pragma once

#ifndef CUDA_CPU
#include <cuda_fp16.h>

typedef unsigned char uint8_t;
typedef signed char int8_t;
typedef unsigned short uint16_t;
typedef short int16_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned long long uint64_t;
typedef long long int64_t;
#define INFINITY __int_as_float(0x7f800000)

// `CUDA_KERNEL(name, Params, threads_max[, blocks_min]) { … p.… }`: a kernel with one argument.
#define CUDA_KERNEL(name, Params, ...) \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__) name(const Params p)

// `SHARED_ARRAY(float, sums, 32)`; for rows, name a type first: `using Row = float[17];`.
#define SHARED_ARRAY(type, name, count) __shared__ __align__(16) type name[count]
// The bytes that the launch asked for, aligned to 16.
#define DYNAMIC_SHARED(type, name)                              \
    extern __shared__ __align__(16) unsigned char shared_bytes[]; \
    type* name = reinterpret_cast<type*>(shared_bytes)

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// ---- cp.async: copies from global to shared memory past the registers (8.0 and up) ----
//
// A thread sees its own copies after cp_async_wait, the others' after a barrier that follows it.
// Older devices copy at once.

template <int BYTES>
struct Word;
template <>
struct Word<4> {
    typedef uint32_t Type;
};
template <>
struct Word<8> {
    typedef uint2 Type;
};
template <>
struct Word<16> {
    typedef uint4 Type;
};

// Copies BYTES (4, 8, 16; both sides aligned to it), or zeroes them where `take` is false; then
// `global` is not read but must still be a valid address.
template <int BYTES>
__device__ __forceinline__ void cp_async_or_zero(void* shared, const void* global, bool take) {
#if __CUDA_ARCH__ >= 800
    const int bytes_read = take ? BYTES : 0;
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                     "l"(global), "r"(bytes_read)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)),
                     "l"(global), "n"(BYTES), "r"(bytes_read)
                     : "memory");
    }
#else
    typedef typename Word<BYTES>::Type T;
    *static_cast<T*>(shared) = take ? *static_cast<const T*>(global) : T{};
#endif
}

template <int BYTES>
__device__ __forceinline__ void cp_async(void* shared, const void* global) {
#if __CUDA_ARCH__ >= 800
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
                     "l"(global)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared_address(shared)),
                     "l"(global), "n"(BYTES)
                     : "memory");
    }
#else
    typedef typename Word<BYTES>::Type T;
    *static_cast<T*>(shared) = *static_cast<const T*>(global);
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for all of this thread's groups but the latest PENDING.
template <int PENDING>
__device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// ---- Tensor cores ----
//
// Fragments of lane l, with group = l / 4 and member = l % 4 (PTX ISA, "mma.m16n8k16"):
//   a[0] row group, a[1] row group + 8; k from 2 · member (16-bit) or 4 · member (8-bit); a[2], a[3]
//   the same rows in the next 8 (16) of k; b[0], b[1] column group, the same k;
//   d[0], d[1] row group, columns 2 · member and the next; d[2], d[3] row group + 8.

__device__ __forceinline__ void mma_m16n8k8_f16(float* d, const uint32_t* a, const uint32_t* b) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

__device__ __forceinline__ void mma_m16n8k16_f16(float* d, const uint32_t* a, const uint32_t* b) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_m16n8k8_f16(d, a, b);
    mma_m16n8k8_f16(d, a + 2, b + 1);
#endif
}

#if __CUDA_ARCH__ >= 800
__device__ __forceinline__ void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

__device__ __forceinline__ void mma_m8n8k16_s8(int* d, uint32_t a, uint32_t b) {
    asm volatile(
        "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
        : "+r"(d[0]), "+r"(d[1])
        : "r"(a), "r"(b));
}

__device__ __forceinline__ void mma_m16n8k32_s8(int* d, const uint32_t* a, const uint32_t* b) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_m8n8k16_s8(d, a[0], b[0]);
    mma_m8n8k16_s8(d, a[2], b[1]);
    mma_m8n8k16_s8(d + 2, a[1], b[0]);
    mma_m8n8k16_s8(d + 2, a[3], b[1]);
#endif
}

// ldmatrix: 8x8 matrices of 16-bit elements from shared memory into fragments. Lanes 8m … 8m+7 name
// the rows (16 bytes, aligned) of matrix m, which lands in registers[m].
__device__ __forceinline__ void ldmatrix_x2(uint32_t* registers, const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x4(uint32_t* registers, const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t* registers, const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t* registers, const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// ---- Programmatic dependent launch (9.0 and up) ----
//
// A kernel may start while the one before it still runs, if the host allows it. Every thread of such a
// kernel calls wait_for_earlier_work before it reads what another kernel wrote, and before it writes
// anything; weights it may read at once. Older devices run kernels one after the other.

// From here on the next kernel may start where there is room.
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Returns when all kernels before this one have ended and their results can be read.
__device__ __forceinline__ void wait_for_earlier_work() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// ---- Loads and fast mathematics ----

// For data that is read once, such as weights in decode: read-only, and first out of the caches.
template <class T>
__device__ __forceinline__ T load_streaming(const T* from) {
    if constexpr (sizeof(T) == 16) {
        uint4 w;
        asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(w.x), "=r"(w.y), "=r"(w.z), "=r"(w.w)
                     : "l"(from));
        return reinterpret_cast<T&>(w);
    } else if constexpr (sizeof(T) == 8) {
        uint2 w;
        asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
                     : "=r"(w.x), "=r"(w.y)
                     : "l"(from));
        return reinterpret_cast<T&>(w);
    } else if constexpr (sizeof(T) == 4) {
        uint32_t w;
        asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(w) : "l"(from));
        return reinterpret_cast<T&>(w);
    } else {
        static_assert(sizeof(T) == 2);
        uint16_t w;
        asm volatile("ld.global.nc.L1::no_allocate.u16 %0, [%1];" : "=h"(w) : "l"(from));
        return reinterpret_cast<T&>(w);
    }
}

// 2^x, relative error about 2^-22.
__device__ __forceinline__ float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// tanh(x), relative error about 2^-11.
__device__ __forceinline__ float fast_tanh(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif  // CUDA_CPU

// Macros, because the compiler writes constants of a file into the PTX as variables.
#define WARP_LANES 32u
#define ALL_LANES 0xffffffffu
#define NAN_F32 __int_as_float(0x7fffffff)

// For kernels that have nothing to do before the wait.
__device__ __forceinline__ void begin_after_earlier_work() {
    let_next_kernel_start();
    wait_for_earlier_work();
}

// ---- Reductions ----
//
// All lanes of the warp must call them, and all get the result.

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        value += __shfl_xor_sync(ALL_LANES, value, offset);
    }
    return value;
}

__device__ __forceinline__ int warp_sum(int value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        value += __shfl_xor_sync(ALL_LANES, value, offset);
    }
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, offset));
    }
    return value;
}

// Over all threads of a block of one dimension. `partial` is shared memory for one float per warp,
// free for the next call after this one returns.
template <class Reduce>
__device__ __forceinline__ float block_reduce(float value, float identity, float* partial,
                                              Reduce reduce) {
    value = reduce(value);
    const unsigned warps = blockDim.x / WARP_LANES;
    if (warps == 1) return value;
    const unsigned lane = threadIdx.x % WARP_LANES;
    if (lane == 0) partial[threadIdx.x / WARP_LANES] = value;
    __syncthreads();
    value = reduce(lane < warps ? partial[lane] : identity);
    __syncthreads();
    return value;
}

__device__ __forceinline__ float block_sum(float value, float* partial) {
    return block_reduce(value, 0.0f, partial, [](float v) { return warp_sum(v); });
}

__device__ __forceinline__ float block_max(float value, float* partial) {
    return block_reduce(value, -INFINITY, partial, [](float v) { return warp_max(v); });
}

// ---- Small helpers ----

template <class T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
    return (a + b - 1) / b;
}

// Two floats as the two halves of a fragment's register, `low` in the low bits.
__device__ __forceinline__ uint32_t pack_half2(float low, float high) {
    const half2 pair = __floats2half2_rn(low, high);
    uint32_t word;
    memcpy(&word, &pair, sizeof word);
    return word;
}

__device__ __forceinline__ float bf16_to_float(uint16_t bits) {
    return __uint_as_float(static_cast<uint32_t>(bits) << 16);
}

// Rounds to nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ uint16_t float_to_bf16(float value) {
    const uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 64u);
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
