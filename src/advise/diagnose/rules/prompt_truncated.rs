//! `prompt-truncated`: part of a prompt never reached the model.

use crate::advise::diagnose::facts::Facts;
use crate::advise::diagnose::finding::{Evidence, Finding, Fix, Impact};
use crate::advise::diagnose::knobs::{fix_context, since_note};
use crate::advise::diagnose::rule::{Doc, Rule, Verdict};
use crate::observe::logs::{Engine, LineId};

/// See the module.
pub(crate) static RULE: Rule = Rule {
    id: ID,
    title: "the prompt is longer than the context and was cut",
    doc: Doc {
        detects: "A prompt had more tokens than the context holds, and the server cut it, or \
            refused it.",
        costs: "The model answers from a part of what was sent: instructions, documents or \
            earlier turns are missing. It looks like a bad model.",
        evidence: "\"truncating input prompt\" with limit and length, \"input truncated\" of the \
            old server, \"truncating input messages\", a request that \"exceeds the available \
            context size\". A context of several parallel slots is divided among them: the limit \
            is that of one slot.",
        fix: "A context for the longest prompt and its answer: `num_ctx` in the request or \
            Modelfile, OLLAMA_CONTEXT_LENGTH (from 0.5.13 on), `-c` times the slots for \
            llama-server. It costs memory: see context-kv-too-large. Or send less.",
        example: r#"level=WARN source=runner.go:131 msg="truncating input prompt" limit=4096 prompt=7311 keep=4 new=4096"#,
    },
    follows_from: &[],
    check,
};

const ID: &str = "prompt-truncated";

fn check(facts: &Facts) -> Verdict {
    // A request that was shifted is called truncated, too, when it ends: see context-shift-loop.
    let cut = || {
        let cut = facts.log.requests.kept().filter(|r| r.truncated == Some(true));
        cut.filter(|r| r.truncated_from_to.is_some() || r.shifts == 0)
    };
    let longest = cut().filter_map(|r| Some((r.truncated_from_to?, r.line)));
    let longest = longest.max_by_key(|((from, _), _)| *from);
    let refused = facts.notice("request-too-long");
    let messages = facts.notice("messages-truncated");
    let line: Option<LineId> = longest
        .map(|(_, line)| line)
        .or_else(|| cut().next().map(|r| r.line))
        .or_else(|| refused.map(|n| n.first))
        .or_else(|| messages.map(|n| n.first));
    let Some(line) = line else { return Verdict::Clear };
    let number = |name: &str| refused.and_then(|n| n.number(name));
    let tokens = longest.map(|(sizes, _)| sizes).or_else(|| number("prompt").zip(number("ctx")));
    let cut_count = cut().count() as u64;
    let count = cut_count + refused.map_or(0, |n| n.count) + messages.map_or(0, |n| n.count);
    let only_refused = refused.is_some() && cut_count == 0 && messages.is_none();
    let verb = if only_refused { "refused" } else { "cut" };
    let title = match tokens {
        Some((prompt, limit)) if prompt > limit => {
            format!("a prompt of {prompt} tokens was {verb}: the context holds {limit}")
        }
        _ => format!("{count} prompt(s) were longer than the context and were {verb}"),
    };
    let load = facts.last_load().map(|l| l.load);
    let trained = load.and_then(|l| l.model.n_ctx_train).map(|t| t.value);
    let slots =
        load.and_then(|l| l.n_seq_max.or(l.requested.parallel)).map_or(1, |s| s.value.max(1));
    let limited = trained.zip(tokens).filter(|(t, (prompt, _))| prompt > t).map(|(t, _)| t);
    let lost = tokens.filter(|(p, l)| p > l && !only_refused);
    let lost = lost.map(|(p, l)| format!(" {} of {p} tokens did not reach the model.", p - l));
    let slot_note = if slots > 1 {
        format!(" The context is divided among {slots} slots; the limit is that of one.")
    } else {
        String::new()
    };
    let impact = if only_refused { Impact::Failure } else { Impact::WrongInput };
    let confidence = if only_refused { 0.9 } else { 0.95 };
    let mut finding = Finding::problem(ID, impact, confidence, title)
        .because(if only_refused {
            format!(
                "The server does not cut prompts by itself: it refuses a request that does not \
                    fit, with status 400.{slot_note}"
            )
        } else {
            format!(
                "{}{slot_note} When a prompt is cut, its middle or its beginning is dropped \
                    without a word to the client, so answers seem to ignore what was sent.",
                lost.unwrap_or_default()
            )
            .trim_start()
            .to_string()
        })
        .seen(Evidence::line(line))
        .seen_if(messages.map(|n| Evidence::line(n.first)));
    if let Some(limit) = limited {
        finding = finding.fix(
            Fix::system("send less", format!("keep prompts below {limit} tokens"))
                .why(format!("the model was trained for a context of {limit}"), "nothing is cut"),
        );
    }
    let wanted = context_for(tokens, trained);
    let per_slot = if facts.log.engine == Engine::Ollama { 1 } else { slots };
    for fix in fix_context(facts.log, wanted * per_slot) {
        let since = since_note(facts.version(), &fix.name);
        finding = finding.fix(fix.why(
            format!("holds the longest prompt that was seen and an answer, in every slot{since}"),
            "no prompt is cut; watch that all layers stay on the GPU",
        ));
    }
    finding.into()
}

/// A context for a prompt and an answer, to the next 1024; what the model was trained for at most.
fn context_for(tokens: Option<(u64, u64)>, trained: Option<u64>) -> u64 {
    const ANSWER: u64 = 1024;
    let wanted = match tokens {
        Some((prompt, limit)) if prompt > limit => (prompt + ANSWER).div_ceil(1024) * 1024,
        // Only that it was cut is known: twice the limit is the next try.
        Some((_, limit)) => limit * 2,
        None => 8192,
    };
    trained.map_or(wanted, |t| wanted.min(t.max(2048)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_holds_prompt_and_answer_and_is_what_the_model_can() {
        assert_eq!(context_for(Some((7311, 4096)), None), 9216);
        assert_eq!(context_for(Some((7311, 4096)), Some(8192)), 8192);
        assert_eq!(context_for(Some((4096, 4096)), None), 8192);
        assert_eq!(context_for(None, None), 8192);
    }
}
