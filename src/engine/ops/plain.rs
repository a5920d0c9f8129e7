//! Each fused operation in candle's own differentiable primitives: slow, obvious, and what the fast ones are tested against.

use super::QkNormRope;
use candle_core::{D, Result, Tensor, Var};

/// The value of `f`, and the gradient of each input under an upstream gradient of the value's shape, by candle's own backward pass.
pub fn with_gradients(inputs: &[Tensor], upstream: &Tensor, f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<(Tensor, Vec<Tensor>)> {
    let leaves = inputs.iter().map(|x| Ok(Var::from_tensor(x)?.into_inner())).collect::<Result<Vec<_>>>()?;
    let value = f(&leaves)?;
    let mut store = (&value * upstream)?.sum_all()?.backward()?;
    let gradients = leaves.iter().map(|x| store.remove(x).map_or_else(|| x.zeros_like(), Ok)).collect::<Result<_>>()?;
    Ok((value.detach(), gradients))
}

/// LayerNorm without weights, then x·(1 + scale) + shift. x: [B, S, C]; shift, scale: [B, C].
pub fn layer_norm_modulate(x: &Tensor, shift: &Tensor, scale: &Tensor, epsilon: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normal = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
    normal.broadcast_mul(&(scale + 1.0)?.unsqueeze(1)?)?.broadcast_add(&shift.unsqueeze(1)?)
}

/// RMSNorm over each head with `weight` [D], then rotary embedding of interleaved pairs.
/// x: [B, S, H, D]; cos, sin: [S, D/2].
pub fn rms_norm_rope(x: &Tensor, weight: &Tensor, cos: &Tensor, sin: &Tensor, epsilon: f64) -> Result<Tensor> {
    let (b, s, h, d) = x.dims4()?;
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    let x = x.broadcast_div(&(mean_square + epsilon)?.sqrt()?)?.broadcast_mul(weight)?;
    let pairs = x.reshape((b, s, h, d / 2, 2))?;
    let (x0, x1) = (pairs.narrow(4, 0, 1)?, pairs.narrow(4, 1, 1)?);
    let cos = cos.reshape((1, s, 1, d / 2, 1))?;
    let sin = sin.reshape((1, s, 1, d / 2, 1))?;
    let y0 = (x0.broadcast_mul(&cos)? - x1.broadcast_mul(&sin)?)?;
    let y1 = (x1.broadcast_mul(&cos)? + x0.broadcast_mul(&sin)?)?;
    Tensor::cat(&[y0, y1], 4)?.reshape((b, s, h, d))
}

/// RMSNorm and rotary embedding of the queries and keys in qkv: [B, S, 3, H, D].
pub fn qk_norm_rope(qkv: &Tensor, with: QkNormRope, epsilon: f64) -> Result<Tensor> {
    let (text, tokens) = (with.text_tokens, qkv.dim(1)?);
    let stream = |first: usize, count: usize, weights: [&Tensor; 2]| {
        let part = |x: &Tensor, dim: usize| x.narrow(dim, first, count)?.contiguous();
        let (qkv, cos, sin) = (part(qkv, 1)?, part(&with.rope.cos, 0)?, part(&with.rope.sin, 0)?);
        let [q, k, v] = unpacked(&qkv)?;
        let turned = [(q, weights[0]), (k, weights[1])].map(|(x, weight)| rms_norm_rope(&x, weight, &cos, &sin, epsilon));
        let [q, k] = turned;
        Tensor::stack(&[q?, k?, v], 2)
    };
    let streams = [(0, text, with.text), (text, tokens - text, with.picture)];
    let streams = streams.into_iter().filter(|&(_, count, _)| count > 0).map(|(first, count, weights)| stream(first, count, weights));
    Tensor::cat(&streams.collect::<Result<Vec<_>>>()?, 1)
}

/// [B, S, 3, H, D] → 3 · [B, S, H, D]
fn unpacked(qkv: &Tensor) -> Result<[Tensor; 3]> {
    let one = |i: usize| qkv.narrow(2, i, 1)?.squeeze(2);
    Ok([one(0)?, one(1)?, one(2)?])
}

/// [`attention`] of qkv: [B, S, 3, H, D] → [B, S, H·D].
pub fn packed_attention(qkv: &Tensor) -> Result<Tensor> {
    let [q, k, v] = unpacked(qkv)?;
    attention(&q, &k, &v)
}

/// softmax(q·kᵀ / √D)·v over all tokens. q, k, v: [B, S, H, D] → [B, S, H·D].
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    weighted_mean((scores(q, k)? / (q.dim(3)? as f64).sqrt())?, v)
}

