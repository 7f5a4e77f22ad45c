#!/usr/bin/env python3
"""Records a series of samples of one program against itself: the noise of a machine.

Every sample is a process of its own, as `gpuwhy check` takes them:

    gpuwhy bench MODEL -p 256 -n 32 -r 1 -o json

The file holds, for each sample, when it began, prompt and decode speed, and what else the machine did
meanwhile (steal time and the processor time of others, as shares of all processors). Machine names and
paths are not recorded. Nothing is left out: a sample that failed ends the recording with an error.

    benches/check/record_noise.py target/release/gpuwhy fixtures/check_noise/NAME.json \\
        --samples 200 --about "what else went on"

With --calm, a sample begins only after half a second in which others used less than a tenth of the
processors, so that a machine which is shared by turns is recorded in its free moments.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time


def processors():
    """Seconds that all processors together were busy, idle and stolen, since boot."""
    with open("/proc/stat", encoding="ascii") as stat:
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, (idle + iowait) / tick, steal / tick


def passed(before):
    """The same since `before`."""
    return [now - then for now, then in zip(processors(), before)]


def own():
    """Processor seconds of the processes that were started here and ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def calm():
    """Whether the processors are nearly idle for half a second."""
    before = processors()
    time.sleep(0.5)
    busy, idle, stolen = passed(before)
    return busy + stolen < 0.1 * (busy + idle + stolen)


def sample(command):
    """Runs the program once."""
    before, mine = processors(), own()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    (busy, idle, stolen), mine = passed(before), own() - mine
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stderr.decode(errors='replace')[-500:]}")
    whole = max(busy + idle + stolen, 1e-9)
    speed = {"prompt" if t["n_prompt"] else "decode": t["avg_ts"] for t in json.loads(done.stdout)}
    return {
        "metrics": {
            "prompt_tokens_per_s": round(speed["prompt"], 3),
            "decode_tokens_per_s": round(speed["decode"], 4),
        },
        "conditions": {
            "stolen_share": round(stolen / whole, 4),
            "others_share": round(max(busy - mine, 0.0) / whole, 4),
        },
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("program")
    arguments.add_argument("out")
    arguments.add_argument("--model", default="synth:qwen2.5-0.5b:Q4_K_M")
    arguments.add_argument("--generate", type=int, default=32)
    arguments.add_argument("--samples", type=int, default=200)
    arguments.add_argument("--about", default="")
    arguments.add_argument("--before", default="", help="a command to put before each sample, such as a lock")
    arguments.add_argument("--calm", action="store_true", help="wait for free processors before each")
    arguments.add_argument("--one", action="store_true", help="print one sample; what this script asks itself")
    a = arguments.parse_args()
    if a.one:
        command = [a.program, "bench", a.model, "-p", "256", "-n", str(a.generate), "-r", "1", "-o", "json"]
        print(json.dumps(sample(command) if calm() or not a.calm else None))
        return
    one = a.before.split() + [sys.executable, *sys.argv, "--one"]
    begun, samples = time.monotonic(), []
    while len(samples) < a.samples:
        at = time.monotonic() - begun
        got = json.loads(subprocess.run(one, stdout=subprocess.PIPE, check=True).stdout)
        if got is None:
            time.sleep(1.0)
            continue
        samples.append({"at_s": round(at, 2), **got})
        with open(a.out, "w", encoding="ascii") as out:
            head = {"about": a.about, "model": a.model, "tests": f"pp256, tg{a.generate}"}
            lines = ",\n".join("    " + json.dumps(s) for s in samples)
            out.write(json.dumps(head, indent=2)[:-2] + ',\n  "samples": [\n' + lines + "\n  ]\n}\n")


if __name__ == "__main__":
    main()
