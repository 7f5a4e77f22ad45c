"""Runs gpuwhy and its peers in turn on the same GGUF files and prints a table of medians.

Every round times all engines on every test, so that a slow spell of the machine hits all of them.
For llama.cpp the best of flash attention on and off, and of run-time repacking on and off, counts
for each cell; likewise for ik_llama.cpp's llama-bench, when --ik names one. With --limits each round
also measures what the machine can do, and the table tells which share of it gpuwhy used. The output
is Markdown. See README.md for how to install the peers.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SETTINGS = [(flash, repack) for flash in (0, 1) for repack in (0, 1)]
LIMITS = [
    ("limit_read_gb_s", "memory read", "GB/s"),
    ("limit_int8_gop_s", "int8", "GOP/s"),
    ("limit_int8_short_gop_s", "int8 with sums of 16 bits", "GOP/s"),
    ("limit_f32_gflop_s", "f32", "GFLOP/s"),
]


def run(command, env=None):
    command = [str(part) for part in command]
    whole = {**os.environ, **(env or {})}
    result = subprocess.run(command, capture_output=True, text=True, env=whole)
    if result.returncode != 0:
        sys.exit(f"{shlex.join(command)}\n{result.stderr}")
    return result.stdout


def test_name(kind, n, depth):
    return f"{kind}{n}" + (f" @ d{depth}" if depth else "")


def tests_of(cell):
    p, n, d = cell
    return [(kind, count) for kind, count in (("pp", p), ("tg", n)) if count > 0]


def ours(args, model, cell):
    """Tokens per second by test, and by test the record with its limits."""
    p, n, d = cell
    command = [args.gpuwhy, "bench", model, "-p", p, "-n", n, "-d", d, "-r", 1,
               "-t", args.threads, "-o", "json"]
    env = {"GPUWHY_CPU_ISA": args.isa} if args.isa else None
    records = json.loads(run(command + (["--limits"] if args.limits else []), env))
    found = {}
    for record in records:
        kind, count = ("pp", record["n_prompt"]) if record["n_prompt"] else ("tg", record["n_gen"])
        found[test_name(kind, count, record["n_depth"])] = record
    return found


def worker_env(args):
    return {"LLAMA_CPP_LIB_PATH": str(Path(args.lib_path).resolve())} if args.lib_path else None


def llama_cpp(args, model, cell, flash, repack):
    p, n, d = cell
    lines = run([sys.executable, HERE / "llama_cpp_worker.py", model, "-p", p, "-n", n, "-d", d,
                 "-t", args.threads, "--flash", flash, "--repack", repack], worker_env(args))
    return {r["test"]: r["tokens_per_s"] for r in map(json.loads, lines.splitlines())}


def ik_llama_cpp(args, model, cell, flash, repack):
    """llama-bench of ik_llama.cpp. It has no prompts at a depth; generation there is its -gp."""
    p, n, d = cell
    command = [args.ik, "-m", model, "-t", args.threads, "-r", 1, "-o", "json",
               "-fa", flash, "-rtr", repack]
    if d:
        if n == 0:
            return {}
        command += ["-p", 0, "-n", 0, "-gp", f"{d},{n}"]
    else:
        command += ["-p", p, "-n", n]
    found = {}
    for record in json.loads(run(command)):
        if d:
            found[test_name("tg", n, d)] = record["avg_ts"]
        elif record["n_prompt"]:
            found[test_name("pp", record["n_prompt"], 0)] = record["avg_ts"]
        else:
            found[test_name("tg", record["n_gen"], 0)] = record["avg_ts"]
    return found


class Peer:
    """One peer's values: by model and test, by setting, one per round."""

    def __init__(self, name, time, repack_name):
        self.name, self.time, self.repack_name = name, time, repack_name
        self.values = {}

    def round(self, args, model, cell):
        for setting in SETTINGS:
            for test, value in self.time(args, model, cell, *setting).items():
                by_setting = self.values.setdefault((model, test), {})
                by_setting.setdefault(setting, []).append(value)

    def best(self, model, test):
        """The median of the best setting, and which that is; None where it was not timed."""
        by_setting = self.values.get((model, test))
        if not by_setting:
            return None
        (flash, repack), values = max(by_setting.items(), key=lambda s: statistics.median(s[1]))
        how = f"fa {'on' if flash else 'off'}, {self.repack_name} {'on' if repack else 'off'}"
        return statistics.median(values), how


