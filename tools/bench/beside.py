"""Runs Atelier and diffusers in turn on the same machine and prints both medians and their ratio.

In turn, because a machine's speed drifts: a pair that ran within one minute of each other can be compared.
usage: beside.py [ROUNDS [MODEL [WIDTHxHEIGHT [STEPS]]]]
"""

import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
ATELIER = HERE.parent.parent / "target/release/atelier"
ROWS = {
    "load_s": "load, s",
    "first_picture_s": "first picture from process start, s",
    "picture_s": "picture, s",
    "train_step_s": "training step, s",
    "peak_rss_mib": "peak memory, MiB",
}


def measured(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(rounds="3", model=str(HERE.parent.parent / "models/flux-mini"), size="256x256", steps="20"):
    ours, theirs = [], []
    for number in range(1, int(rounds) + 1):
        print(f"round {number} of {rounds}", file=sys.stderr)
        ours.append(measured([ATELIER, "bench", "--model", model, "--size", size, "--steps", steps, "--json"]))
        theirs.append(measured([sys.executable, HERE / "reference.py", model, size, steps]))
    print(f"{size}, {steps} steps, float32, T5 length 128; medians of {rounds} rounds\n")
    print("| | Atelier | diffusers | ratio |\n| --- | ---: | ---: | ---: |")
    for key, label in ROWS.items():
        a, b = (statistics.median(one[key] for one in side) for side in (ours, theirs))
        print(f"| {label} | {a:.4g} | {b:.4g} | {a / b:.2f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
