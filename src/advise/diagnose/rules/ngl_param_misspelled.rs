//! `ngl-param-misspelled`: a name for GPU layers that the program or binding does not know.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the parameter for GPU layers is misspelled and ignored",
    doc: Doc {
        detects: "A parameter for GPU layers was given under a name that the program does not \
            know, and was ignored or refused.",
        costs: "No layers, or another number than meant, go to the GPU.",
        evidence: "A message about an unknown or ignored parameter whose name speaks of GPU \
            layers: Ollama's \"invalid option provided\", LangChain's \"is not default \
            parameter\", \"unexpected keyword argument\" of Python, or \"invalid argument\" of \
            llama.cpp; or a call that was pasted along, next to a load without layers on the GPU.",
        fix: "The names are: `num_gpu` for Ollama (layers, in spite of the name), `-ngl` or \
            `--n-gpu-layers` for llama.cpp, `n_gpu_layers` for llama-cpp-python and LangChain, \
            `gpu_layers` for ctransformers.",
        example: "WARNING! ngl is not default parameter.",
    },
    follows_from: &[],
    check,
};

const ID: &str = "ngl-param-misspelled";

fn check(facts: &Facts) -> Verdict {
    let named = [
        "binding-parameter-ignored",
        "binding-parameter-refused",
        "invalid-option",
        "unknown-argument",
    ];
    let found = named.iter().find_map(|id| {
        let notice = facts.notice(id)?;
        let name = notice.fields.get("name").or_else(|| notice.fields.get("argument"))?;
        speaks_of_layers(name).then_some((notice, name.as_str()))
    });
    let Some((notice, name)) = found else { return in_the_call(facts).into() };
    let (right, fix) = match notice.id.as_str() {
        "invalid-option" => ("num_gpu", Fix::option("num_gpu", "99")),
        "unknown-argument" => ("--n-gpu-layers (-ngl)", Fix::flag("-ngl", "99")),
        _ => ("n_gpu_layers", Fix::system("use the name", "n_gpu_layers=-1")),
    };
    let refused = ["unknown-argument", "binding-parameter-refused"].contains(&notice.id.as_str());
    let impact = if refused { Impact::Failure } else { Impact::NoGpu };
    // When all layers are on the GPU anyway, the name did no harm.
    if facts.ran_on_gpu() && !refused {
        return Verdict::Clear;
    }
    Finding::problem(
        ID,
        impact,
        0.95,
        format!("{name} is no parameter here, so it sets no GPU layers; the name is {right}"),
    )
    .because(if refused {
        format!("The program does not know {name} and stops.")
    } else {
        format!(
            "The program does not know {name} and goes on without it, so the number of layers on \
                the GPU is its default."
        )
    })
    .seen(Evidence::line(notice.first))
    .seen_if(facts.cpu_only_load().map(|l| Evidence::line(l.weights_line())))
    .fix(fix.why("this name is known", "the line `offloaded N/N layers to GPU`"))
    .into()
}

/// A person's own call, pasted along with a log in which no layer is on the GPU.
fn in_the_call(facts: &Facts) -> Option<Finding> {
    const RIGHT: [&str; 3] = ["n_gpu_layers", "gpu_layers", "num_gpu_layers"];
    let notice = facts.notice("binding-argument")?;
    let name = notice.fields.get("name").filter(|n| !RIGHT.contains(&n.as_str()))?;
    let load = facts.cpu_only_load()?;
    let title =
        format!("{name} is no parameter of the binding, so it sets no GPU layers: n_gpu_layers");
    let why = format!(
        "The call names {name}. Bindings keep arguments that they do not know for later, or drop them, and \
         go on with their default: no layers on the GPU."
    );
    Some(
        Finding::problem(ID, Impact::NoGpu, 0.96, title)
            .because(why)
            .seen(Evidence::line(notice.first))
            .seen(Evidence::line(load.weights_line()))
            .fix(
                Fix::system("use the name", "n_gpu_layers=-1")
                    .why("this name is known", "the line `offloaded N/N layers to GPU`"),
            ),
    )
}

/// Whether a name is one that people use for GPU layers.
fn speaks_of_layers(name: &str) -> bool {
    let name = name.trim_start_matches('-').to_ascii_lowercase().replace('-', "_");
    let layers = name.contains("layer") || name.contains("offload");
    name == "ngl"
        || name == "n_gpu"
        || name == "gpu"
        || (name.contains("gpu") && layers)
        || name.contains("ngl")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_speak_of_gpu_layers_are_told_from_others() {
        for name in ["gpu_layers", "--gpu-layer", "ngl", "n_gpu_layer", "num_gpu_layers"] {
            assert!(speaks_of_layers(name), "{name}");
        }
        for name in ["num_ctx", "tfs_z", "main_gpu", "--ctx", "gpu_memory"] {
            assert!(!speaks_of_layers(name), "{name}");
        }
    }
}
