#!/usr/bin/env python3
"""Turns the JSON that measure.sh wrote into the table of docs/measurements/cuda.md."""

import json
import pathlib
import sys


def load(path):
    return json.loads(path.read_text()) if path.exists() else None


def speeds(records):
    """Tokens per second by (prompt tokens, generated tokens, depth)."""
    return {(r["n_prompt"], r["n_gen"], r["n_depth"]): r["avg_ts"] for r in records or []}


def main():
    folder = pathlib.Path(sys.argv[1])
    selftest = load(folder / "selftest.json")
    device = selftest["devices"][0]
    limits = device["measurements"]
    bandwidth, matrix = limits["memory_bytes_per_s"], limits["matrix_f16_flops"]
    print((folder / "gpu.txt").read_text().strip())
    print(f"selftest: {device['cases']} cases, {device['failed']} wrong; memory {bandwidth / 1e9:.0f} GB/s, "
          f"F16 product {(matrix or 0) / 1e12:.1f} TFLOP/s, launch {limits['launch_ns']:.0f} ns")
    print()
    print("| model | decode t/s | of bandwidth | at depth 8192 | pp512 t/s | of matrix rate | 8 sequences "
          "| GPU computes | llama.cpp decode | llama.cpp pp512 |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for path in sorted(folder.glob("*.ours.json")):
        name = path.name.removesuffix(".ours.json")
        ours, theirs = speeds(load(path)), speeds(load(folder / f"{name}.llama.json"))
        run, eight = load(folder / f"{name}.run.json"), load(folder / f"{name}.run8.json")
        facts = run["facts"]
        gpu = facts["memory"]["devices"][0]
        decode, prompt = ours[(0, 128, 0)], ours[(512, 0, 0)]
        deep = ours[(0, 128, 8192)]
        dense = facts["model"]["experts"] == 0
        # All weights on the GPU are read for each token; of experts only some are.
        share = f"{decode * gpu['weight_bytes'] / bandwidth:.0%}" if dense else "-"
        rate = f"{prompt * 2 * facts['model']['parameters'] / matrix:.0%}" if dense and matrix else "-"
        one, many = (r["timings"]["decode"]["tokens_per_s"] for r in (run, eight))
        splits = [s for s in run["splits"] if s["phase"] == "decode" and s["device"].startswith("CUDA")]
        compute = sum(s["compute_ns"] for s in splits) / run["timings"]["decode"]["total_ns"]
        print(f"| {name} | {decode:.1f} | {share} | {deep:.1f} | {prompt:.0f} | {rate} | {many / one:.1f} x "
              f"| {compute:.0%} | {theirs.get((0, 128, 0), float('nan')):.1f} "
              f"| {theirs.get((512, 0, 0), float('nan')):.0f} |")


main()
