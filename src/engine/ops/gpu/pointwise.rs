//! What lies between products.

use super::{lend, lend_mut};
use crate::{
    cuda::{
        self, Arg, gelu as native_gelu,
        norm::{self, Emit},
        qk_norm_rope as rotary, residual,
    },
    ops::{Activation, QkNormRope, Reads, activation::Fp8, norm::EPSILON},
};
use candle_core::{Result, Shape, Tensor};

/// x: [B, S, C]; shift, scale: [B, C] f32.
pub fn layer_norm_modulate(x: &Tensor, shift: &Tensor, scale: &Tensor, reads: Reads) -> Result<Activation> {
    let rows = lend([x, shift, scale], |[x, shift, scale]| norm::layer_norm_modulate(x, shift, scale, emit(reads)))?;
    Ok(activation(rows, x.shape()))
}

pub fn layer_norm_modulate_gradient(x: &Tensor, scale: &Tensor, g: &Tensor, beside: Option<&Tensor>) -> Result<Tensor> {
    let dx = match beside {
        None => lend([x, scale, g], |[x, scale, g]| norm::layer_norm_modulate_gradient(x, scale, g, None)),
        Some(beside) => lend([x, scale, g, beside], |[x, scale, g, beside]| norm::layer_norm_modulate_gradient(x, scale, g, Some(beside))),
    }?;
    Ok(cuda::tensor(dx, x.shape()))
}

pub fn modulation_gradients(x: &Tensor, g: &Tensor) -> Result<(Tensor, Tensor)> {
    let (b, _, c) = x.dims3()?;
    let (dshift, dscale) = lend([x, g], |[x, g]| norm::modulation_gradients(x, g))?;
    Ok((cuda::tensor(dshift, (b, c)), cuda::tensor(dscale, (b, c))))
}

pub fn gate_residual(residual: &Tensor, gate: &Tensor, x: &Tensor) -> Result<Tensor> {
    let y = lend([residual, gate, x], |[residual, gate, x]| residual::gate_residual(residual, gate, x))?;
    Ok(cuda::tensor(y, x.shape()))
}

pub fn gate_gradient_x(gate: &Tensor, g: &Tensor) -> Result<Tensor> {
    Ok(cuda::tensor(lend([gate, g], |[gate, g]| residual::gate_gradient_x(gate, g))?, g.shape()))
}

pub fn gate_gradient(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    let (b, _, c) = x.dims3()?;
    Ok(cuda::tensor(lend([x, g], |[x, g]| residual::gate_gradient(x, g))?, (b, c)))
}

pub fn gelu(x: &Tensor, reads: Reads) -> Result<Activation> {
    Ok(activation(lend([x], |[x]| native_gelu::gelu(x, emit(reads)))?, x.shape()))
}

pub fn gelu_gradient(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    Ok(cuda::tensor(lend([x, g], |[x, g]| native_gelu::gelu_gradient(x, g))?, x.shape()))
}

/// qkv: [B, S, 3, H, D]
pub fn qk_norm_rope(qkv: &Tensor, with: QkNormRope) -> Result<Tensor> {
    let qkv = qkv.contiguous()?;
    let turned = with_weights(&qkv, with, |with| lend([&qkv], |[qkv]| rotary::qk_norm_rope(qkv, with)))?;
    Ok(cuda::tensor(turned, qkv.shape()))
}

pub fn qk_norm_rope_in_place(qkv: &Tensor, with: QkNormRope) -> Result<()> {
    with_weights(qkv, with, |with| lend_mut(qkv, |qkv| rotary::qk_norm_rope_in_place(qkv, with)))
}

/// In the memory of `g`.
pub fn qk_norm_rope_gradient(qkv: &Tensor, g: Tensor, with: QkNormRope) -> Result<Tensor> {
    with_weights(qkv, with, |with| lend([qkv], |[qkv]| lend_mut(&g, |g| rotary::qk_norm_rope_gradient_in_place(qkv, g, with))))?;
    Ok(g)
}

/// The native kernels know FLUX's epsilon alone.
const _: () = assert!(EPSILON == 1e-6);

/// qkv: [B, S, 3, H, D]
fn with_weights<T>(qkv: &Tensor, with: QkNormRope, work: impl FnOnce(rotary::QkNormRope) -> Result<T>) -> Result<T> {
    let (QkNormRope { text, picture, text_tokens, rope }, heads) = (with, qkv.dim(3)?);
    lend([text[0], text[1], picture[0], picture[1], &rope.cos, &rope.sin], |args: [Arg; 6]| {
        let [text_q, text_k, picture_q, picture_k, cos, sin] = args;
        work(rotary::QkNormRope { heads, text: [text_q, text_k], picture: [picture_q, picture_k], text_tokens, cos, sin })
    })
}

fn emit(reads: Reads) -> Emit {
    match reads {
        Reads { values: true, fp8: true } => Emit::Both,
        Reads { fp8: true, .. } => Emit::Fp8,
        _ => Emit::Plain,
    }
}

fn activation(rows: norm::Rows, shape: &Shape) -> Activation {
    let fp8 = rows.fp8.map(|fp8| {
        let rows = shape.elem_count() / shape.dims().last().copied().unwrap_or(1).max(1);
        Fp8 { data: cuda::tensor(fp8.data, shape), scale: cuda::tensor(fp8.scale, rows) }
    });
    Activation::new(rows.plain.map(|values| cuda::tensor(values, shape)), fp8)
}
