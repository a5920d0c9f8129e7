"""Paints with an adapter from the hub in diffusers, and with Atelier, and compares: paint.py REPO ATELIER FOLDER"""

import pathlib
import subprocess
import sys

import numpy
import torch
from diffusers import FluxPipeline
from PIL import Image
from safetensors.torch import load_file

PROMPT = "a lake with mountains at sunset, impressionist painting"
repo, atelier, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
root = pathlib.Path(__file__).parents[2]


def ours(name, *more):
    out = folder / name
    command = [atelier, "generate", "--prompt", PROMPT, "--seed", "7", "--steps", "8", "--out", str(out), *more]
    subprocess.run(command, check=True, cwd=root)
    return numpy.asarray(Image.open(out)).astype(numpy.float64)
