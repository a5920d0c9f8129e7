#!/bin/sh
# Starts Atelier in its container. A GPU's driver comes with the machine; where there is none, a stand-in says that there is no GPU, and a
# program that was built for one works on the CPU.
set -eu
driver=libcuda.so.1
if [ -d /opt/cuda/without-gpu ] && ! ldconfig -p | grep -q "$driver" && ! ls /usr/local/nvidia/lib*/"$driver" >/dev/null 2>&1; then
    export LD_LIBRARY_PATH="/opt/cuda/without-gpu:$LD_LIBRARY_PATH"
fi
exec "$(dirname "$0")/atelier" "$@"
