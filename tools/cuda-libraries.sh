#!/usr/bin/env bash
# Gathers what a program with the `cuda` feature loads at run time, but for the driver: about 2 GB of NVIDIA's libraries, from its Python packages.
#
#   tools/cuda-libraries.sh TOOLKIT DIR        TOOLKIT is what tools/cuda-toolkit.sh made
#
# DIR/without-gpu holds a stand-in for the driver: each of its functions answers that there is no device.
set -euo pipefail
toolkit=${1:?usage: tools/cuda-libraries.sh TOOLKIT DIR}
dir=$(mkdir -p "${2:?usage: tools/cuda-libraries.sh TOOLKIT DIR}" && cd "$2" && pwd)

unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$unpacked" \
  'nvidia-cublas==13.1.*' 'nvidia-curand==10.4.*' 'nvidia-cuda-nvrtc==13.0.*' 'nvidia-cuda-runtime==13.0.*' 'nvidia-cudnn-cu13==9.14.*'
for wheel in "$unpacked"/*.whl; do python3 -m zipfile -e "$wheel" "$unpacked"; done
find "$unpacked/nvidia" -name '*.so.*' -exec mv -t "$dir" {} +

mkdir -p "$dir/without-gpu"
nm --dynamic --defined-only "$toolkit/nvidia/cu13/lib/libcuda.so" |
  awk '$2 == "T" { print "int " $3 "(void){ return 100; }  /* CUDA_ERROR_NO_DEVICE */" }' |
  gcc -shared -nostdlib -fPIC -Wl,-soname,libcuda.so.1 -o "$dir/without-gpu/libcuda.so.1" -x c -
