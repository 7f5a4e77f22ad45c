"""Runs gpuwhy and llama.cpp in turn on the same GGUF files and prints a table of medians.

Every round times both engines on every test, so that a slow spell of the machine hits both. For
llama.cpp the best of flash attention on and off, and of run-time repacking on and off, counts for
each cell. See README.md for how to install the peer.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SETTINGS = [(flash, repack) for flash in (0, 1) for repack in (0, 1)]


def run(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return result.stdout


def ours(args, model, p, n, d):
    tests = run([args.gpuwhy, "bench", model, "-p", str(p), "-n", str(n), "-d", str(d),
                 "-r", "1", "-t", str(args.threads), "-o", "json"])
    rows = json.loads(tests)
    rows = rows["results"] if isinstance(rows, dict) else rows
    found = {}
    for row in rows:
        kind, count = ("pp", row["n_prompt"]) if row["n_prompt"] else ("tg", row["n_gen"])
        depth = f" @ d{row['n_depth']}" if row["n_depth"] else ""
        found[f"{kind}{count}{depth}"] = row["avg_ts"]
    return found


def theirs(args, model, p, n, d, flash, repack):
    lines = run([sys.executable, HERE / "llama_cpp_worker.py", model, "-p", str(p), "-n", str(n),
                 "-d", str(d), "-t", str(args.threads), "--flash", str(flash),
                 "--repack", str(repack)])
    return {r["test"]: r["tokens_per_s"] for r in map(json.loads, lines.splitlines())}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--gpuwhy", default="target/release/gpuwhy")
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--cells", default="512:128:0,0:64:2048", help="prompt:generate:depth,…")
    args = parser.parse_args()
    cells = [tuple(map(int, c.split(":"))) for c in args.cells.split(",")]
    mine, peer = {}, {}
    for round_ in range(args.rounds):
        for model in args.models:
            for p, n, d in cells:
                for test, value in ours(args, model, p, n, d).items():
                    mine.setdefault((model, test), []).append(value)
                for setting in SETTINGS:
                    for test, value in theirs(args, model, p, n, d, *setting).items():
                        peer.setdefault((model, test), {}).setdefault(setting, []).append(value)
                print(f"round {round_ + 1}: {Path(model).stem} {p}:{n}:{d}", file=sys.stderr)
    print(f"{args.rounds} interleaved rounds, {args.threads} threads, {cpu_name()}\n")
    print("| model | test | gpuwhy t/s | llama.cpp t/s (best setting) | ratio |")
    print("|---|---|---|---|---|")
    for (model, test), values in mine.items():
        best = max(peer[model, test].items(), key=lambda s: statistics.median(s[1]))
        (flash, repack), their = best[0], statistics.median(best[1])
        own = statistics.median(values)
        how = f"fa {'on' if flash else 'off'}, repack {'on' if repack else 'off'}"
        print(f"| {Path(model).stem} | {test} | {own:.1f} | {their:.1f} ({how}) | {own / their:.2f} |")


def cpu_name():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


main()
