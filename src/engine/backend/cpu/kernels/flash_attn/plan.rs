//! How attention is cut into tiles, and where each tile's buffers lie in the scratch memory.

/// Keys that are widened at a time.
pub(super) const BLOCK: usize = 64;

/// Elements of a key that stand together where query rows are few.
pub(super) const PANEL: usize = 64;

/// Query rows of a tile: enough to make widening a block of keys cheap beside using it.
const TILE_ROWS: usize = 128;

/// Query rows of one key head up to which they stand in the lanes of vectors.
const FEW_ROWS: usize = 16;

/// Tokens of a tile at most: more would look at more masked blocks than needed.
const TILE_TOKENS: usize = 64;

/// Keys below which splitting the context over workers costs more than it brings.
const SPLIT_KEYS: usize = 128;

/// Buffers begin at multiples of this many floats: a cache line.
const LINE: usize = 16;

/// How one call is cut up. All workers compute the same plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Query heads per key head.
    pub(super) group: usize,
    /// Key heads per tile: all that the workers leave it, where tokens are few, so that the cache is
    /// read in order.
    pub(super) heads: usize,
    /// Tiles along the key heads.
    pub(super) head_tiles: usize,
    /// Tokens per tile.
    pub(super) tokens: usize,
    /// Tiles along the tokens.
    pub(super) tiles: usize,
    /// Parts that the context is split into, for each tile and head.
    pub(super) splits: usize,
    /// Query rows of a key head are few, and stand in the lanes of vectors.
    pub(super) few: bool,
    /// Rows of the buffers per key head: the query rows, rounded up to whole vectors or to a power
    /// of two if they are few.
    pub(super) head_rows: usize,
    /// Length of a query or key row, rounded up to a whole number of vectors.
    pub(super) d_padded: usize,
    /// Length of a value row, rounded up likewise.
    pub(super) dv_padded: usize,
}

/// One worker's buffers, in floats; `rows` is the rows of a tile, or of one key head for `scores`,
/// `bias` and `fade`.
#[derive(Clone, Copy)]
pub(super) struct Buffers {
    /// Query rows, `(d_padded, rows)`; see [`super::few`] for another order.
    pub(super) q: *mut f32,
    /// Keys of a block, `(d_padded, BLOCK)`.
    pub(super) k: *mut f32,
    /// The same transposed, `(BLOCK, d_padded)`.
    pub(super) k_columns: *mut f32,
    /// Values of a block, `(dv_padded, BLOCK)`. Where rows are few, they take the place of the keys:
    /// both together would push each other out of the first-level cache.
    pub(super) v: *mut f32,
    /// Scores, then weights, `(BLOCK, rows)`, or `(rows, BLOCK)` where rows are few.
    pub(super) scores: *mut f32,
    /// The mask of a block in the order of `scores`, where rows are few.
    pub(super) bias: *mut f32,
    /// What the sums of earlier blocks have to be multiplied by, `(rows)`.
    pub(super) fade: *mut f32,
    /// Weighted sums of values, `(dv_padded, rows)`.
    pub(super) o: *mut f32,
    /// Largest score so far, `(rows)`.
    pub(super) max: *mut f32,
    /// Sum of weights so far, `(rows)`.
    pub(super) sum: *mut f32,
}

impl Plan {
    /// The plan for `workers` workers.
    pub(super) fn new(
        d: usize,
        dv: usize,
        n_head: usize,
        n_head_kv: usize,
        n_kv: usize,
        t: usize,
        workers: usize,
    ) -> Self {
        let group = n_head / n_head_kv.max(1);
        let tokens = (TILE_ROWS / group.max(1)).clamp(1, TILE_TOKENS).min(t.max(1));
        let tiles = t.div_ceil(tokens);
        // A decode step takes all heads at once as far as splitting the context keeps the workers
        // busy; beyond that the heads are dealt out too.
        let parts = n_kv.div_ceil(SPLIT_KEYS).max(1);
        let rows = group * tokens * n_head_kv;
        let heads = if tiles > 1 || rows > TILE_ROWS {
            1
        } else {
            (n_head_kv / workers.div_ceil(parts).max(1)).max(1)
        };
        let head_tiles = n_head_kv.div_ceil(heads.max(1));
        // Few items that do not divide evenly among the workers are split along the context until
        // they do; with many, the last round matters little.
        let items = (tiles * head_tiles).max(1);
        let splits =
            if items >= 4 * workers { 1 } else { (workers / gcd(items, workers)).min(parts) };
        let padded = |n: usize| n.next_multiple_of(LINE);
        let rows = group * tokens;
        let few = rows <= FEW_ROWS;
        Self {
            group,
            heads,
            head_tiles,
            tokens,
            tiles,
            splits,
            few,
            head_rows: if few { rows.next_power_of_two() } else { rows },
            d_padded: padded(d),
            dv_padded: padded(dv),
        }
    }

    /// Lengths of the buffers in the order of [`Buffers`].
    fn lengths(&self) -> [usize; 10] {
        let (head, rows) = (self.head_rows, self.head_rows * self.heads);
        let k = BLOCK * self.d_padded.next_multiple_of(PANEL);
        let v = BLOCK * self.dv_padded;
        let lengths = [
            rows * self.d_padded,
            if self.few { k.max(v) } else { k },
            if self.few { 0 } else { k },
            if self.few { 0 } else { v },
            head * BLOCK,
            if self.few { head * BLOCK } else { 0 },
            head,
            rows * self.dv_padded,
            rows,
            rows,
        ];
        lengths.map(|n| n.next_multiple_of(LINE))
    }

    /// Floats of one worker's buffers.
    pub(super) fn worker_len(&self) -> usize {
        self.lengths().iter().sum()
    }

    /// Floats of one partial result: a row of sums, its maximum and its sum of weights.
    pub(super) fn partial_len(&self) -> usize {
        self.dv_padded + LINE
    }

    /// Floats of all partial results of `rows` query rows; none without splits.
    pub(super) fn partials_len(&self, rows: usize) -> usize {
        if self.splits > 1 { rows * self.splits * self.partial_len() } else { 0 }
    }

    /// Cuts one worker's buffers out of the memory at `base`.
    ///
    /// # Safety
    /// `base` has room for [`Plan::worker_len`] floats.
    pub(super) unsafe fn buffers(&self, base: *mut f32) -> Buffers {
        let mut next = base;
        let [q, k, k_columns, v, scores, bias, fade, o, max, sum] = self.lengths().map(|n| {
            let this = next;
            // SAFETY: the lengths add up to `worker_len`.
            next = unsafe { next.add(n) };
            this
        });
        let v = if self.few { k } else { v };
        Buffers { q, k, k_columns, v, scores, bias, fade, o, max, sum }
    }
}

impl Buffers {
    /// The buffers of the rows from `row` on; those of a block of keys stay the same, as do those that
    /// one key head after the other uses.
    ///
    /// # Safety
    /// The buffers have more than `row` rows.
    #[inline(always)]
    pub(super) unsafe fn at_row(self, plan: &Plan, row: usize) -> Self {
        // SAFETY: as the caller vouches.
        unsafe {
            Self {
                q: self.q.add(row * plan.d_padded),
                o: self.o.add(row * plan.dv_padded),
                max: self.max.add(row),
                sum: self.sum.add(row),
                ..self
            }
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
