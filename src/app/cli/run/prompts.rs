//! What a run generates from: prompts as typed, from a file or a pipe, and the requests made of them.

use std::io::Read;
use std::path::Path;

use crate::base::clock::now_ns;
use crate::base::event::{Event, Span, SpanKind, Track};
use crate::base::sink::Sink;
use crate::engine::model::store::builtin_prompt;
use crate::engine::runtime::{Engine, Request};
use crate::engine::tokenizer::chat::Message;
use crate::engine::tokenizer::{ChatTemplate, Tokenizer};

use super::super::failure::Failure;
use super::RunArgs;

/// The prompts: as typed, from a file, from a pipe, or the default one.
pub(super) fn prompts(args: &RunArgs) -> Result<Vec<String>, Failure> {
    let mut prompts = match &args.file {
        Some(path) if path == Path::new("-") => vec![read_stdin()?],
        Some(path) => {
            vec![std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, &e))?]
        }
        None if !args.prompt.is_empty() => args.prompt.clone(),
        None if stdin_is_given() => vec![read_stdin()?],
        None => Vec::new(),
    };
    // A file that ends with a line break means the text before it.
    if args.prompt.is_empty() {
        for prompt in &mut prompts {
            if prompt.ends_with('\n') {
                prompt.pop();
            }
        }
        prompts.retain(|p| !p.is_empty());
    }
    if prompts.is_empty() {
        prompts.push(builtin_prompt().to_string());
    }
    if args.escape {
        prompts = prompts.iter().map(|p| unescape(p)).collect();
    }
    Ok(prompts)
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map_err(|e| Failure::new(format!("cannot read the prompt from stdin: {e}")))?;
    Ok(text)
}

/// Whether somebody wrote something for us: stdin is a pipe or a file. A terminal or `/dev/null`
/// gives nothing.
fn stdin_is_given() -> bool {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        use std::os::unix::fs::FileTypeExt;
        let handle = std::io::stdin().as_fd().try_clone_to_owned();
        let kind = handle.and_then(|fd| std::fs::File::from(fd).metadata()).map(|m| m.file_type());
        kind.is_ok_and(|k| k.is_fifo() || k.is_file())
    }
    #[cfg(not(unix))]
    {
        !std::io::IsTerminal::is_terminal(&std::io::stdin())
    }
}

/// C's escapes that llama.cpp knows; anything else after a backslash stays as it is.
fn unescape(text: &str) -> String {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some(c @ ('\\' | '\'' | '"')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    out
}

/// The requests, with the prompts as tokens.
pub(super) fn requests(
    args: &RunArgs,
    engine: &Engine,
    tokenizer: &Tokenizer,
    prompts: &[String],
    sink: &dyn Sink,
) -> Result<Vec<Request>, Failure> {
    let template = if args.chat { Some(chat_template(tokenizer)?) } else { None };
    let sampler = args.sampling.options(engine.options().n_ctx)?;
    let mut requests = Vec::with_capacity(prompts.len());
    for (id, prompt) in prompts.iter().enumerate() {
        let start_ns = now_ns();
        let tokens = match &template {
            Some(template) => {
                let mut messages = Vec::new();
                messages.extend(args.system_prompt.iter().map(|s| Message::new("system", s)));
                messages.push(Message::new("user", prompt));
                let text = template.render(&messages, true, &serde_json::Map::new());
                tokenizer.encode_prompt(&text.map_err(Failure::new)?)
            }
            None => tokenizer.encode(prompt, true, true),
        };
        let (track, kind) = (Track::Host, SpanKind::Tokenise);
        let (bytes, n) = (prompt.len() as u64, tokens.len() as u32);
        sink.record(Event::Span(Span {
            track,
            kind,
            start_ns,
            end_ns: now_ns(),
            bytes,
            tokens: n,
        }));
        let mut sampler = sampler;
        sampler.seed = sampler.seed.wrapping_add(id as u64);
        requests.push(Request {
            id,
            prompt: tokens,
            n_predict: usize::try_from(args.n_predict).unwrap_or(usize::MAX),
            sampler,
            ignore_eog: args.ignore_eos,
        });
    }
    Ok(requests)
}

fn chat_template(tokenizer: &Tokenizer) -> Result<ChatTemplate, Failure> {
    let template = tokenizer.chat_template().map_err(Failure::new)?;
    template.ok_or_else(|| {
        Failure::new("--chat: the model's file has no chat template")
            .hint("leave --chat out to continue the prompt as plain text")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_as_in_c() {
        assert_eq!(unescape(r#"a\nb\t\\n\"\x\"#), "a\nb\t\\n\"\\x\\");
    }
}
