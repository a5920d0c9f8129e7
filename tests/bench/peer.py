"""The reference: diffusers and peft on the CPU, timed as `atelier bench` times Atelier. Prints one JSON object.

usage: peer.py MODEL [--size 256x256] [--steps 20] [--repeat 3] [--threads 2]
"""

import time

STARTED = time.perf_counter()

import argparse
import json
import resource
import statistics
import warnings

import torch
from diffusers import FluxPipeline
from diffusers.utils import logging as diffusers_logging
from peft import LoraConfig
from transformers.utils import logging as transformers_logging

warnings.filterwarnings("ignore")
diffusers_logging.disable_progress_bar()
transformers_logging.disable_progress_bar()
PROMPT = "a lake with mountains at sunset"
T5_LENGTH = 128


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.width, arguments.height = (int(side) for side in arguments.size.split("x"))
    return arguments


def median_seconds(work, repeat, warm_up=0):
    """The median wall-clock time of `repeat` calls, after `warm_up` that do not count."""
    seconds = []
    for _ in range(warm_up + repeat):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[warm_up:])


def painter(pipeline, arguments):
    """One picture from prompt to pixels."""

    def paint():
        with torch.inference_mode():
            return pipeline(
                PROMPT,
                width=arguments.width,
                height=arguments.height,
                num_inference_steps=arguments.steps,
                guidance_scale=3.5,
                max_sequence_length=T5_LENGTH,
                generator=torch.Generator().manual_seed(0),
            ).images[0]

    return paint


def trainer(pipeline, arguments):
    """One optimiser step: LoRA of rank 4 on attention, batch of 1, AdamW, gradients clipped at 1."""
    transformer = pipeline.transformer
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    transformer.train()
    weights = [weight for weight in transformer.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4)
    rows, columns = arguments.height // 16, arguments.width // 16
    picture = torch.randn(1, rows * columns, 64)
    with torch.no_grad():
        text, pooled, text_ids = pipeline.encode_prompt(PROMPT, None, max_sequence_length=T5_LENGTH)
    inputs = {
        "guidance": torch.ones(1),
        "pooled_projections": pooled,
        "encoder_hidden_states": text,
        "txt_ids": text_ids,
        "img_ids": FluxPipeline._prepare_latent_image_ids(1, rows, columns, "cpu", torch.float32),
        "return_dict": False,
    }

    def step():
        sigma, noise = torch.rand(1), torch.randn_like(picture)
        noisy = (1 - sigma) * picture + sigma * noise
        velocity = transformer(hidden_states=noisy, timestep=sigma, **inputs)[0]
        loss = torch.nn.functional.mse_loss(velocity, noise - picture)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main():
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    pipeline = FluxPipeline.from_pretrained(arguments.model, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    load = time.perf_counter() - STARTED
    paint = painter(pipeline, arguments)
    paint()
    first = time.perf_counter() - STARTED
    picture = median_seconds(paint, max(arguments.repeat, 3))
    train = median_seconds(trainer(pipeline, arguments), max(arguments.repeat, 5), warm_up=2)
    print(
        json.dumps(
            {
                "load_s": load,
                "first_picture_s": first,
                "picture_s": picture,
                "train_step_s": train,
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "threads": torch.get_num_threads(),
                "size": arguments.size,
                "steps": arguments.steps,
                "t5_length": T5_LENGTH,
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
