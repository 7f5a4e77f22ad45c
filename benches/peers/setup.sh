#!/bin/sh
# Makes a Python environment with the peer, llama.cpp as llama-cpp-python packages it, compiled on
# this machine with native flags. With "avx2" as second argument also builds the library without
# AVX-512, as a machine that only has AVX2 would.
#
#   benches/peers/setup.sh DIR [avx2]
#
# Afterwards: DIR/bin/python benches/peers/speed.py FILE.gguf …
# and, for AVX2 only: … --lib-path DIR/avx2/llama_cpp/lib --isa avx2
# Needs python3 with venv, a C++ compiler and CMake; nothing outside DIR is touched.
set -eu

[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
dir=$1
package=llama-cpp-python==0.3.36

[ -x "$dir/bin/python" ] || python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --upgrade pip
"$dir/bin/pip" install --quiet numpy gguf==0.19.0

# A wheel from the package index would be compiled for some other machine, so it is made here, and
# pip's cache of wheels is left out because it does not know about flags.
CMAKE_ARGS="-DGGML_NATIVE=ON" "$dir/bin/pip" install --no-cache-dir --no-binary llama-cpp-python \
    --force-reinstall --no-deps "$package"
"$dir/bin/pip" install --quiet "$package"

if [ "${2:-}" = avx2 ]; then
    CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_AVX512=OFF" \
        "$dir/bin/pip" install --no-cache-dir --no-binary llama-cpp-python --no-deps --upgrade \
        --target "$dir/avx2" "$package"
fi

"$dir/bin/python" "$(dirname "$0")/llama_cpp_worker.py" --info
if [ -d "$dir/avx2/llama_cpp/lib" ]; then
    LLAMA_CPP_LIB_PATH="$dir/avx2/llama_cpp/lib" \
        "$dir/bin/python" "$(dirname "$0")/llama_cpp_worker.py" --info
fi