/// softmax(scale·q·kᵀ + bias)·v. bias: [H or 1, S, S].
pub fn attention_with_bias(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: &Tensor) -> Result<Tensor> {
    weighted_mean((scores(q, k)? * scale)?.broadcast_add(&bias.to_dtype(q.dtype())?)?, v)
}

/// softmax(scale·x) over the last dimension.
pub fn softmax(x: &Tensor, scale: f64) -> Result<Tensor> {
    candle_nn::ops::softmax(&(x * scale)?, D::Minus1)
}

/// q·kᵀ of each head, [B, H, S, S].
fn scores(q: &Tensor, k: &Tensor) -> Result<Tensor> {
    by_head(q)?.matmul(&by_head(k)?.t()?.contiguous()?)
}

fn weighted_mean(scores: Tensor, v: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&by_head(v)?)?.transpose(1, 2)?.contiguous()?.flatten_from(2)
}

/// [B, S, H, D] → [B, H, S, D]
fn by_head(x: &Tensor) -> Result<Tensor> {
    x.transpose(1, 2)?.contiguous()
}

/// residual + gate·x. residual, x: [B, S, C]; gate: [B, C].
pub fn gate_residual(residual: &Tensor, gate: &Tensor, x: &Tensor) -> Result<Tensor> {
    residual + x.broadcast_mul(&gate.unsqueeze(1)?)?
}

/// GELU, tanh approximation.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu()
}

/// x·Wᵀ + b. x: [.., in]; weight: [out, in].
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.broadcast_matmul(&weight.t()?)?;
    bias.map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
}

/// y + scale·(x·Aᵀ)·Bᵀ. a: [r, in]; b: [out, r].
pub fn add_lora(y: &Tensor, x: &Tensor, a: &Tensor, b: &Tensor, scale: f64) -> Result<Tensor> {
    let side = x.broadcast_matmul(&a.t()?)?.broadcast_matmul(&b.t()?)?;
    y + (side * scale)?
}

/// Cross-correlation. x: [B, in, H, W]; weight: [out, in, k, k]; bias: [out]; `padding`: zeros before and after, on both axes.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: usize, padding: (usize, usize)) -> Result<Tensor> {
    let padded = x.pad_with_zeros(2, padding.0, padding.1)?.pad_with_zeros(3, padding.0, padding.1)?;
    padded.conv2d(weight, 0, stride, 1, 1)?.broadcast_add(&bias.reshape((1, (), 1, 1))?)
}

/// GroupNorm, then SiLU if `silu`. x: [B, C, H, W]; weight, bias: [C].
pub fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, epsilon: f64, silu: bool) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let grouped = x.reshape((b, groups, c / groups * h * w))?;
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim(2)?)?;
    let variance = centred.sqr()?.mean_keepdim(2)?;
    let normal = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?.reshape((b, c, h, w))?;
    let y = normal.broadcast_mul(&weight.reshape((1, c, 1, 1))?)?.broadcast_add(&bias.reshape((1, c, 1, 1))?)?;
    if silu { y.silu() } else { Ok(y) }
}

/// Nearest-neighbour ×2. x: [B, C, H, W] → [B, C, 2·H, 2·W].
pub fn upsample(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    x.upsample_nearest2d(2 * h, 2 * w)
}
