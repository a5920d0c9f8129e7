#!/bin/sh
# Times Atelier and diffusers in turn on the same GPU, FLUX.1-dev at full size with random weights, prints the ratios, and writes them to
# tests/bench/results/. Needs Atelier with the feature `cuda`, and Python with torch for CUDA.
# usage: tests/bench/gpu.sh [--cases generate,train] [--repeat 5] [--without-peer]
# ATELIER       the program; target/release/atelier unless set
# PEER_PYTHON   the Python that has torch; python3 unless set
# PEER_WHEELS   a folder of wheels (diffusers, transformers, peft, accelerate, bitsandbytes and what they need beside torch), installed into
#               a temporary folder; without it that Python must have them
set -eu
cd "$(dirname "$0")/../.."

export ATELIER="${ATELIER:-target/release/atelier}"
python=${PEER_PYTHON:-python3}
[ -x "$ATELIER" ] || { echo "$ATELIER is missing: cargo build --release --features cuda makes it" >&2; exit 1; }

# The CUDA libraries that the program was linked with, wherever this machine keeps them.
if ! "$ATELIER" --version >/dev/null 2>&1; then
    ATELIER_LIBRARIES=$(find / \( -name libcublas.so.13 -o -name libcublasLt.so.13 -o -name libcurand.so.10 -o -name libnvrtc.so.13 -o -name libcudart.so.13 \
        -o -name libcudnn.so.9 -o -name libcuda.so.1 \) -not -path '/proc/*' -not -path '*compat*' -exec dirname {} + 2>/dev/null | sort -u | paste -sd:)
    export ATELIER_LIBRARIES
    LD_LIBRARY_PATH=$ATELIER_LIBRARIES "$ATELIER" --version >/dev/null
fi

if [ -n "${PEER_WHEELS:-}" ]; then
    packages=$(mktemp -d)
    trap 'rm -rf "$packages"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --target "$packages" "$PEER_WHEELS"/*.whl
    export PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}"
fi
"$python" tests/bench/gpu_compare.py "$@"
