//! Times the engine's CPU operations at flux-mini's shapes: the least of some runs, beside what the same shape costs candle alone.
//!
//! `cargo run --release -p atelier-engine --example ops_bench`

use candle_core::{D, DType, Device, Result, Tensor};
use engine::{Precision, ops};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

const TOKENS: usize = 384;
const WIDTH: usize = 256;
const HEADS: usize = 4;
const HEAD: usize = 64;

fn main() -> engine::Result<()> {
    products()?;
    attention()?;
    chains()?;
    Ok(())
}

/// Seconds of the fastest of the runs that fit into a fifth of a second.
fn fastest<T>(mut work: impl FnMut() -> T) -> f64 {
    let (start, mut least) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < Duration::from_millis(200) {
        let run = Instant::now();
        black_box(work());
        least = least.min(run.elapsed().as_secs_f64());
    }
    least
}

fn row(name: &str, flops: f64, seconds: f64, plain: f64) {
    println!("{name:<34}{:>9.3} ms {:>8.0} GFLOP/s {:>9.3} ms plain", seconds * 1e3, flops / seconds / 1e9, plain * 1e3);
}

fn random(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu)
}

fn products() -> engine::Result<()> {
    for (rows, inner, columns) in
        [(1, 256, 1536), (384, 256, 256), (384, 256, 1792), (384, 1280, 256), (256, 256, 768), (1024, 1024, 1024), (2048, 3072, 3072)]
    {
        let x = random(&[1, rows, inner])?;
        let activation = ops::Activation::from(&x);
        let weight = random(&[columns, inner])?.to_dtype(DType::BF16)?;
        let packed = ops::Weight::new(&weight, Precision::F32)?;
        let turned = weight.to_dtype(DType::F32)?.t()?.contiguous()?;
        let flops = (2 * rows * inner * columns) as f64;
        let plain = fastest(|| x.broadcast_matmul(&turned).unwrap());
        row(&format!("linear {rows}×{inner}×{columns}"), flops, fastest(|| ops::linear(&activation, &packed, None).unwrap()), plain);
    }
    gelu_in_the_product()?;
    let (x, y) = (random(&[1, TOKENS, WIDTH])?, random(&[1, TOKENS, WIDTH])?);
    let (a, b) = (random(&[16, WIDTH])?, random(&[WIDTH, 16])?);
    let plain = fastest(|| ops::plain::add_lora(&y, &x, &a, &b, 1.0).unwrap());
    let fast = fastest(|| ops::add_lora_up(&y, &ops::lora_down(&x, &a).unwrap(), &b, 1.0).unwrap());
    row("LoRA, rank 16", (4 * TOKENS * WIDTH * 16) as f64, fast, plain);
    Ok(())
}

fn gelu_in_the_product() -> engine::Result<()> {
    let (x, weight) = (random(&[1, TOKENS, WIDTH])?, random(&[4 * WIDTH, WIDTH])?);
    let activation = ops::Activation::from(&x);
    let (packed, turned) = (ops::Weight::new(&weight, Precision::F32)?, weight.t()?.contiguous()?);
    let plain = fastest(|| ops::plain::gelu(&x.broadcast_matmul(&turned).unwrap()).unwrap());
    let flops = (8 * TOKENS * WIDTH * WIDTH) as f64;
    row(
        &format!("linear and GELU {TOKENS}×{WIDTH}×{}", 4 * WIDTH),
        flops,
        fastest(|| ops::linear_gelu(&activation, &packed, None).unwrap()),
        plain,
    );
    Ok(())
}

fn attention() -> engine::Result<()> {
    for tokens in [TOKENS, 1024] {
        let qkv = random(&[1, tokens, 3, HEADS, HEAD])?;
        let flops = (4 * HEADS * tokens * tokens * HEAD) as f64;
        let plain = fastest(|| ops::plain::packed_attention(&qkv).unwrap());
        row(&format!("attention {tokens}"), flops, fastest(|| ops::packed_attention(&qkv, false).unwrap()), plain);
        let g = random(&[1, tokens, HEADS * HEAD])?;
        let fast = fastest(|| ops::packed_attention_gradient(&qkv, &ops::packed_attention(&qkv, true).unwrap(), &g).unwrap());
        let inputs = [qkv];
        let plain = fastest(|| ops::plain::with_gradients(&inputs, &g, |x| ops::plain::packed_attention(&x[0])).unwrap());
        row(&format!("attention {tokens}, with gradients"), 3.5 * flops, fast, plain);
    }
    Ok(())
}

fn chains() -> engine::Result<()> {
    let x = random(&[1, TOKENS, WIDTH])?;
    let wide = random(&[1, TOKENS, 4 * WIDTH])?;
    let [shift, scale] = [random(&[1, WIDTH])?, random(&[1, WIDTH])?];
    let qkv = random(&[1, TOKENS, 3, HEADS, HEAD])?;
    let weight = random(&[HEAD])?;
    let angles = random(&[TOKENS, HEAD / 2])?;
    let rope = ops::Rope { cos: angles.cos()?, sin: angles.sin()? };
    let with = ops::QkNormRope { text: [&weight; 2], picture: [&weight; 2], text_tokens: 0, rope: &rope };
    let passes: [(&str, Box<dyn Fn() -> Tensor>, Box<dyn Fn() -> Tensor>); 4] = [
        (
            "layer_norm_modulate",
            Box::new(|| ops::layer_norm_modulate(&x, &shift, &scale, ops::Reads::VALUES).unwrap().values().unwrap().clone()),
            Box::new(|| ops::plain::layer_norm_modulate(&x, &shift, &scale, 1e-6).unwrap()),
        ),
        (
            "qk_norm_rope, queries and keys",
            Box::new(|| ops::qk_norm_rope(&qkv, with).unwrap()),
            Box::new(|| ops::plain::qk_norm_rope(&qkv, with, 1e-6).unwrap()),
        ),
        ("gelu, 4 × width", Box::new(|| ops::gelu(&wide).unwrap()), Box::new(|| ops::plain::gelu(&wide).unwrap())),
        (
            "gate_residual",
            Box::new(|| ops::gate_residual(&x, &shift, &x).unwrap()),
            Box::new(|| ops::plain::gate_residual(&x, &shift, &x).unwrap()),
        ),
    ];
    for (name, fast, plain) in passes {
        row(name, 0.0, fastest(fast), fastest(plain));
    }
    row("cat of two parts (candle)", 0.0, fastest(|| Tensor::cat(&[&x, &x], D::Minus1).unwrap()), 0.0);
    row("x + x (candle)", 0.0, fastest(|| (&x + &x).unwrap()), 0.0);
    Ok(())
}
