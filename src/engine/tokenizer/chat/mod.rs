//! Chat templates: a conversation becomes the prompt the model was trained on.
//!
//! A template is Jinja source that the file carries in `tokenizer.chat_template`. It is rendered the
//! way the Hugging Face `transformers` library does it (`apply_chat_template`): blocks trim their
//! lines, loop controls are on, strings have Python's methods, and `raise_exception`,
//! `strftime_now` and a `tojson` like Python's are there. Deliberately not here: built-in templates
//! for files that carry none, and parsing what the model answers.
//!
//! Invariant: rendering changes nothing and does no more than a bounded number of steps, whatever
//! the template says.

mod json;
mod time;

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use regex::Regex;
use serde::Serialize;

/// A message that is only text. Any other value that serialises to a mapping will do as well, for
/// instance one with `tool_calls` or with a list of content parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or what else the template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of this role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// Why a template gave no prompt. Lines count from 1 and are lines of the template.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The template is no valid Jinja.
    #[error("chat template, line {line}: {message}")]
    Syntax {
        /// Where.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The template refused the conversation by `raise_exception`.
    #[error("the chat template refuses these messages (line {line}): {message}")]
    Refused {
        /// Where.
        line: usize,
        /// The template's own words.
        message: String,
    },
    /// Rendering failed.
    #[error("chat template, line {line}: {message}")]
    Render {
        /// Where.
        line: usize,
        /// What went wrong.
        message: String,
    },
    /// The messages cannot be passed to a template.
    #[error("messages for the chat template: {0}")]
    Messages(#[source] serde_json::Error),
}

/// The words of a template's `raise_exception`, carried through the Jinja engine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// A compiled chat template.
///
/// ```
/// use gpuwhy::engine::tokenizer::ChatTemplate;
/// use gpuwhy::engine::tokenizer::chat::Message;
///
/// let source = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m['content'] | trim }}\n\
///               {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
/// let template = ChatTemplate::new(source, "<s>", "</s>")?;
/// let prompt = template.render(&[Message::new("user", " Hi ")], true, &Default::default())?;
/// assert_eq!(prompt, "<s><user>Hi\n<assistant>");
/// # Ok::<(), gpuwhy::engine::tokenizer::ChatError>(())
/// ```
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
    /// Seconds since 1970 that `strftime_now` shows; the host's clock when not set.
    now_unix_s: Option<i64>,
}

const NAME: &str = "chat_template";

/// Steps a rendering may take. A long conversation with tools takes some tens of thousands; a
/// template that loops without end is stopped within a second or so.
const FUEL: u64 = 20_000_000;

impl ChatTemplate {
    /// Compiles a template. `bos_token` and `eos_token` are the texts of these tokens, empty for a
    /// model without them.
    ///
    /// # Errors
    /// [`ChatError::Syntax`] with the line.
    pub fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<Self, ChatError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| failure(&error))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", json::tojson);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| failure(&error))?;
        Ok(Self {
            environment,
            bos_token: bos_token.to_owned(),
            eos_token: eos_token.to_owned(),
            now_unix_s: None,
        })
    }

    /// Fixes the time that `strftime_now` shows, in seconds since 1970, so that prompts repeat.
    #[must_use]
    pub fn at_time(mut self, unix_s: i64) -> Self {
        self.now_unix_s = Some(unix_s);
        self
    }

    /// The prompt for a conversation. `add_generation_prompt` ends it with the opening of the
    /// model's turn. `extra` are further variables, such as `tools` or `enable_thinking`; they take
    /// precedence.
    ///
    /// # Errors
    /// The template refused, or failed at a line.
    pub fn render<M: Serialize>(
        &self,
        messages: &[M],
        add_generation_prompt: bool,
        extra: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, ChatError> {
        let messages = serde_json::to_value(messages).map_err(ChatError::Messages)?;
        let mut context = serde_json::Map::new();
        context.insert("messages".into(), messages);
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        context.insert("bos_token".into(), self.bos_token.as_str().into());
        context.insert("eos_token".into(), self.eos_token.as_str().into());
        // `transformers` passes these two as None, and templates test them for that.
        context.insert("tools".into(), serde_json::Value::Null);
        context.insert("documents".into(), serde_json::Value::Null);
        context.extend(extra.iter().map(|(key, value)| (key.clone(), value.clone())));

        let now = self.now_unix_s.unwrap_or_else(time::now_unix_s);
        let clock = Value::from_function(move |format: &str| {
            time::strftime(now, format)
                .map_err(|message| Error::new(ErrorKind::InvalidOperation, message))
        });
        let variables = minijinja::context! {
            strftime_now => clock,
            ..Value::from(Serde(context))
        };
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(variables))
            .map_err(|error| failure(&error))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the template engine passes arguments by value")]
fn raise_exception(message: String, kwargs: Kwargs) -> Result<Value, Error> {
    kwargs.assert_all_used()?;
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refusal(message)))
}

/// Jinja's error in our words, with the innermost line.
fn failure(error: &Error) -> ChatError {
    let mut line = error.line().unwrap_or(0);
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(Refusal(message)) = cause.downcast_ref() {
            return ChatError::Refused { line, message: message.clone() };
        }
        if let Some(inner) = cause.downcast_ref::<Error>() {
            line = inner.line().unwrap_or(line);
        }
        source = cause.source();
    }
    let message = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.kind() {
        ErrorKind::SyntaxError => ChatError::Syntax { line, message },
        _ => ChatError::Render { line, message },
    }
}

/// Turns `{% generation %}` blocks, with which training marks the model's own words, into blocks
/// that are always on. The whitespace control of the tags stays, and so do the line numbers.
fn without_generation_tags(source: &str) -> String {
    static TAG: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\{%([-+]?)(\s*)(end)?generation(\s*)([-+]?)%\}").ok());
    let Some(tag) = TAG.as_ref() else { return source.to_owned() };
    tag.replace_all(source, |found: &regex::Captures<'_>| {
        let word = if found.get(3).is_some() { "endif" } else { "if true" };
        format!("{{%{}{} {word} {}{}%}}", &found[1], &found[2], &found[4], &found[5])
    })
    .into_owned()
}
