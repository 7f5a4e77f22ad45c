#!/usr/bin/env bash
# Measures the CUDA backend on a real GPU and prints the table of docs/measurements/cuda.md.
#
#   benches/cuda/measure.sh [OUT]        # OUT: a folder for the raw JSON, default target/cuda-measure
#
# Needs NVIDIA's driver (525 or newer), Rust, Python 3 and about 60 GiB of disk for models with random
# weights; downloads nothing. With LLAMA_BENCH=/path/to/llama-bench (a CUDA build) the same files are
# timed with it, in turn with ours. GPUWHY_MEASURE_QUICK=1 runs the small model only.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-target/cuda-measure}
mkdir -p "$out"

cargo build --release --locked
gpuwhy=target/release/gpuwhy
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit --format=csv,noheader \
    | tee "$out/gpu.txt"

# A GPU that computes wrongly has no speed worth telling.
"$gpuwhy" selftest -dev CUDA0 --format json >"$out/selftest.json"

models=(synth:qwen2.5-0.5b:Q4_K_M synth:llama3.1-8b:Q4_K_M synth:llama3.1-8b:Q8_0 synth:llama3.1-8b:F16
    synth:qwen3-30b-a3b:Q4_K_M)
if [[ ${GPUWHY_MEASURE_QUICK:-0} != 0 ]]; then models=("${models[0]}"); fi

for model in "${models[@]}"; do
    name=${model#synth:}
    name=${name//:/-}
    echo "== $model" >&2
    "$gpuwhy" bench "$model" -dev CUDA0 -ngl all -p 512 -n 128 -d 0,8192 -r 5 -o json \
        >"$out/$name.ours.json"
    # Where the time of a token goes, from the device's events.
    "$gpuwhy" run "$model" -dev CUDA0 -ngl all -n 256 --ignore-eos --temp 0 -q --format json \
        >"$out/$name.run.json"
    # Eight sequences at once against one.
    prompts=()
    for i in 1 2 3 4 5 6 7 8; do prompts+=(-p "Story number $i:"); done
    "$gpuwhy" run "$model" -dev CUDA0 -ngl all -n 128 -np 8 "${prompts[@]}" --ignore-eos --temp 0 -q \
        --format json >"$out/$name.run8.json"
    if [[ -n ${LLAMA_BENCH:-} ]]; then
        file="$out/$name.gguf"
        [[ -e $file ]] || "$gpuwhy" model synth "${model#synth:}" -o "$file"
        "$LLAMA_BENCH" -m "$file" -ngl 99 -fa 1 -p 512 -n 128 -d 0,8192 -r 5 -o json \
            >"$out/$name.llama.json"
    fi
done

python3 benches/cuda/table.py "$out"
