#!/usr/bin/env bash
# Makes a CUDA 13.0 toolkit in a folder, for building Atelier's `cuda` feature on a machine that has neither a GPU nor CUDA.
#
#   tools/cuda-toolkit.sh DIR                  makes or completes DIR, about 270 MB
#   source DIR/env                             CUDA_HOME, CUDNN_INCLUDE, CUDA_COMPUTE_CAP (90 unless set), PATH, RUSTFLAGS
#   tools/cargo build --release --features cuda
#
# nvcc, the headers and the CUDA runtime are NVIDIA's Python packages; of cuDNN and of its C++ frontend only the headers are kept. What a
# GPU machine brings itself (driver, cuBLAS, cuRAND, NVRTC, cuDNN) is linked against empty libraries that name what cudarc declares.
# The program then needs libcuda.so.1 and CUDA 13's and cuDNN 9's libraries on its loader's path.
set -euo pipefail
dir=$(mkdir -p "${1:?usage: tools/cuda-toolkit.sh DIR}" && cd "$1" && pwd)
root=$dir/nvidia/cu13

# wheels FOLDER REQUIREMENT...: downloads and unpacks.
wheels() {
  local into=$1 files wheel
  shift
  files=$(mktemp -d)
  python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$files" "$@"
  for wheel in "$files"/*.whl; do python3 -m zipfile -e "$wheel" "$into"; done
  rm -rf "$files"
}

if [[ ! -x $root/bin/nvcc ]]; then
  wheels "$dir" nvidia-{cuda-nvcc,nvvm,cuda-crt,cuda-runtime,cuda-cccl}'==13.0.*'
  find "$root/bin" "$root/nvvm/bin" -type f -exec chmod +x {} +
  ln -sfn lib "$root/lib64"
  ln -sf libcudart.so.13 "$root/lib/libcudart.so"
fi

if [[ ! -f $dir/cudnn/include/cudnn_frontend.h ]]; then
  unpacked=$(mktemp -d)
  wheels "$unpacked" 'nvidia-cudnn-cu13==9.14.*' 'nvidia-cudnn-frontend==1.15.*'
  mkdir -p "$dir/cudnn/include" # a folder of that name, since the frontend includes "../include/…"
  cp -r "$unpacked/nvidia/cudnn/include/." "$unpacked/include/." "$dir/cudnn/include/"
  rm -rf "$unpacked"
fi

"$(dirname "$0")/cargo" fetch --quiet --manifest-path "$(dirname "$0")/../Cargo.toml"
cudarc=$(find "${CARGO_HOME:-$HOME/.cargo}"/registry/src -maxdepth 2 -name 'cudarc-0.*' | sort -V | tail -n 1)
[[ -n $cudarc ]] || { echo "cudarc is not among the fetched crates" >&2; exit 1; }

# empty NAME SONAME MODULE PREFIX: a library whose functions are those of a cudarc module.
empty() {
  grep -rhoE "fn $4[A-Za-z0-9_]+" "$cudarc/src/$3/sys" | awk '{ print "void " $2 "(void){}" }' | sort -u |
    gcc -shared -nostdlib -Wl,-soname,"$2" -o "$root/lib/lib$1.so" -x c -
}
empty cuda libcuda.so.1 driver cu
empty cublas libcublas.so.13 cublas cublas
empty cublasLt libcublasLt.so.13 cublaslt cublasLt
empty curand libcurand.so.10 curand curand
empty nvrtc libnvrtc.so.13 nvrtc nvrtc
empty cudnn libcudnn.so.9 cudnn cudnn

cat >"$dir/env" <<ENV
export CUDA_HOME=$root CUDA_PATH=$root CUDNN_INCLUDE=$dir/cudnn/include CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-90}
export PATH=$root/bin:\$PATH
export RUSTFLAGS="-L native=$root/lib \${RUSTFLAGS:-}"
ENV
"$root/bin/nvcc" --version | tail -n 2
echo "ready: source $dir/env"
