//! Operations on an image of memory in which all operands lie. The CPU and a CUDA device run them on a
//! copy each, so that whatever a kernel writes beside its result shows as well.

use gpuwhy::engine::backend::cpu::{CpuDevice, Threads};
use gpuwhy::engine::backend::{BoundNode, BoundTensor, BufferId, Device, open_cuda_device};
use gpuwhy::engine::graph::Op;
use gpuwhy::engine::tensor::{DType, quantize_vec};

/// The types that a KV cache can have on the GPU.
pub(crate) const CACHE_TYPES: [DType; 8] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
];

/// xorshift64*: the same cases every time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Roughly normal with deviation 1.
    pub(crate) fn float(&mut self) -> f32 {
        (0..6).map(|_| self.below(2001) as f32 / 1000.0 - 1.0).sum::<f32>()
            / std::f32::consts::SQRT_2
    }

    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// A tensor of a case.
#[derive(Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) offset: usize,
    pub(crate) dtype: DType,
    pub(crate) ne: [usize; 4],
    pub(crate) nb: [usize; 4],
}

impl Placed {
    pub(crate) fn bound(&self, buffer: BufferId) -> BoundTensor {
        BoundTensor { buffer, offset: self.offset, dtype: self.dtype, ne: self.ne, nb: self.nb }
    }

    /// Where each row starts.
    pub(crate) fn rows(&self) -> Vec<usize> {
        let [_, n1, n2, _] = self.ne;
        let at = |i: usize| self.offset + i % n1 * self.nb[1] + i / n1 * self.nb[2];
        (0..n1 * n2).map(at).collect()
    }
}

/// An image of memory with the operands of one operation.
pub(crate) struct Case {
    pub(crate) image: Vec<u8>,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self { image: vec![0x5a; 64] }
    }

    /// Room for a tensor whose rows are `gap` bytes apart, at a multiple of `align`.
    pub(crate) fn room(
        &mut self,
        dtype: DType,
        [n0, n1, n2]: [usize; 3],
        gap: usize,
        align: usize,
    ) -> Placed {
        let offset = self.image.len().next_multiple_of(align);
        // An odd multiple, so that a kernel cannot count on more.
        let offset = if offset.is_multiple_of(2 * align) { offset + align } else { offset };
        let row = dtype.row_bytes(n0).unwrap() + gap;
        self.image.resize(offset + row * n1 * n2 + 64, 0x5a);
        let nb = [dtype.block_bytes(), row, row * n1, row * n1 * n2];
        Placed { offset, dtype, ne: [n0, n1, n2, 1], nb }
    }

    pub(crate) fn fill(&mut self, to: &Placed, values: &[f32]) {
        for (at, row) in to.rows().into_iter().zip(values.chunks(to.ne[0])) {
            let bytes = quantize_vec(to.dtype, row).unwrap();
            self.image[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// A tensor of random numbers.
    pub(crate) fn random(
        &mut self,
        random: &mut Random,
        dtype: DType,
        ne: [usize; 3],
        gap: usize,
        align: usize,
    ) -> Placed {
        let placed = self.room(dtype, ne, gap, align);
        let values = random.floats(ne.iter().product());
        self.fill(&placed, &values);
        placed
    }

    pub(crate) fn integers(&mut self, values: &[i32], ne0: usize) -> Placed {
        let placed = self.room(DType::I32, [ne0, values.len() / ne0, 1], 0, 4);
        for (i, value) in values.iter().enumerate() {
            self.image[placed.offset + 4 * i..][..4].copy_from_slice(&value.to_le_bytes());
        }
        placed
    }

    /// What the image is after `device` has run the operation.
    pub(crate) fn run(
        &self,
        device: &mut dyn Device,
        op: Op,
        src: &[Placed],
        dst: &Placed,
    ) -> Vec<u8> {
        self.run_all(device, &[(op, src.to_vec(), *dst)], false)
    }

    /// What the image is after several operations, which may be joined unless they are timed.
    pub(crate) fn run_all(
        &self,
        device: &mut dyn Device,
        nodes: &[(Op, Vec<Placed>, Placed)],
        timed: bool,
    ) -> Vec<u8> {
        let buffer = device.alloc(self.image.len(), "a test").unwrap();
        device.write(buffer, 0, &self.image).unwrap();
        let bind = |(op, src, dst): &(Op, Vec<Placed>, Placed)| {
            let types: Vec<DType> = src.iter().map(|s| s.dtype).collect();
            device.supports(op, &types).unwrap();
            let src = src.iter().map(|s| s.bound(buffer)).collect();
            BoundNode { op: *op, src, dst: dst.bound(buffer) }
        };
        let nodes: Vec<BoundNode> = nodes.iter().map(bind).collect();
        let program = device.compile(&nodes, 1).unwrap();
        let mut times = Vec::new();
        device.submit(&program, timed.then_some(&mut times)).unwrap();
        device.finish().unwrap();
        let mut after = vec![0; self.image.len()];
        device.read(buffer, 0, &mut after).unwrap();
        drop(program);
        device.free(buffer);
        after
    }
}

/// How far a result may be from the CPU's.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// The same bytes.
    Same,
    /// Up to `absolute + relative · |expected|`.
    Near { absolute: f32, relative: f32 },
}

/// The devices that are compared.
pub(crate) struct Pair {
    pub(crate) cpu: CpuDevice,
    pub(crate) cuda: Box<dyn Device>,
}

impl Pair {
    pub(crate) fn open() -> Self {
        Self {
            cpu: CpuDevice::new(Threads::new(1, 1)),
            cuda: Box::new(open_cuda_device(0).unwrap()),
        }
    }

    pub(crate) fn compare(
        &mut self,
        what: &str,
        case: &Case,
        op: Op,
        src: &[Placed],
        dst: &Placed,
        to: Bound,
    ) {
        let want = case.run(&mut self.cpu, op, src, dst);
        let mut got = case.run(self.cuda.as_mut(), op, src, dst);
        if let Bound::Near { absolute, relative } = to {
            for at in dst.rows() {
                for i in 0..dst.ne[0] {
                    let place = at + 4 * i..at + 4 * i + 4;
                    let read =
                        |image: &[u8]| f32::from_le_bytes(image[place.clone()].try_into().unwrap());
                    let (g, w) = (read(&got), read(&want));
                    let close = (g - w).abs() <= absolute + relative * w.abs();
                    assert!(close || g == w, "{what}: element {i} at {at} is {g}, not {w}");
                    got[place.clone()].copy_from_slice(&want[place]);
                }
            }
        }
        let differs = (0..got.len()).find(|&i| got[i] != want[i]);
        assert!(differs.is_none(), "{what}: byte {differs:?} of {} differs", got.len());
    }
}

pub(crate) const EXACT_FLOATS: Bound = Bound::Near { absolute: 0.0, relative: 0.0 };
