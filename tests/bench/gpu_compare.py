"""Atelier and diffusers on one GPU, FLUX.1-dev at full size: medians, ratios, what each bar asks for, and a JSON record."""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ATELIER = os.environ.get("ATELIER", str(HERE.parent.parent / "target/release/atelier"))
GIB = 1 << 30

# What Atelier is asked, what the reference is asked, and the most seconds a step and GiB at the peak that Atelier may take.
# (mode, precision, size, policy), (reference's case, its checkpointing), seconds, GiB
BARS = [
    (("generate", "bf16", "1024x1024", None), ("generate.bf16", None), 0.115, None),
    (("generate", "bf16", "512x512", None), ("generate.bf16", None), None, None),
    (("generate", "fp8", "1024x1024", None), None, 0.080, None),
    (("generate", "nf4", "1024x1024", None), ("generate.nf4", None), 0.125, 6.8),
    (("generate", "nf4", "512x512", None), ("generate.nf4", None), None, None),
    (("train", "nf4", "512x768", "full"), ("train.nf4", "full"), 0.25, 7.5),
    (("train", "nf4", "512x768", "smart"), ("train.nf4", "full"), 0.25, 7.5),
    (("train", "nf4", "512x768", "none"), ("train.nf4", "none"), None, None),
    (("train", "bf16", "512x768", "full"), ("train.bf16", "full"), None, None),
    (("train", "bf16", "512x768", "none"), ("train.bf16", "none"), 0.14, None),
]


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="generate,train", help="modes to compare, separated by commas")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--steps", type=int, default=28, help="of the picture that Atelier draws as a whole; 0 leaves it out")
    parser.add_argument("--without-peer", action="store_true", help="measure Atelier alone")
    parser.add_argument("--compiled", action="store_true", help="also time diffusers under torch.compile")
    return parser.parse_args()


def heard(command, libraries=None):
    """The JSON that a command prints; None where it failed, which is no reason to lose the rest."""
    print("  " + " ".join(command), file=sys.stderr, flush=True)
    found = {"LD_LIBRARY_PATH": libraries} if libraries else {}
    done = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, **found})
    if done.returncode != 0:
        print(f"  left with {done.returncode}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def atelier(arguments, mode, precision, policy, sizes):
    """One process a (mode, precision, policy): its sizes share the loaded model."""
    command = [ATELIER, "bench", mode, "--synthetic", "flux-dev", "--device", "cuda:0", "--precision", precision, "--json"]
    command += ["--size", ",".join(sizes), "--repeat", str(arguments.repeat)]
    command += ["--policy", policy] if mode == "train" else ["--steps", str(arguments.steps)]
    # torch brings libraries of its own.
    return heard(command, os.environ.get("ATELIER_LIBRARIES")) or []


def ours(arguments, bars):
    runs = {}
    for (mode, precision, size, policy), *_ in bars:
        runs.setdefault((mode, precision, policy), []).append(size)
    measured = {}
    for (mode, precision, policy), sizes in runs.items():
        for one in atelier(arguments, mode, precision, policy, sizes):
            measured[mode, precision, one["size"], policy] = one
    return measured


def theirs(arguments, bars):
    if arguments.without_peer:
        return {}
    cases = sorted({peer[0] for _, peer, *_ in bars if peer})
    cases += ["generate.bf16.compiled"] if arguments.compiled else []
    cases += ["parts"] if "generate" in arguments.cases else []
    # A process each: a fault of the GPU ends one case only.
    peer = [sys.executable, str(HERE / "gpu_peer.py"), "--repeat", str(arguments.repeat)]
    told = [one for one in (heard([*peer, case]) for case in cases) if one]
    return {**(told[0] if told else {}), "measured": [measured for one in told for measured in one["measured"]]}


def reference(told, subject, peer):
    """The reference's measurement of the same work."""
    (mode, precision, size, _), (_, checkpointing) = subject, peer
    for one in told.get("measured", []):
        same = (one["mode"], one["precision"], one["size"], one.get("checkpointing")) == (mode, precision, size, checkpointing)
        if same and not one.get("compiled"):
            return one
    return None


def verdict(seconds, most_seconds, gib, most_gib):
    missed = (most_seconds is not None and seconds > most_seconds) or (most_gib is not None and gib > most_gib)
    asked = " ".join(filter(None, [most_seconds and f"{most_seconds} s", most_gib and f"{most_gib} GiB"]))
    return f"{'NOT MET' if missed else 'met'} (at most {asked})" if asked else ""


def rows(bars, measured, told):
    for subject, peer, most_seconds, most_gib in bars:
        one = measured.get(subject)
        if one is None:
            yield {"case": name(subject), "failed": True}
            continue
        there = reference(told, subject, peer) if peer else None
        gib = one["peak_bytes"] / GIB
        yield {
            "case": name(subject),
            "atelier_s": one["step_s"],
            "reference_s": there and there["step_s"],
            "ratio": there and one["step_s"] / there["step_s"],
            "atelier_gib": gib,
            "reference_gib": there and there["peak_bytes"] / GIB,
            "predicted_gib": one["predicted_bytes"] / GIB,
            "tflops_per_second": one["tflops_per_second"],
            "share_of_floor": one["share_of_floor"],
            "bar": verdict(one["step_s"], most_seconds, gib, most_gib),
        }


def name(subject):
    mode, precision, size, policy = subject
    return " ".join(filter(None, [mode, precision, size, policy]))


def table(lines):
    def cell(value, form):
        return "-" if value is None else form.format(value)

    yield f"{'':<28}{'Atelier':>10}{'diffusers':>11}{'ratio':>7}{'floor':>7}{'peak GiB':>10}{'theirs':>8}{'predicted':>11}"
    for one in lines:
        if one.get("failed"):
            yield f"{one['case']:<28}{'failed':>10}"
            continue
        share = one["share_of_floor"] and 100 * one["share_of_floor"]
        text = f"{one['case']:<28}{one['atelier_s']:>10.4f}{cell(one['reference_s'], '{:.4f}'):>11}{cell(one['ratio'], '{:.2f}'):>7}"
        text += f"{cell(share, '{:.0f} %'):>7}{one['atelier_gib']:>10.2f}{cell(one['reference_gib'], '{:.2f}'):>8}{one['predicted_gib']:>11.2f}"
        yield f"{text}  {one['bar']}".rstrip()


def record(content):
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    path = results / f"gpu-{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps({"when": now.isoformat(), **content}, indent=2) + "\n")
    return path


def main():
    arguments = parse()
    bars = [bar for bar in BARS if bar[0][0] in arguments.cases.split(",")]
    measured = ours(arguments, bars)
    told = theirs(arguments, bars)
    lines = list(rows(bars, measured, told))
    device = next((one["device"] for one in measured.values()), "no GPU")
    print(f"FLUX.1-dev at full size, random weights, batch of 1, 512 tokens of text, one step, {device}\n")
    print("\n".join(table(lines)))
    path = record({"device": device, "settings": vars(arguments), "lines": lines, "atelier": list(measured.values()), "diffusers": told})
    print(f"\nrecorded in {path}")


if __name__ == "__main__":
    main()
