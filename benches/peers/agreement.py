"""Perplexity of gpuwhy next to llama.cpp's on the same GGUF files, by architecture and type.

For every architecture a small model with random weights is made by gpuwhy in F32 and quantised to
every type by llama.cpp itself; so is the built-in model, which was trained. Both engines then score
the same text, chunk by chunk as llama-perplexity does. Random models are a hard test: nothing in
them is robust against a wrong weight.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import llama_cpp as L
import numpy as np

ROOT = Path(__file__).resolve().parents[2]

# llama.cpp's file types whose tensors are (nearly) all of one type.
TYPES = {
    "F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q5_1": 9,
    "Q2_K": 10, "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30,
    "MXFP4": 38,
}

COMMON = """
block_count = 3
context_length = 512
embedding_length = 256
feed_forward_length = 768
vocab_size = 1024
attention.head_count = 4
attention.head_count_kv = 2
attention.key_length = 64
attention.value_length = 64
attention.layer_norm_rms_epsilon = 1e-6
rope.dimension_count = 64
rope.freq_base = 10000.0
"""

# Architecture: what differs from COMMON, and the [weights] table.
SHAPES = {
    "llama": ("", dict(tied_embeddings=False, qkv_bias=False, qk_norm=False)),
    "qwen2": ("", dict(tied_embeddings=False, qkv_bias=True, qk_norm=False)),
    "qwen3": ("", dict(tied_embeddings=True, qkv_bias=False, qk_norm=True)),
    "qwen3moe": (
        "expert_count = 8\nexpert_used_count = 2\nexpert_feed_forward_length = 256\n",
        dict(tied_embeddings=False, qkv_bias=False, qk_norm=True),
    ),
    "gemma3": (
        "attention.sliding_window = 128\n",
        dict(tied_embeddings=True, qkv_bias=False, qk_norm=True),
    ),
    "phi3": (
        "rope.scaling.original_context_length = 512\n",
        dict(tied_embeddings=False, qkv_bias=False, qk_norm=False),
    ),
}


@L.llama_log_callback
def QUIET(level, text, data):
    pass


def write_shapes(folder):
    folder.mkdir(exist_ok=True)
    for arch, (extra, weights) in SHAPES.items():
        body = COMMON.replace("block_count = 3", "block_count = 7") if arch == "gemma3" else COMMON
        flags = "\n".join(f"{k} = {str(v).lower()}" for k, v in weights.items())
        (folder / f"agree-{arch}.toml").write_text(
            f'[general]\narchitecture = "{arch}"\nname = "agree {arch}"\n\n'
            f"[{arch}]{body}{extra}\n[weights]\n{flags}\n"
        )


def run(command, env):
    result = subprocess.run(command, capture_output=True, text=True, env=env)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return result.stdout


def quantise(source, target, ftype):
    params = L.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = ftype, True, 2
    if L.llama_model_quantize(str(source).encode(), str(target).encode(), params) != 0:
        return False
    return True


def llama_cpp_perplexity(path, text, n_ctx, chunks, flash):
    model = L.llama_model_load_from_file(str(path).encode(), L.llama_model_default_params())
    params = L.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = n_ctx
    params.n_outputs_max = params.n_outputs_max_per_seq = n_ctx
    params.n_threads = params.n_threads_batch = 2
    params.flash_attn_type = flash
    context = L.llama_init_from_model(model, params)
    vocab = L.llama_model_get_vocab(model)
    n_vocab = L.llama_vocab_n_tokens(vocab)
    raw = text.encode()
    buffer = (L.llama_token * (len(raw) + 8))()
    n = L.llama_tokenize(vocab, raw, len(raw), buffer, len(buffer), True, False)
    tokens = list(buffer[:n])
    total, count = 0.0, 0
    for c in range(min(chunks, n // n_ctx)):
        part = tokens[c * n_ctx:(c + 1) * n_ctx]
        if L.llama_vocab_get_add_bos(vocab):
            part[0] = L.llama_vocab_bos(vocab)
        L.llama_memory_clear(L.llama_get_memory(context), True)
        batch = L.llama_batch_init(n_ctx, 0, 1)
        batch.n_tokens = n_ctx
        for i, token in enumerate(part):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        if L.llama_decode(context, batch) != 0:
            sys.exit(f"{path}: llama_decode failed")
        for i in range(n_ctx // 2, n_ctx - 1):
            row = np.ctypeslib.as_array(L.llama_get_logits_ith(context, i), shape=(n_vocab,))
            row = row.astype(np.float64)
            top = row.max()
            total += math.log(np.exp(row - top).sum()) - (row[tokens[c * n_ctx + i + 1]] - top)
            count += 1
        L.llama_batch_free(batch)
    L.llama_free(context)
    L.llama_model_free(model)
    return math.exp(total / count)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpuwhy", default=str(ROOT / "target/release/gpuwhy"))
    parser.add_argument("--work", type=Path, default=ROOT / "target/agreement")
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("-c", "--ctx", type=int, default=512)
    args = parser.parse_args()
    L.llama_log_set(QUIET, None)
    args.work.mkdir(parents=True, exist_ok=True)
    write_shapes(args.work / "models")
    env = dict(os.environ, GPUWHY_PROFILES=str(args.work))
    text_file = ROOT / "fixtures/builtin/heldout.txt"
    text = text_file.read_text()
    worst = 0.0
    print("| model | type | llama.cpp | gpuwhy | difference |")
    print("|---|---|---|---|---|")
    for name in ["built-in", *SHAPES]:
        source = ROOT / "fixtures/builtin/builtin.gguf"
        if name != "built-in":
            source = args.work / f"{name}-F32.gguf"
            source.unlink(missing_ok=True)
            run([args.gpuwhy, "model", "synth", f"synth:agree-{name}:F32", "-o", source], env)
        for kind, ftype in TYPES.items():
            path = args.work / f"{name}-{kind}-q.gguf"
            if not quantise(source, path, ftype):
                print(f"| {name} | {kind} | llama.cpp cannot make it | | |")
                continue
            theirs = llama_cpp_perplexity(path, text, args.ctx, args.chunks, 0)
            report = run([args.gpuwhy, "perplexity", path, "-f", text_file, "-c", str(args.ctx),
                          "--chunks", str(args.chunks), "--format", "json"], env)
            own = json.loads(report)["perplexity"]
            difference = own / theirs - 1
            worst = max(worst, abs(difference))
            print(f"| {name} | {kind} | {theirs:.4f} | {own:.4f} | {difference:+.3%} |", flush=True)
            path.unlink()
    print(f"\nlargest difference: {worst:.3%}")


main()
