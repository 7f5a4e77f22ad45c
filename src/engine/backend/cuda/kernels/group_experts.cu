// Sorts the pairs of a product by expert, and cuts each expert's pairs into tiles.
//
// `groups` gets: the number of tiles and 3 zeros; then for each tile {expert, first, count, 0},
// `first` counting in the list; then the list of pairs by expert. Pairs whose id names no expert come
// last, as tiles of expert -1. There are at most pairs / tile + n_expert + 1 tiles. The order of an
// expert's pairs may differ from run to run; no result depends on it.
#include "params_matmul.cuh"

// One block of 1024 threads. Shared memory: 2 · (n_expert + 1) ints.
CUDA_KERNEL(group_experts, GroupExpertsParams, 1024) {
    DYNAMIC_SHARED(int, counts);
    const int buckets = p.n_expert + 1;
    int* next = counts + buckets;
    int* tiles = p.groups + 4;
    int* list = tiles + 4 * (p.pairs / p.tile + buckets);
    const auto bucket_of = [&](int pair) {
        const uint8_t* ids = reinterpret_cast<const uint8_t*>(p.ids) + pair / p.slots * p.ids_token_bytes;
        const int id = reinterpret_cast<const int*>(ids)[pair % p.slots];
        return id >= 0 && id < p.n_expert ? id : p.n_expert;
    };
    for (int e = threadIdx.x; e < buckets; e += blockDim.x) counts[e] = 0;
    __syncthreads();
    for (int pair = threadIdx.x; pair < p.pairs; pair += blockDim.x) atomicAdd(&counts[bucket_of(pair)], 1);
    __syncthreads();
    for (int e = threadIdx.x; e < buckets; e += blockDim.x) {
        int first = 0, tile = 0;
        for (int before = 0; before < e; before++) {
            first += counts[before];
            tile += ceil_div(counts[before], p.tile);
        }
        next[e] = first;
        for (int i = 0; i < counts[e]; i += p.tile, tile++) {
            const int count = min(p.tile, counts[e] - i);
            reinterpret_cast<int4*>(tiles)[tile] = make_int4(e < p.n_expert ? e : -1, first + i, count, 0);
        }
        if (e == buckets - 1) *reinterpret_cast<int4*>(p.groups) = make_int4(tile, 0, 0, 0);
    }
    __syncthreads();
    for (int pair = threadIdx.x; pair < p.pairs; pair += blockDim.x) {
        list[atomicAdd(&next[bucket_of(pair)], 1)] = pair;
    }
}
