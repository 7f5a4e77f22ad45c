//! `gpuwhy model info`: what a person wants to know about a model file. Reads the header only.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::cli::failure::Failure;
use crate::app::cli::flags::Format;
use crate::app::cli::output;
use crate::app::cli::source::ModelArgs;
use crate::app::report::{ModelFacts, Style, Table, count, model_facts, type_bytes};
use crate::base::units::{Bytes, grouped};
use crate::engine::gguf::Gguf;
use crate::engine::model::memory::{cache_bytes, logits_bytes};
use crate::engine::model::{CacheShape, Model, context_cells, window_cells};
use crate::engine::runtime::RuntimeOptions;
use crate::engine::tensor::DType;
use crate::engine::tokenizer::Tokenizer;

/// Lines of a chat template that text shows.
const TEMPLATE_LINES: usize = 6;

/// Characters of such a line.
const TEMPLATE_WIDTH: usize = 96;

/// Arguments of `gpuwhy model info`.
#[derive(Debug, Args)]
pub(in crate::app::cli) struct InfoArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Context to tell the need of memory for; the model's own if not given
    #[arg(short = 'c', long, value_name = "TOKENS")]
    ctx_size: Option<usize>,

    /// How to report
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The document `gpuwhy.model/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct ModelInfo {
    /// Always `gpuwhy.model/1`.
    pub(in crate::app::cli) schema: String,
    /// What the report of a run tells too.
    pub(in crate::app::cli) model: ModelFacts,
    /// Version of the GGUF format.
    pub(in crate::app::cli) gguf_version: u32,
    /// Bytes of all files.
    pub(in crate::app::cli) file_bytes: u64,
    /// Entries of metadata.
    pub(in crate::app::cli) metadata_entries: usize,
    /// Heads, widths and windows.
    pub(in crate::app::cli) shape: Shape,
    /// Types of the tensors.
    pub(in crate::app::cli) types: Vec<TypeShare>,
    /// Purposes of the tensors.
    pub(in crate::app::cli) kinds: Vec<KindShare>,
    /// The tokenizer; absent with a reason in the model's notes when it cannot be used.
    pub(in crate::app::cli) tokenizer: Option<TokenizerInfo>,
    /// The chat template, if the file has one.
    pub(in crate::app::cli) chat_template: Option<String>,
    /// What it needs in memory.
    pub(in crate::app::cli) memory: MemoryNeed,
}

/// Heads, widths and windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct Shape {
    /// Attention heads of the widest layer.
    pub(in crate::app::cli) heads: usize,
    /// Key and value heads of the widest layer.
    pub(in crate::app::cli) heads_kv: usize,
    /// Width of a key.
    pub(in crate::app::cli) head_dim_k: usize,
    /// Width of a value.
    pub(in crate::app::cli) head_dim_v: usize,
    /// Width of the feed-forward layer, the widest one.
    pub(in crate::app::cli) feed_forward: usize,
    /// Width of an expert's feed-forward layer; 0 for a dense model.
    pub(in crate::app::cli) feed_forward_expert: usize,
    /// Tokens that layers with a sliding window see; absent without such layers.
    pub(in crate::app::cli) sliding_window: Option<u32>,
    /// How many layers have a sliding window.
    pub(in crate::app::cli) window_layers: usize,
    /// Base of the rotary frequencies.
    pub(in crate::app::cli) rope_freq_base: f32,
}

/// Tensors of one type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct TypeShare {
    /// The type, as ggml names it.
    #[serde(rename = "type")]
    pub(in crate::app::cli) name: String,
    /// How many tensors.
    pub(in crate::app::cli) tensors: u64,
    /// Their bytes.
    pub(in crate::app::cli) bytes: u64,
}

/// Tensors of one purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct KindShare {
    /// The purpose.
    pub(in crate::app::cli) kind: String,
    /// How many tensors.
    pub(in crate::app::cli) tensors: u64,
    /// Their bytes.
    pub(in crate::app::cli) bytes: u64,
}

/// A tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct TokenizerInfo {
    /// `llama` (SentencePiece) or `gpt2` (byte-level BPE).
    pub(in crate::app::cli) model: String,
    /// How text is cut before merging; empty where that has no meaning.
    pub(in crate::app::cli) pre: String,
    /// Tokens.
    pub(in crate::app::cli) tokens: usize,
    /// Tokens with a special meaning: name, id and text.
    pub(in crate::app::cli) special: Vec<SpecialToken>,
    /// Tokens that end generation.
    pub(in crate::app::cli) end_of_generation: Vec<u32>,
    /// Whether a text gets a token in front.
    pub(in crate::app::cli) adds_bos: bool,
    /// Whether a text gets a token at its end.
    pub(in crate::app::cli) adds_eos: bool,
}

/// A token with a special meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct SpecialToken {
    /// Its meaning: `bos`, `eos`, ….
    pub(in crate::app::cli) name: String,
    /// Its id.
    pub(in crate::app::cli) id: u32,
    /// Its text.
    pub(in crate::app::cli) text: String,
}

/// What a model needs in memory for one sequence, whole on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::app::cli) struct MemoryNeed {
    /// Tokens of context.
    pub(in crate::app::cli) n_ctx: usize,
    /// Weights.
    pub(in crate::app::cli) weight_bytes: u64,
    /// KV cache, by the type of keys and values.
    pub(in crate::app::cli) kv_bytes: BTreeMap<String, u64>,
    /// Logits of one token.
    pub(in crate::app::cli) logits_bytes: u64,
}

/// Runs the command.
pub(super) fn run(args: &InfoArgs) -> Result<(), Failure> {
    let gguf = args.model.open(false)?;
    let info = describe(&gguf, args.ctx_size)?;
    match args.format {
        Format::Json => output::json(&info),
        Format::Text => {
            let style = output::style(&std::io::stdout());
            output::stdout(print(&info, style, |t| t.text("  ", style)).as_bytes())
        }
        Format::Markdown => {
            let text = print(&info, Style::Plain, |t| format!("\n{}", t.markdown()));
            output::stdout(text.as_bytes())
        }
    }
}

fn describe(gguf: &Arc<Gguf>, ctx_size: Option<usize>) -> Result<ModelInfo, Failure> {
    let model = Model::load(Arc::clone(gguf)).map_err(|e| {
        let failure = Failure::new(format!("{}: {e}", gguf.name()));
        e.hint().into_iter().fold(failure, Failure::hint)
    })?;
    let mut facts = model_facts(gguf, &model);
    let h = model.hparams();
    let tokenizer = match Tokenizer::from_metadata(gguf.metadata()) {
        Ok(tokenizer) => Some(tokenizer),
        Err(error) => {
            facts.notes.push(format!("the tokenizer cannot be used: {error}"));
            None
        }
    };
    let n_ctx = ctx_size.unwrap_or(h.n_ctx_train).max(1);
    let types = type_bytes(gguf).into_iter().map(|t| TypeShare {
        name: t.name.to_string(),
        tensors: t.tensors,
        bytes: t.bytes,
    });
    let mut types: Vec<TypeShare> = types.collect();
    types.sort_by_key(|t| std::cmp::Reverse(t.bytes));
    Ok(ModelInfo {
        schema: "gpuwhy.model/1".to_string(),
        gguf_version: gguf.version(),
        file_bytes: gguf.total_bytes(),
        metadata_entries: gguf.metadata().len(),
        shape: Shape {
            heads: h.n_head.max(),
            heads_kv: h.n_head_kv.max(),
            head_dim_k: h.head_dim_k,
            head_dim_v: h.head_dim_v,
            feed_forward: h.n_ff.max(),
            feed_forward_expert: h.n_ff_expert,
            sliding_window: h.sliding_window,
            window_layers: (0..h.n_layer).filter(|&il| h.is_window_layer(il)).count(),
            rope_freq_base: h.rope.freq_base,
        },
        types,
        kinds: kinds(&model),
        chat_template: tokenizer.as_ref().and_then(|t| t.vocab().chat_template.clone()),
        tokenizer: tokenizer.as_ref().map(tokenizer_info),
        memory: memory(&model, n_ctx, facts.weight_bytes),
        model: facts,
    })
}

fn kinds(model: &Model) -> Vec<KindShare> {
    let mut kinds: Vec<KindShare> = Vec::new();
    for weight in model.weights().iter().filter(|w| w.duplicate_of.is_none()) {
        let kind = weight.kind.name();
        let bytes = weight.bytes as u64;
        match kinds.iter_mut().find(|k| k.kind == kind) {
            Some(found) => {
                found.tensors += 1;
                found.bytes += bytes;
            }
            None => kinds.push(KindShare { kind: kind.to_string(), tensors: 1, bytes }),
        }
    }
    kinds.sort_by_key(|k| std::cmp::Reverse(k.bytes));
    kinds
}

fn tokenizer_info(tokenizer: &Tokenizer) -> TokenizerInfo {
    let v = tokenizer.vocab();
    let named = [
        ("bos", v.bos),
        ("eos", v.eos),
        ("eot", v.eot),
        ("eom", v.eom),
        ("unk", v.unk),
        ("pad", v.pad),
    ];
    let special = named.into_iter().filter_map(|(name, id)| {
        let text = tokenizer.token_text(id?).unwrap_or_default().to_string();
        Some(SpecialToken { name: name.to_string(), id: id?, text })
    });
    TokenizerInfo {
        model: v.model.clone(),
        pre: v.pre.clone(),
        tokens: tokenizer.n_tokens(),
        special: special.collect(),
        end_of_generation: tokenizer.end_of_generation().to_vec(),
        adds_bos: tokenizer.adds_bos(),
        adds_eos: tokenizer.adds_eos(),
    }
}

/// The need of one sequence with the default ubatch.
fn memory(model: &Model, n_ctx: usize, weight_bytes: u64) -> MemoryNeed {
    let h = model.hparams();
    let window = h.sliding_window.map_or(0, |w| w as usize);
    let n_ubatch = RuntimeOptions::default().n_ubatch;
    let kv = |dtype: DType| {
        let shape = CacheShape {
            n_cells: context_cells(n_ctx),
            n_cells_window: window_cells(n_ctx, window, 1, n_ubatch),
            type_k: dtype,
            type_v: dtype,
        };
        let possible = model.check_cache_types(dtype, dtype).is_ok();
        possible.then(|| (dtype.name().to_string(), cache_bytes(h, &shape).total as u64))
    };
    MemoryNeed {
        n_ctx,
        weight_bytes,
        kv_bytes: [DType::F16, DType::Q8_0, DType::Q4_0].into_iter().filter_map(kv).collect(),
        logits_bytes: logits_bytes(h, 1) as u64,
    }
}

/// The document for people; `table` prints a table.
fn print(info: &ModelInfo, style: Style, table: impl Fn(&Table) -> String) -> String {
    let mut out = String::new();
    let mut line = |label: &str, text: String| {
        let _ = writeln!(out, "{}{text}", style.bold(&format!("{label:14}")));
    };
    let m = &info.model;
    line("model", format!("{} ({})", m.name, m.file));
    line(
        "architecture",
        format!("{}, {} parameters, {}", m.architecture, count(m.parameters), m.file_type),
    );
    line(
        "size",
        format!(
            "{} in the file, {:.2} bits per weight; GGUF version {}, {} metadata entries",
            Bytes(info.file_bytes),
            m.bits_per_weight,
            info.gguf_version,
            info.metadata_entries
        ),
    );
    line("shape", shape(info));
    line("context", format!("trained with {} tokens", grouped(m.context_trained)));
    line("tokenizer", info.tokenizer.as_ref().map_or("cannot be used".into(), tokenizer));
    line("chat template", template(info.chat_template.as_deref()));
    for note in &m.notes {
        line("note", note.clone());
    }
    for (title, rows) in tables(info) {
        let _ = write!(out, "\n{}\n{}", style.bold(&title), table(&rows));
    }
    out
}

fn shape(info: &ModelInfo) -> String {
    let (m, s) = (&info.model, &info.shape);
    let mut text = format!(
        "{} layers of width {}, {} heads of {} over {} for keys and values, feed-forward {}",
        m.layers, m.embedding, s.heads, s.head_dim_k, s.heads_kv, s.feed_forward
    );
    if m.experts > 0 {
        let experts = format!(
            "; {} experts of {}, {} for each token",
            m.experts, s.feed_forward_expert, m.experts_used
        );
        text.push_str(&experts);
    }
    if let Some(window) = s.sliding_window {
        let _ = write!(text, "; {} layers see {window} tokens", s.window_layers);
    }
    text
}

fn tokenizer(info: &TokenizerInfo) -> String {
    let pre = if info.pre.is_empty() { String::new() } else { format!(" ({})", info.pre) };
    let special: Vec<String> =
        info.special.iter().map(|s| format!("{} {} {:?}", s.name, s.id, s.text)).collect();
    format!("{}{pre}, {} tokens; {}", info.model, grouped(info.tokens as u64), special.join(", "))
}

/// The first lines of a template, so that a person sees which one it is.
fn template(source: Option<&str>) -> String {
    let Some(source) = source else { return "none".to_string() };
    let mut text = format!("{} characters", source.chars().count());
    for line in source.lines().take(TEMPLATE_LINES) {
        let cut: String = line.chars().take(TEMPLATE_WIDTH).collect();
        let more = if cut.len() < line.len() { "…" } else { "" };
        let _ = write!(text, "\n  | {cut}{more}");
    }
    if source.lines().count() > TEMPLATE_LINES {
        text.push_str("\n  | …");
    }
    text
}

fn tables(info: &ModelInfo) -> Vec<(String, Table)> {
    let all: u64 = info.types.iter().map(|t| t.bytes).sum();
    let share = |bytes: u64| format!("{:.1} %", 100.0 * bytes as f64 / all.max(1) as f64);
    let mut types = Table::new(&["type", ">tensors", ">bytes", ">share"]);
    for t in &info.types {
        let (n, size) = (t.tensors.to_string(), Bytes(t.bytes).to_string());
        types.row([t.name.clone(), n, size, share(t.bytes)]);
    }
    let mut kinds = Table::new(&["purpose", ">tensors", ">bytes", ">share"]);
    for k in &info.kinds {
        let (n, size) = (k.tensors.to_string(), Bytes(k.bytes).to_string());
        kinds.row([k.kind.clone(), n, size, share(k.bytes)]);
    }
    let need = &info.memory;
    let mut memory = Table::new(&["KV type", ">weights", ">KV cache", ">logits", ">together"]);
    for (name, &kv) in &need.kv_bytes {
        let together = need.weight_bytes + kv + need.logits_bytes;
        let sizes = [need.weight_bytes, kv, need.logits_bytes, together];
        memory.row([name.clone()].into_iter().chain(sizes.map(|b| Bytes(b).to_string())));
    }
    let title = format!("Memory at {} tokens of context", grouped(need.n_ctx as u64));
    vec![
        ("Types".to_string(), types),
        ("Purposes".to_string(), kinds),
        (format!("{title}, compute buffers not counted"), memory),
    ]
}