def table(args, mine, peers):
    head = ["model", "test", "gpuwhy t/s"]
    for peer in peers:
        head += [f"{peer.name} t/s (best setting)", "ratio"]
    if args.limits:
        head += ["of memory read", "of compute"]
    lines = ["| " + " | ".join(head) + " |", "|---|---" + "|---:" * (len(head) - 2) + "|"]
    for (model, test), records in mine.items():
        own = statistics.median(r["avg_ts"] for r in records)
        row = [Path(model).stem, test, f"{own:.1f}"]
        for peer in peers:
            best = peer.best(model, test)
            row += [f"{best[0]:.1f} ({best[1]})", f"{own / best[0]:.2f}"] if best else ["–", "–"]
        if args.limits:
            row += [f"{share(records, name):.0%}" for name in ("read_share", "compute_share")]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def share(records, name):
    """The median of a share. Each round's is against the limits of that round."""
    return statistics.median(r[name] for r in records)


def limit_lines(records):
    """The limits over all rounds: each the median of what the rounds found, with their range."""
    first = records[0]
    lines = [f"Limits of the machine, measured around every gpuwhy cell ({first['isa']}):", ""]
    for name, title, unit in LIMITS:
        values = [r[name] for r in records]
        if max(values) == 0:
            continue
        middle = statistics.median(values)
        lines.append(f"- {title}: {middle:.1f} {unit} ({min(values):.1f} to {max(values):.1f})")
    return "\n".join(lines)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--gpuwhy", default="target/release/gpuwhy")
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--cells", default="512:128:0,0:64:2048", help="prompt:generate:depth,…")
    parser.add_argument("--limits", action="store_true",
                        help="measure the machine's limits too, and tell gpuwhy's share of them")
    parser.add_argument("--ik", metavar="PATH", help="llama-bench of ik_llama.cpp, to time as well")
    parser.add_argument("--lib-path", metavar="DIR", default=os.environ.get("LLAMA_CPP_LIB_PATH"),
                        help="folder of another llama.cpp library, for example one without AVX-512")
    parser.add_argument("--isa", choices=["scalar", "avx2", "avx512"],
                        help="instruction set of gpuwhy's kernels (GPUWHY_CPU_ISA)")
    return parser.parse_args()


def main():
    args = arguments()
    cells = [tuple(map(int, c.split(":"))) for c in args.cells.split(",")]
    peers = [Peer("llama.cpp", llama_cpp, "repack")]
    if args.ik:
        peers.append(Peer("ik_llama.cpp", ik_llama_cpp, "rtr"))
    info = run([sys.executable, HERE / "llama_cpp_worker.py", "--info"], worker_env(args)).strip()
    mine = {}
    for round_ in range(args.rounds):
        for model in args.models:
            for cell in cells:
                for test, record in ours(args, model, cell).items():
                    mine.setdefault((model, test), []).append(record)
                for peer in peers:
                    peer.round(args, model, cell)
                name = ":".join(map(str, cell))
                print(f"round {round_ + 1}: {Path(model).stem} {name}", file=sys.stderr)
    records = [record for found in mine.values() for record in found]
    print(f"{args.rounds} interleaved rounds, {args.threads} threads, {cpu_name()}, "
          f"{datetime.date.today()}\n")
    print(f"    python {shlex.join(sys.argv)}\n")
    print(f"llama.cpp: {info}\n")
    if args.limits:
        print(limit_lines(records) + "\n")
    print(table(args, mine, peers))


def cpu_name():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


main()
