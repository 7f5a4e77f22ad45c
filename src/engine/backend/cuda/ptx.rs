//! The kernels' PTX, embedded in the binary.
//!
//! Written by `kernels/build.py`; never edited. Invariant: it lists what `kernels/ptx` holds.

/// The kernels of one `.cu` file.
pub(super) struct Unit {
    /// The file's name without its suffix.
    pub name: &'static str,
    /// The kernels that it defines.
    pub kernels: &'static [&'static str],
    /// Its PTX by the compute capability (major, minor) that it needs, lowest first.
    pub ptx: &'static [((u32, u32), &'static str)],
}

/// All units, by name.
pub(super) const UNITS: &[Unit] = &[Unit {
    name: "scale",
    kernels: &["scale_f32"],
    ptx: &[
        ((7, 5), include_str!("kernels/ptx/scale.compute_75.ptx")),
        ((8, 0), include_str!("kernels/ptx/scale.compute_80.ptx")),
    ],
}];
