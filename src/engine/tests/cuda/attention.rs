//! cuDNN's attention over a packed qkv, and softmax of rows.

use crate::gpu::{DTYPES, Gpu, error, exact, gradients, tolerance, with, worst};
use crate::report::Report;
use candle_core::{D, DType, Error, Result, Tensor};
use engine::cuda::attention::{attention, attention_gradient, supports};
use engine::ops::{self, plain};

/// (pictures, tokens, heads, width): odd ones, then FLUX's tokens with fewer heads and its heads with fewer tokens.
const SHAPES: [(usize, usize, usize, usize); 8] = [
    (1, 2, 1, 64),
    (3, 7, 4, 24),
    (2, 333, 3, 64),
    (1, 129, 5, 8),
    (2, 200, 2, 128),
    (1, 2125, 3, 128),
    (1, 4608, 2, 128),
    (1, 640, 24, 128),
];
/// bf16 products with probabilities that are rounded to bf16 in between.
const TOLERANCE: f64 = 6e-3;
const GRADIENT_TOLERANCE: f64 = 1.2e-2;

fn parts(qkv: &Tensor) -> Result<[Tensor; 3]> {
    let part = |which: usize| qkv.narrow(2, which, 1)?.squeeze(2);
    Ok([part(0)?, part(1)?, part(2)?])
}

fn plain_attention(qkv: &Tensor) -> Result<Tensor> {
    let [q, k, v] = parts(qkv)?;
    plain::attention(&q, &k, &v)
}

/// log Σ exp of each row's scaled scores, [B, H, S].
fn plain_log_sum_exp(qkv: &Tensor) -> Result<Tensor> {
    let [q, k, _] = parts(qkv)?;
    let by_head = |x: &Tensor| x.transpose(1, 2)?.contiguous();
    let scores = (by_head(&q)?.matmul(&by_head(&k)?.t()?.contiguous()?)? / (q.dim(D::Minus1)? as f64).sqrt())?;
    scores.log_sum_exp(D::Minus1)
}

pub fn check(gpu: &Gpu, report: &mut Report) {
    for shape in SHAPES {
        let (b, s, h, d) = shape;
        report.check("attention, with and without log-sum-exp", shape, TOLERANCE, || {
            let qkv = gpu.normal((b, s, 3, h, d), DType::BF16);
            gpu.poison();
            let bare = with([&qkv], |[qkv]| attention(qkv, h, false))?;
            let kept = with([&qkv], |[qkv]| attention(qkv, h, true))?;
            let expected = plain_attention(&exact(&qkv)?)?;
            let lse = gpu.tensor(kept.log_sum_exp.expect("asked for"), (b, h, s));
            Ok(worst([
                error(&gpu.tensor(bare.out, (b, s, h * d)), &expected)?,
                error(&gpu.tensor(kept.out, (b, s, h * d)), &expected)?,
                error(&lse, &plain_log_sum_exp(&exact(&qkv)?)?)?,
            ]))
        });
        for reproducible in [true, false] {
            report.check(&format!("attention_gradient, reproducible {reproducible}"), shape, GRADIENT_TOLERANCE, || {
                let (qkv, g) = (gpu.normal((b, s, 3, h, d), DType::BF16), gpu.normal((b, s, h * d), DType::BF16));
                gpu.poison();
                let kept = with([&qkv], |[qkv]| attention(qkv, h, true))?;
                let (out, lse) = (gpu.tensor(kept.out, (b, s, h * d)), gpu.tensor(kept.log_sum_exp.expect("asked for"), (b, h, s)));
                let run = || with([&qkv, &out, &lse, &g], |[qkv, out, lse, g]| attention_gradient(qkv, h, out, lse, g, reproducible));
                let dqkv = gpu.tensor(run()?, qkv.shape());
                if reproducible {
                    let again = gpu.tensor(run()?, qkv.shape());
                    if error(&again, &dqkv)? != 0.0 {
                        candle_core::bail!("not the same bits on a second run");
                    }
                }
                let [expected] = gradients([&qkv], &g, |x| plain_attention(&x[0]))?;
                error(&dqkv, &expected)
            });
        }
    }
    for (b, s, width) in [(1, 1, 1), (2, 3, 153), (1, 5, 1000), (1, 7, 16384), (1, 3, 40001)] {
        for dtype in DTYPES {
            report.check("softmax", ((b, s, width), dtype), tolerance(dtype), || {
                let x = (gpu.normal((b, s, width), dtype) * 20.0)?;
                let expected = plain::softmax(&exact(&x)?, 0.3)?;
                error(&ops::softmax(x, 0.3).map_err(Error::wrap)?, &expected)
            });
        }
    }
    report.check("what is not supported is refused", (), 0.0, || {
        let refused = |dtype, d: usize| {
            let qkv = gpu.normal((1, 4, 3, 2, d), dtype);
            let answer = with([&qkv], |[qkv]| attention(qkv, 2, false));
            !supports(dtype, d) && answer.is_err_and(|error| error.to_string().contains("use the plain one"))
        };
        Ok(if refused(DType::F32, 64) && refused(DType::BF16, 12) && refused(DType::BF16, 256) { 0.0 } else { 1.0 })
    });
}

pub fn time(gpu: &Gpu, report: &mut Report) {
    for (s, width) in [(2048, 16384), (2048, 65536)] {
        report.time("softmax", (1, s, width), || {
            // In place: what it reads is the result of the run before.
            let x = gpu.normal((1, s, width), DType::BF16);
            Ok((gpu.median(|_| ops::softmax(x.clone(), 0.3).map(drop).map_err(Error::wrap))?, gpu.bytes(4 * s * width)))
        });
    }
    for (s, h, d) in [(4608, 24, 128), (2048, 24, 128), (1100, 24, 128)] {
        let flop = 4.0 * (h * s * s * d) as f64;
        let inputs = || (gpu.normal((1, s, 3, h, d), DType::BF16), gpu.normal((1, s, h * d), DType::BF16));
        for keep in [false, true] {
            report.time(&format!("attention, log-sum-exp {keep}"), (1, s, h, d), || {
                let (qkv, _) = inputs();
                Ok((gpu.median(|_| with([&qkv], |[qkv]| attention(qkv, h, keep)).map(drop))?, gpu.flop(flop)))
            });
        }
        for reproducible in [true, false] {
            report.time(&format!("attention_gradient, reproducible {reproducible}"), (1, s, h, d), || {
                let (qkv, g) = inputs();
                let kept = with([&qkv], |[qkv]| attention(qkv, h, true))?;
                let (out, lse) = (gpu.tensor(kept.out, (1, s, h * d)), gpu.tensor(kept.log_sum_exp.expect("asked for"), (1, h, s)));
                let run = || with([&qkv, &out, &lse, &g], |[qkv, out, lse, g]| attention_gradient(qkv, h, out, lse, g, reproducible));
                engine::cuda::reset_memory_peak(gpu.cuda())?;
                let before = engine::cuda::memory(gpu.cuda())?.used;
                let median = gpu.median(|_| run().map(drop))?;
                let scratch = engine::cuda::memory(gpu.cuda())?.peak - before;
                println!("     reproducible {reproducible}, {s} tokens: dqkv and scratch take {} MiB", scratch >> 20);
                Ok((median, gpu.flop(2.5 * flop)))
            });
        }
    }
}
