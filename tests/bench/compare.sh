#!/bin/sh
# Times Atelier and diffusers in turn on the same two cores, prints the ratios, and writes them to tests/bench/results/.
# usage: tests/bench/compare.sh [--rounds 3] [--size 256x256] [--steps 20] [--model models/flux-mini]
# PEER_PYTHON names a Python that has the packages of requirements.txt; without it they are installed into .venv (about 5 GB).
set -eu
cd "$(dirname "$0")/../.."

[ -x target/release/atelier ] || { echo "target/release/atelier is missing; make build makes it" >&2; exit 1; }

python=${PEER_PYTHON:-.venv/bin/python}
wanted=tests/bench/requirements.txt
if [ -z "${PEER_PYTHON:-}" ] && ! cmp -s $wanted .venv/installed; then
    python3 -c 'import ensurepip' 2>/dev/null || tools/debian.sh python3-venv
    python3 -m venv .venv
    .venv/bin/pip install --quiet --requirement $wanted
    cp $wanted .venv/installed
fi
exec "$python" tests/bench/compare.py "$@"
