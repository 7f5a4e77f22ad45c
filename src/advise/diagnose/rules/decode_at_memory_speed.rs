//! `decode-at-memory-speed`: generation is as fast as the GPU's memory allows.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::base::units::Bytes;

use super::decode_slows_with_depth;

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "generation runs at the speed of the GPU's memory: nothing holds it up",
    doc: Doc {
        detects: "A dense model that is wholly on GPUs, and a speed of generation that comes near to \
            what the memory of these GPUs can be read at.",
        costs: "Nothing. One answer at a time reads all weights once for every token, and does little \
            with them: the GPU's memory is busy and its arithmetic is not. No setting of the engine \
            makes that faster.",
        evidence: "Weights on the GPUs times tokens per second, next to the memory speed of the product \
            that the log names: half of it or more. Not told for mixtures of experts, which read a part \
            of their weights, and with a draft model.",
        fix: "Nothing to repair. Faster are fewer bytes: a smaller quantisation or model; more than one \
            token per reading: a draft model, or several requests at a time; or faster memory.",
        example: "load_tensors:        CUDA0 model buffer size =  4685.30 MiB\n\
            eval time =    3100.00 ms /   256 runs   (   12.11 ms per token,    82.58 tokens per second)",
    },
    follows_from: &[],
    check,
};

const ID: &str = "decode-at-memory-speed";

/// Real kernels reach 60 to 90 % of the theoretical speed; with attention and launches, half of it
/// is no fault of anything.
const SHARE_MIN: f64 = 0.5;

fn check(facts: &Facts) -> Verdict {
    let found = facts.loads().rev().find_map(|l| l.memory_speed_used());
    // More than the memory can do would mean that the figures do not belong together.
    let Some(speed) = found.filter(|s| (SHARE_MIN..1.05).contains(&s.share())) else {
        return Verdict::Clear;
    };
    if decode_slows_with_depth::falls(facts) {
        return Verdict::Clear; // so only with short contexts
    }
    let title = format!(
        "generation ({:.1} tokens/s) runs at {:.0} % of what the GPU's memory allows",
        speed.tokens_per_s,
        100.0 * speed.share()
    );
    Finding::benign(ID, 0.85, title)
        .because(format!(
            "Every token reads {} of weights. At the full speed of this memory that would be {:.1} tokens \
             per second, which no engine reaches. It is the hardware's speed for this model.",
            Bytes(speed.weights_bytes),
            speed.tokens_per_s_max
        ))
        .seen(Evidence::line(speed.line))
        .fix(Fix::system("a smaller file", "a smaller quantisation of the model, or a smaller model").why(
            "the time of a token goes with the bytes that it reads",
            "tokens per second in proportion",
        ))
        .into()
}
