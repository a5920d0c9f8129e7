"""What `atelier bench` measures, done by diffusers and peft in float32 on the CPU; prints the same keys as JSON.

usage: reference.py MODEL WIDTHxHEIGHT STEPS
"""

import json
import resource
import statistics
import sys
import time

STARTED = time.perf_counter()

import torch  # noqa: E402 - the clock starts before the imports, as a process does
from diffusers import FluxPipeline  # noqa: E402
from peft import LoraConfig  # noqa: E402

PROMPT = "a lake with mountains at sunset"
T5_LENGTH = 128
PICTURES, TRAIN_STEPS, WARM_UP = 3, 5, 2


def median_seconds(call, times):
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def training_step(pipeline, width, height):
    """A function that makes one step: LoRA of rank 4 on attention, batch of 1, AdamW, clipping."""
    with torch.no_grad():
        prompt, pooled, text_ids = pipeline.encode_prompt(PROMPT, None, max_sequence_length=T5_LENGTH)
    transformer = pipeline.transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    transformer.train()
    trainable = [parameter for parameter in transformer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4)
    rows, columns = height // 16, width // 16
    clean, noise = torch.randn(2, 1, rows * columns, 64)
    image_ids = FluxPipeline._prepare_latent_image_ids(1, rows, columns, "cpu", torch.float32)

    def step():
        sigma = torch.rand(1)
        velocity = transformer(
            hidden_states=torch.lerp(clean, noise, sigma),
            encoder_hidden_states=prompt,
            pooled_projections=pooled,
            timestep=sigma,
            guidance=torch.ones(1),
            img_ids=image_ids,
            txt_ids=text_ids,
            return_dict=False,
        )[0]
        torch.nn.functional.mse_loss(velocity, noise - clean).backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main(model, size, steps):
    width, height = map(int, size.split("x"))
    pipeline = FluxPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    load = time.perf_counter() - STARTED

    def paint():
        pipeline(PROMPT, width=width, height=height, num_inference_steps=int(steps), guidance_scale=3.5, max_sequence_length=T5_LENGTH)

    paint()
    first = time.perf_counter() - STARTED
    picture = median_seconds(paint, PICTURES)
    step = training_step(pipeline, width, height)
    for _ in range(WARM_UP):
        step()
    print(json.dumps({
        "load_s": load,
        "first_picture_s": first,
        "picture_s": picture,
        "train_step_s": median_seconds(step, TRAIN_STEPS),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }))


if __name__ == "__main__":
    main(*sys.argv[1:])
