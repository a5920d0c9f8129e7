"""Paints in diffusers with an adapter from the hub, from noise that is given, and compares: paint.py REPO NOISE BASE ADAPTED PROMPT"""

import pathlib
import sys

import numpy
import torch
from diffusers import FluxPipeline
from PIL import Image
from safetensors.torch import load_file

repo, noise, base, adapted, prompt = sys.argv[1:]
root = pathlib.Path(__file__).parents[2]
latents = load_file(noise)["noise"]
pipeline = FluxPipeline.from_pretrained(root / "models/flux-mini", torch_dtype=torch.float32)


def cosine(picture, file):
    ours = numpy.asarray(Image.open(file).convert("RGB")).astype(numpy.float64).ravel() - 127.5
    theirs = numpy.asarray(picture).astype(numpy.float64).ravel() - 127.5
    return ours @ theirs / numpy.sqrt((ours @ ours) * (theirs @ theirs))


def paint():
    with torch.inference_mode():
        return pipeline(prompt, width=256, height=256, num_inference_steps=8, guidance_scale=3.5, max_sequence_length=128, latents=latents.clone()).images[0]


alone = cosine(paint(), base)
pipeline.load_lora_weights(repo)
together = cosine(paint(), adapted)
other = cosine(Image.open(base), adapted)
print(f"cosine without the adapter {alone:.6f}, with it {together:.6f}; of our two pictures {other:.6f}")
assert alone >= 0.999 and together >= 0.999 and other < 0.99
