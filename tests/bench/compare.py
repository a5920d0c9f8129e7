"""Atelier and diffusers in turn on the same two cores: medians over the rounds, ratios, and a JSON record."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ATELIER = HERE.parent.parent / "target/release/atelier"
CORES = 2

# name, JSON key, and what Atelier must reach: a share of the reference, or seconds.
LINES = [
    ("load, s", "load_s", None),
    ("first picture, s", "first_picture_s", None),
    ("picture, s", "picture_s", ("ratio", 0.9)),
    ("training step, s", "train_step_s", ("ratio", 0.9)),
    ("peak memory, MiB", "peak_rss_mib", None),
    ("generate to file, s", "generate_s", ("seconds", 3.0)),
]


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="models/flux-mini")
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def on_two_cores(command):
    """Runs a command on the first two cores that this process may use; both sides get the same."""
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    count = str(len(cores))
    environment = {**os.environ, "RAYON_NUM_THREADS": count, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    if done.returncode != 0:
        sys.exit(f"{command[0]} {command[1]} left with {done.returncode}")
    return done.stdout


def atelier(arguments):
    shared = ["--model", arguments.model, "--steps", str(arguments.steps)]
    measured = json.loads(on_two_cores([str(ATELIER), "bench", *shared, "--size", arguments.size, "--json"]))
    width, height = arguments.size.split("x")
    with tempfile.TemporaryDirectory() as folder:
        picture = pathlib.Path(folder) / "picture.png"
        begun = time.perf_counter()
        prompt = ["--prompt", "a lake with mountains at sunset", "--width", width, "--height", height, "--out", str(picture)]
        on_two_cores([str(ATELIER), "generate", *shared, *prompt])
        measured["generate_s"] = time.perf_counter() - begun
        assert picture.stat().st_size > 0
    return measured


def diffusers(arguments):
    command = [sys.executable, str(HERE / "peer.py"), arguments.model, "--size", arguments.size, "--steps", str(arguments.steps)]
    return json.loads(on_two_cores([*command, "--threads", str(CORES)]))


def medians(rounds):
    keys = [key for _, key, _ in LINES if key in rounds[0]]
    return {key: statistics.median(one[key] for one in rounds) for key in keys}


def verdict(bar, ours, ratio):
    if bar is None:
        return ""
    kind, most = bar
    value = ratio if kind == "ratio" else ours
    unit = "" if kind == "ratio" else " s"
    return f"{'met' if value <= most else 'NOT MET'} (at most {most}{unit})"


def table(ours, theirs):
    lines = [f"{'':<22}{'Atelier':>10}{'diffusers':>12}{'ratio':>8}"]
    for name, key, bar in LINES:
        here, there = ours[key], theirs.get(key)
        ratio = here / there if there else None
        digits = 0 if "MiB" in name else 3
        reference = f"{there:.{digits}f}" if there else "-"
        lines.append(f"{name:<22}{here:>10.{digits}f}{reference:>12}{f'{ratio:.2f}' if ratio else '-':>8}  {verdict(bar, here, ratio)}".rstrip())
    return "\n".join(lines)


def record(arguments, rounds, ours, theirs):
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    path = results / f"{now:%Y%m%dT%H%M%SZ}.json"
    content = {
        "when": now.isoformat(),
        "machine": {"processor": processor(), "system": platform.platform(), "cores": CORES},
        "settings": vars(arguments),
        "medians": {"atelier": ours, "diffusers": theirs},
        "ratios": {key: ours[key] / theirs[key] for key in ours if key in theirs},
        "rounds": rounds,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def processor():
    names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main():
    arguments = parse()
    rounds = {"atelier": [], "diffusers": []}
    for i in range(arguments.rounds):
        # Which of the two goes first alternates, so that a warming or throttling machine favours neither.
        sides = [("atelier", atelier), ("diffusers", diffusers)]
        for name, measure in sides if i % 2 == 0 else reversed(sides):
            print(f"round {i + 1} of {arguments.rounds}: {name}", file=sys.stderr)
            rounds[name].append(measure(arguments))
    ours, theirs = medians(rounds["atelier"]), medians(rounds["diffusers"])
    print(f"{arguments.model}, {arguments.size}, {arguments.steps} steps, float32, {CORES} cores, medians of {arguments.rounds} rounds\n")
    print(table(ours, theirs))
    print(f"\nrecorded in {record(arguments, rounds, ours, theirs)}")


if __name__ == "__main__":
    main()
