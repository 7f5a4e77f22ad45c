#!/usr/bin/env bash
# A check of a build against itself, of one that is slowed down on purpose (slowed.sh), and of one layer
# less on a device: the table "On this machine" of docs/measurements/check.md. Takes as long as the checks do.
#
#   benches/check/builds.sh PROGRAM SLOWED REPETITIONS [FLAGS OF CHECK…]
set -euo pipefail
program=$1
slowed=$2
repetitions=$3
shift 3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
model=synth:qwen2.5-0.5b:Q4_K_M

# NAME PROGRAM FLAGS…: runs a check and prints one line about it.
check() {
    local name=$1 candidate=$2 code=0
    shift 2
    "$candidate" check "$model" -q --format json "$@" >"$folder/check.json" || code=$?
    python3 - "$name" "$code" "$folder/check.json" <<'P'
import json
import sys

name, code, path = sys.argv[1:]
report = json.load(open(path))
told = [name, f"exit {code}", report["verdict"]]
timing = report["timing"] or {"tests": [], "seconds": 0}
for test in timing["tests"]:
    for m in test["metrics"]:
        ratio = m["ratio"]
        change = "-" if ratio is None else f"{100 * (ratio - 1):+.1f} %"
        told.append(f'{test["test"]} {m["metric"]} {m["verdict"]} {change} of {m["candidate_samples"]}')
    if test["rounds_disturbed"]:
        told.append(f'{test["test"]}: {test["rounds_disturbed"]} of {test["rounds"]} rounds set aside')
if report["structure"]:
    first = report["structure"][0]
    told.append(f'{first["fact"]} {first["baseline"]} to {first["candidate"]}')
for test in report["attribution"]:
    for phase in test["phases"]:
        for part in phase["parts"][:2]:
            share = part["share"]
            share = "-" if share is None else f"{100 * share:.0f} %"
            told.append(f'{test["test"]} {phase["phase"]}: {part["what"]} {share}')
told.append(f'{timing["seconds"]:.0f} s')
print("; ".join(told), flush=True)
P
}

for i in $(seq "$repetitions"); do
    check "same $i" "$program" --against "$program" "$@"
done
for i in 1 2 3; do
    check "slowed $i" "$slowed" --against "$program" "$@"
done
device="-dev virtual:300MiB -ngl 12"
# shellcheck disable=SC2086
check "one layer less" "$program" --structure-only -dev virtual:300MiB -ngl 11 --against-flags "$device"
# shellcheck disable=SC2086
check "the same layers" "$program" --structure-only $device --against-flags "$device"
