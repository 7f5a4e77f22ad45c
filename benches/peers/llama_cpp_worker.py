"""Times llama.cpp on one GGUF file through its Python package, as llama-bench does.

Prints one JSON line per test: {"test": "pp512", "tokens_per_s": ...}. Tokens are random and the
same in every run; the clock stops after the logits are there. One untimed run warms up. With --info
prints the package's version and the instruction sets that the library was compiled for; the library
is the package's own unless LLAMA_CPP_LIB_PATH names another folder.
"""

import argparse
import json
import random
import time

import llama_cpp as L


def load(args):
    L.llama_log_set(QUIET, None)
    model_params = L.llama_model_default_params()
    model_params.use_extra_bufts = args.repack
    model = L.llama_model_load_from_file(args.model.encode(), model_params)
    params = L.llama_context_default_params()
    params.n_ctx = args.depth + max(args.prompt, args.generate) + 64
    params.n_batch, params.n_ubatch = 2048, 512
    params.n_threads = params.n_threads_batch = args.threads
    params.flash_attn_type = 1 if args.flash else 0
    return model, L.llama_init_from_model(model, params)


@L.llama_log_callback
def QUIET(level, text, data):
    pass


def decode(context, tokens, step):
    array = (L.llama_token * len(tokens))(*tokens)
    for start in range(0, len(tokens), step):
        n = min(step, len(tokens) - start)
        part = (L.llama_token * n).from_buffer(array, start * 4)
        if L.llama_decode(context, L.llama_batch_get_one(part, n)) != 0:
            raise SystemExit("llama_decode failed")
    L.llama_synchronize(context)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?")
    parser.add_argument("--info", action="store_true")
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--generate", type=int, default=128)
    parser.add_argument("-d", "--depth", type=int, default=0)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--flash", type=int, default=0)
    parser.add_argument("--repack", type=int, default=1)
    args = parser.parse_args()
    if args.info:
        print(f"llama-cpp-python {L.__version__}: {L.llama_print_system_info().decode()}")
        return
    if not args.model:
        parser.error("a model is needed")
    model, context = load(args)
    vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
    random.seed(1)
    pick = lambda n: [random.randrange(3, vocab) for _ in range(n)]
    memory = L.llama_get_memory(context)
    decode(context, pick(32), 32)
    decode(context, pick(2), 1)
    for name, n, step in (("pp", args.prompt, 2048), ("tg", args.generate, 1)):
        if n == 0:
            continue
        L.llama_memory_clear(memory, True)
        if args.depth:
            decode(context, pick(args.depth), 2048)
        tokens = pick(n)
        start = time.perf_counter()
        decode(context, tokens, step)
        seconds = time.perf_counter() - start
        depth = f" @ d{args.depth}" if args.depth else ""
        print(json.dumps({"test": f"{name}{n}{depth}", "tokens_per_s": n / seconds}), flush=True)


main()
