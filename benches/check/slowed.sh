#!/usr/bin/env bash
# Builds this tree with one operation slowed down on purpose: every rotation (ROPE) on the CPU waits for
# MICROSECONDS more. For docs/measurements/check.md: a check has to find that, and to name it.
#
#   benches/check/slowed.sh FOLDER MICROSECONDS     # the program is FOLDER/target/release/gpuwhy
set -euo pipefail
folder=$1
microseconds=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$folder"
(cd "$root" && git ls-files -z | tar --null --files-from=- --create) | tar --extract --directory "$folder"
file=$folder/src/engine/backend/cpu/executor.rs
python3 - "$file" "$microseconds" <<'P'
import sys

path, microseconds = sys.argv[1], int(sys.argv[2])
text = open(path).read()
before = "            Op::Rope(ref p) => {\n"
if text.count(before) != 1:
    sys.exit(f"{path}: the place to slow down is not there")
wait = f"""                let until = now_ns() + {microseconds * 1000};
                while now_ns() < until {{
                    std::hint::spin_loop();
                }}
"""
open(path, "w").write(text.replace(before, before + wait))
P
cargo build --release --locked --manifest-path "$folder/Cargo.toml" --target-dir "$folder/target"
echo "$folder/target/release/gpuwhy"
