//! The small model that is built into the program: `fixtures/builtin` says what it is and how it
//! was made.

/// The bytes of a file at an address that is a multiple of 64, so that the tensors, whose offsets
/// are multiples of the file's alignment, are aligned for every kernel.
#[repr(C, align(64))]
struct Aligned<B: ?Sized>(B);

static MODEL: &Aligned<[u8]> =
    &Aligned(*include_bytes!("../../../../fixtures/builtin/builtin.gguf"));

/// The file of the built-in model; it begins at a multiple of 64 bytes.
pub fn builtin() -> &'static [u8] {
    &MODEL.0
}

/// A prompt that the built-in model knows how to continue.
pub fn builtin_prompt() -> &'static str {
    "Once upon a time"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_aligned_and_the_prompt_is_the_documented_one() {
        assert_eq!(builtin().as_ptr() as usize % 64, 0);
        let readme = include_str!("../../../../fixtures/builtin/README.md");
        assert!(readme.contains(&format!("Default prompt: `{}`", builtin_prompt())));
    }
}
