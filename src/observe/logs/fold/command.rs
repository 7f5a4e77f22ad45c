//! The command line of a runner or a llama-server, as far as it decides about speed and memory.

use super::super::session::{LineId, Load, Requested, Seen};
use super::value::kept;

/// Options kept as given, of each list.
const OPTIONS_MAX: usize = 32;

/// Takes a command line in.
pub(super) fn apply(load: &mut Load, command: &str, line: LineId) {
    load.requested.command = Some(Seen { value: kept(command), line });
    let words = words(command);
    let mut at = 0;
    while at < words.len() {
        let (flag, joined) = match words[at].split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => {
                (flag.to_string(), Some(value.to_string()))
            }
            _ => (words[at].clone(), None),
        };
        let next = words.get(at + 1).filter(|w| !is_flag(w)).cloned();
        let separate = joined.is_none();
        let value = joined.or(next);
        let used = option(load, &flag, value.as_deref(), line);
        at += if used && separate { 2 } else { 1 };
    }
}

/// A word that begins like a flag; a negative number does not.
fn is_flag(word: &str) -> bool {
    word.starts_with('-') && word[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '-')
}

/// Words, with quotes taken off.
fn words(command: &str) -> Vec<String> {
    const WORDS_MAX: usize = 512;
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in command.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(c),
        }
        if words.len() == WORDS_MAX {
            return words;
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Takes one option in; whether it used the value.
fn option(load: &mut Load, flag: &str, value: Option<&str>, line: LineId) -> bool {
    let asked = &mut load.requested;
    let number = value.and_then(|v| v.parse::<u64>().ok()).map(|value| Seen { value, line });
    let text = value.map(|v| Seen { value: kept(v), line });
    match flag {
        "--ctx-size" | "-c" | "--num-ctx" => asked.ctx = number.or(asked.ctx),
        "--parallel" | "-np" => asked.parallel = number.or(asked.parallel),
        "--batch-size" | "-b" => asked.batch = number.or(asked.batch),
        "--ubatch-size" | "-ub" => asked.ubatch = number.or(asked.ubatch),
        "--threads" | "-t" => asked.threads = number.or(asked.threads),
        "--main-gpu" | "-mg" => asked.main_gpu = number.or(asked.main_gpu),
        "--n-gpu-layers" | "-ngl" | "--gpu-layers" | "--num-gpu" => {
            let layers = value.and_then(|v| match v {
                "auto" => Some(-1),
                "all" => Some(i64::from(i32::MAX)),
                v => v.parse().ok(),
            });
            asked.gpu_layers = layers.map(|value| Seen { value, line });
        }
        "--kv-cache-type" => {
            asked.kv_type_k.clone_from(&text);
            asked.kv_type_v = text;
        }
        "--cache-type-k" | "-ctk" => asked.kv_type_k = text,
        "--cache-type-v" | "-ctv" => asked.kv_type_v = text,
        "--split-mode" | "-sm" => asked.split_mode = text,
        "--tensor-split" | "-ts" => asked.tensor_split = text,
        "--model" | "-m" => {
            load.model.path = value.map(kept).or(load.model.path.take());
        }
        "--flash-attn" | "-fa" => {
            let given = value.filter(|v| ["on", "off", "auto", "0", "1"].contains(v));
            let shown = given.unwrap_or("on").to_string();
            asked.flash_attention = Some(Seen { value: shown, line });
            return given.is_some();
        }
        "--load-mode" | "-lm" => load_mode(asked, value, line),
        _ => return switch(asked, flag, value, line),
    }
    true
}

/// Options without a value, and those that are kept as given.
fn switch(asked: &mut Requested, flag: &str, value: Option<&str>, line: LineId) -> bool {
    let given = |value: &str| Seen { value: kept(&format!("{flag} {value}")), line };
    match flag {
        "--mlock" => asked.mlock = Some(Seen { value: true, line }),
        "--no-mmap" => asked.mmap = Some(Seen { value: false, line }),
        "--mmap" => asked.mmap = Some(Seen { value: true, line }),
        "--no-kv-offload" | "-nkvo" => asked.kv_on_host = Some(line),
        "--cpu-moe" | "-cmoe" => push(&mut asked.overrides, given("")),
        "--override-tensor" | "-ot" | "--n-cpu-moe" | "-ncmoe" => {
            push(&mut asked.overrides, given(value.unwrap_or_default()));
            return value.is_some();
        }
        "--no-mmproj-offload"
        | "--no-warmup"
        | "--ollama-engine"
        | "--embedding"
        | "--swa-full"
        | "--kv-unified"
        | "-kvu"
        | "--no-op-offload" => push(&mut asked.other, given("")),
        "--mmproj"
        | "--model-draft"
        | "-md"
        | "--spec-type"
        | "--lora"
        | "--numa"
        | "--device"
        | "-dev"
        | "--threads-batch"
        | "-tb"
        | "--fit"
        | "-fit"
        | "--fit-target"
        | "-fitt"
        | "--n-gpu-layers-draft"
        | "-ngld"
        | "--cache-ram"
        | "-cram"
        | "--poll" => {
            push(&mut asked.other, given(value.unwrap_or_default()));
            return value.is_some();
        }
        _ => {}
    }
    false
}

fn load_mode(asked: &mut Requested, value: Option<&str>, line: LineId) {
    match value {
        Some("none" | "dio") => asked.mmap = Some(Seen { value: false, line }),
        Some("mmap") => asked.mmap = Some(Seen { value: true, line }),
        Some("mlock") => asked.mlock = Some(Seen { value: true, line }),
        Some("mmap+mlock") => {
            asked.mmap = Some(Seen { value: true, line });
            asked.mlock = Some(Seen { value: true, line });
        }
        _ => {}
    }
}

fn push(list: &mut Vec<Seen<String>>, one: Seen<String>) {
    if list.len() < OPTIONS_MAX {
        list.push(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &str) -> Load {
        let mut load = Load::default();
        apply(&mut load, command, LineId(3));
        load
    }

    #[test]
    fn a_runner_of_dialect_a() {
        let load = read(
            "/usr/bin/ollama runner --model /m/blobs/sha256-1 --ctx-size 8192 --batch-size 512 \
             --n-gpu-layers 33 --threads 8 --flash-attn --kv-cache-type q8_0 --mlock --no-mmap \
             --parallel 4 --port 1",
        );
        let asked = &load.requested;
        assert_eq!(load.model.path.as_deref(), Some("/m/blobs/sha256-1"));
        assert_eq!(asked.ctx.map(|s| s.value), Some(8192));
        assert_eq!(asked.gpu_layers.map(|s| s.value), Some(33));
        assert_eq!(asked.parallel.map(|s| s.value), Some(4));
        assert_eq!(asked.flash_attention.as_ref().map(|s| s.value.as_str()), Some("on"));
        assert_eq!(asked.kv_type_v.as_ref().map(|s| s.value.as_str()), Some("q8_0"));
        assert_eq!(asked.mlock.map(|s| s.value), Some(true));
        assert_eq!(asked.mmap.map(|s| s.value), Some(false));
    }

    #[test]
    fn a_child_of_dialect_c() {
        let load = read(
            "\"C:\\Program Files\\o\\llama-server.exe\" -m 'D:\\my models\\q.gguf' -c 32768 -np 2 -ngl -1 \
             --flash-attn auto --cache-type-k q8_0 --split-mode none --main-gpu 1 -ot=exps=CPU \
             --load-mode dio --no-mmproj-offload",
        );
        let asked = &load.requested;
        assert_eq!(load.model.path.as_deref(), Some("D:\\my models\\q.gguf"));
        assert_eq!(asked.gpu_layers.map(|s| s.value), Some(-1));
        assert_eq!(asked.flash_attention.as_ref().map(|s| s.value.as_str()), Some("auto"));
        assert_eq!(asked.main_gpu.map(|s| s.value), Some(1));
        assert_eq!(asked.overrides.len(), 1);
        assert_eq!(asked.overrides[0].value, "-ot exps=CPU");
        assert_eq!(asked.mmap.map(|s| s.value), Some(false));
        assert_eq!(asked.other.len(), 1);
    }

    #[test]
    fn a_command_that_was_cut_is_read_as_far_as_it_goes() {
        assert_eq!(read("ollama runner --ctx-size").requested.ctx, None);
        assert_eq!(read("--flash-attn --ctx-size 5").requested.ctx.map(|s| s.value), Some(5));
    }
}
