"""The reference on a GPU: diffusers, peft and bitsandbytes on FLUX.1-dev at full size with random weights, nothing downloaded.
Prints one JSON list, a measurement each, timed as `atelier bench generate` and `atelier bench train` time Atelier.

usage: gpu_peer.py CASE… [--repeat 5] [--warm-up 2]
cases: generate.bf16 generate.bf16.compiled generate.nf4 train.nf4 train.bf16 parts
"""

import argparse
import gc
import json
import statistics
import sys
import traceback

import torch

GPU = "cuda"
TEXT_TOKENS = 512
SQUARE, SMALL, PORTRAIT = (1024, 1024), (512, 512), (512, 768)
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=list(CASES), metavar="CASE")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2)
    return parser.parse_args()


def clear():
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def timed(arguments, work):
    """Median seconds of a call by the GPU's clock, and the most bytes that tensors took meanwhile."""
    for _ in range(arguments.warm_up):
        work()
    torch.cuda.synchronize()
    marks = [torch.cuda.Event(enable_timing=True)]
    marks[0].record()
    for _ in range(arguments.repeat):
        work()
        marks.append(torch.cuda.Event(enable_timing=True))
        marks[-1].record()
    torch.cuda.synchronize()
    seconds = [a.elapsed_time(b) / 1e3 for a, b in zip(marks, marks[1:])]
    return {"step_s": statistics.median(seconds), "seconds": seconds, "peak_bytes": torch.cuda.max_memory_allocated()}


def transformer(dtype=torch.bfloat16):
    from diffusers import FluxTransformer2DModel

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    with torch.device(GPU):
        model = FluxTransformer2DModel(guidance_embeds=True)
    torch.set_default_dtype(before)
    return model.requires_grad_(False).eval()


def in_nf4(model):
    """Every linear layer in 4 bits, one at a time."""
    import bitsandbytes

    layers = [(parent, name, layer) for parent in model.modules() for name, layer in parent.named_children() if isinstance(layer, torch.nn.Linear)]
    for parent, name, layer in layers:
        quantised = bitsandbytes.nn.Linear4bit(
            layer.in_features, layer.out_features, bias=layer.bias is not None, compute_dtype=torch.bfloat16, quant_type="nf4",
            compress_statistics=False, device="meta",
        )
        weight = bitsandbytes.nn.Params4bit(layer.weight.data.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=False)
        quantised.weight, quantised.bias = weight.to(GPU), layer.bias
        layer.weight = None
        setattr(parent, name, quantised)
    return model


def inputs(size):
    columns, rows = size[0] // 16, size[1] // 16
    generator = torch.Generator(GPU).manual_seed(1)
    normal = lambda *shape: torch.randn(*shape, device=GPU, dtype=torch.bfloat16, generator=generator)
    ids = torch.zeros(rows, columns, 3, device=GPU, dtype=torch.bfloat16)
    ids[..., 1] += torch.arange(rows, device=GPU)[:, None]
    ids[..., 2] += torch.arange(columns, device=GPU)[None, :]
    return {
        "hidden_states": normal(1, rows * columns, 64),
        "timestep": torch.full((1,), 0.5, device=GPU, dtype=torch.bfloat16),
        "guidance": torch.full((1,), 3.5, device=GPU, dtype=torch.float32),
        "pooled_projections": normal(1, 768),
        "encoder_hidden_states": normal(1, TEXT_TOKENS, 4096),
        "txt_ids": torch.zeros(TEXT_TOKENS, 3, device=GPU, dtype=torch.bfloat16),
        "img_ids": ids.reshape(-1, 3),
        "return_dict": False,
    }


def described(mode, precision, size, measured, **more):
    return {"mode": mode, "precision": precision, "size": f"{size[0]}x{size[1]}", **measured, **more}


def generate(arguments, precision, model, sizes, **more):
    for size in sizes:
        given = inputs(size)
        clear()
        with torch.no_grad():
            yield described("generate", precision, size, timed(arguments, lambda: model(**given)), **more)


def generate_bf16(arguments):
    yield from generate(arguments, "bf16", transformer(), [SQUARE, SMALL])


def generate_compiled(arguments):
    model = transformer()
    model.fuse_qkv_projections()
    yield from generate(arguments, "bf16", torch.compile(model, fullgraph=True), [SQUARE], compiled=True)


def generate_nf4(arguments):
    yield from generate(arguments, "nf4", in_nf4(transformer()), [SQUARE, SMALL])


def train(arguments, precision, model, size, checkpointing):
    """LoRA of rank 4 on attention in f32, one picture, AdamW with 8-bit moments, gradients clipped at 1."""
    import bitsandbytes

    model.train()
    (model.enable_gradient_checkpointing if checkpointing else model.disable_gradient_checkpointing)()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = bitsandbytes.optim.AdamW8bit(weights, lr=1e-4)
    given = inputs(size)
    given["guidance"] = torch.ones(1, device=GPU)
    target = torch.randn_like(given["hidden_states"])
    clear()

    def step():
        with torch.autocast(GPU, dtype=torch.bfloat16):
            velocity = model(**given)[0]
        loss = ((velocity.float() - target.float()) ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    measured = timed(arguments, step)
    return described("train", precision, size, measured, checkpointing="full" if checkpointing else "none")


def trains(arguments, precision, model):
    from peft import LoraConfig

    model.add_adapter(LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian", target_modules=ATTENTION))
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    for checkpointing in (True, False):
        yield train(arguments, precision, model, PORTRAIT, checkpointing)


def train_nf4(arguments):
    yield from trains(arguments, "nf4", in_nf4(transformer()))


def train_bf16(arguments):
    yield from trains(arguments, "bf16", transformer())


def parts(arguments):
    """What a picture needs beside its steps: T5-XXL and the VAE."""
    from diffusers import AutoencoderKL
    from transformers import T5Config, T5EncoderModel

    torch.set_default_dtype(torch.bfloat16)
    with torch.device(GPU):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16, layers_per_block=2, use_quant_conv=False, use_post_quant_conv=False,
        ).eval()
    latents = torch.randn(1, 16, 128, 128, device=GPU)
    clear()
    with torch.no_grad():
        yield described("decode", "bf16", SQUARE, timed(arguments, lambda: vae.decode(latents)))
    del vae
    config = T5Config(
        d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24, vocab_size=32128, feed_forward_proj="gated-gelu", is_encoder_decoder=False
    )
    with torch.device(GPU):
        encoder = T5EncoderModel(config).eval()
    ids = torch.randint(0, 32000, (1, TEXT_TOKENS), device=GPU)
    clear()
    with torch.no_grad():
        yield described("encode", "bf16", SQUARE, timed(arguments, lambda: encoder(ids)))
    torch.set_default_dtype(torch.float32)


CASES = {
    "generate.bf16": generate_bf16,
    "generate.bf16.compiled": generate_compiled,
    "generate.nf4": generate_nf4,
    "train.nf4": train_nf4,
    "train.bf16": train_bf16,
    "parts": parts,
}


def main():
    arguments = parse()
    measured = []
    for case in arguments.cases:
        try:
            for one in CASES[case](arguments):
                measured.append(one)
                print(f"{case}: {one['step_s']:.4f} s", file=sys.stderr)
        except Exception:
            # What was measured before is worth having.
            traceback.print_exc()
            break
        clear()
    print(json.dumps({"torch": torch.__version__, "device": torch.cuda.get_device_name(0), "measured": measured}))


if __name__ == "__main__":
    main()
