//! Turns nodes into kernel launches: which kernel, what grid, which arguments.
//!
//! Pure arithmetic: it calls no driver and knows addresses only as numbers. Invariant: launches
//! depend on shapes, types and addresses alone, never on the data, so that a program can be
//! replayed, or captured once into a graph. One file per operation; [`plan`] and [`supports`] only
//! choose among them.

mod binary;
mod concat;
mod expert_sum;
mod expert_weights;
mod experts;
mod flash_attn;
mod fuse;
mod fuse_products;
mod fuse_rounding;
mod get_rows;
mod glu;
mod matmul;
mod mul_mat_vec;
mod products;
mod rms_norm;
mod rope;
mod rows;
mod scale;
mod scratch;
mod set_rows;
mod soft_max;
mod top_k;
mod zip;

use bytemuck::Pod;

use crate::engine::graph::Op;
use crate::engine::tensor::DType;

pub(super) use fuse::fuse;
pub(super) use mul_mat_vec::read_before_the_wait;
pub(super) use scratch::ScratchPlan;

/// A tensor on the device: address, type, extents in elements, strides in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operand {
    pub(super) address: u64,
    pub(super) dtype: DType,
    pub(super) ne: [usize; 4],
    pub(super) nb: [usize; 4],
}

impl Operand {
    /// Rows: everything but `ne[0]`.
    pub(super) fn rows(&self) -> usize {
        self.ne[1] * self.ne[2] * self.ne[3]
    }

    /// Bytes from the first to one past the last element, gaps between rows included.
    pub(super) fn span_bytes(&self) -> usize {
        if self.ne.contains(&0) {
            return 0;
        }
        let row = self.ne[0] / self.dtype.block_len() * self.dtype.block_bytes();
        row + (1..4).map(|i| (self.ne[i] - 1) * self.nb[i]).sum::<usize>()
    }

    /// True when rows follow each other without gaps.
    pub(super) fn is_contiguous(&self) -> bool {
        let row = self.ne[0] / self.dtype.block_len() * self.dtype.block_bytes();
        let mut next = row;
        (1..4).all(|i| {
            let fits = self.ne[i] == 1 || self.nb[i] == next;
            next *= self.ne[i];
            fits
        })
    }
}

/// What a launch may depend on beside the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traits {
    /// Major and minor.
    pub(super) compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub(super) multiprocessors: u32,
    /// Shared memory that one block may ask for, in bytes.
    pub(super) shared_bytes_optin: u32,
}

/// The argument of a kernel: the bytes of its one struct, kept 8-byte aligned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParamBytes {
    words: Box<[u64]>,
    bytes: usize,
}

impl ParamBytes {
    /// The bytes of a kernel's struct.
    pub(super) fn new<P: Pod>(params: &P) -> Self {
        const { assert!(align_of::<P>() <= align_of::<u64>(), "kernels read words of 8 bytes") };
        let source = bytemuck::bytes_of(params);
        let mut words = vec![0u64; source.len().div_ceil(size_of::<u64>())];
        bytemuck::cast_slice_mut::<_, u8>(&mut words)[..source.len()].copy_from_slice(source);
        Self { words: words.into_boxed_slice(), bytes: source.len() }
    }

    /// The struct's bytes, 8-byte aligned.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }
}

/// One kernel launch; made when a program is compiled, replayed at every submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Launch {
    /// The kernel's name in its PTX.
    pub(super) kernel: &'static str,
    /// Blocks.
    pub(super) grid: [u32; 3],
    /// Threads of a block.
    pub(super) block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes. Above 48 KiB the host opts in for it.
    pub(super) shared_bytes: u32,
    /// The kernel's argument.
    pub(super) params: ParamBytes,
}

/// Plans the launches of one node, in the order in which they must run.
///
/// # Errors
/// What no kernel can do with these operands, in words.
pub(super) fn plan(
    op: &Op,
    src: &[Operand],
    dst: &Operand,
    traits: &Traits,
    scratch: &mut ScratchPlan,
    out: &mut Vec<Launch>,
) -> Result<(), String> {
    match *op {
        Op::GetRows => get_rows::plan(src, dst, traits, scratch, out),
        Op::MulMat => matmul::plan(src, dst, traits, scratch, out),
        Op::MulMatId => experts::plan(src, dst, traits, scratch, out),
        Op::RmsNorm { eps } => rms_norm::plan(eps, src, dst, traits, scratch, out),
        Op::Rope(params) => rope::plan(&params, src, dst, traits, scratch, out),
        Op::SetRows => set_rows::plan(src, dst, traits, scratch, out),
        Op::FlashAttn { scale, softcap } => {
            flash_attn::plan(scale, softcap, src, dst, traits, scratch, out)
        }
        Op::Add | Op::Mul => binary::plan(op, src, dst, traits, scratch, out),
        Op::Scale { factor } => scale::plan(factor, src, dst, traits, scratch, out),
        Op::Glu(kind) => glu::plan(kind, src, dst, traits, scratch, out),
        Op::SoftMax => soft_max::plan(src, dst, traits, scratch, out),
        Op::TopK { k } => top_k::plan(k, src, dst, traits, scratch, out),
        Op::ExpertWeights { normalise } => {
            expert_weights::plan(normalise, src, dst, traits, scratch, out)
        }
        Op::ExpertSum => expert_sum::plan(src, dst, traits, scratch, out),
        Op::Concat => concat::plan(src, dst, out),
    }
}

/// Whether there is a kernel for `op` on operands of these types.
///
/// # Errors
/// The reason why not, in words.
pub(super) fn supports(op: &Op, src: &[DType]) -> Result<(), String> {
    match op {
        Op::GetRows => get_rows::supports(src),
        Op::MulMat => matmul::supports(src),
        Op::MulMatId => experts::supports(src),
        Op::RmsNorm { .. } => rms_norm::supports(src),
        Op::Rope(_) => rope::supports(src),
        Op::SetRows => set_rows::supports(src),
        Op::FlashAttn { .. } => flash_attn::supports(src),
        Op::Add | Op::Mul => binary::supports(src),
        Op::Scale { .. } => scale::supports(src),
        Op::Glu(_) => glu::supports(src),
        Op::SoftMax => soft_max::supports(src),
        Op::TopK { .. } => top_k::supports(src),
        Op::ExpertWeights { .. } => expert_weights::supports(src),
        Op::ExpertSum => expert_sum::supports(src),
        Op::Concat => concat::supports(src),
    }
}

/// What [`plan`] and [`supports`] of an operation answer while there is no kernel for it.
fn no_kernel_yet() -> Result<(), String> {
    Err("there is no CUDA kernel for it yet".to_string())
}
