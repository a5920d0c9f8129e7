//! The whole VAE: flux-mini's in bf16 against the CPU's in f32, then FLUX.1's full size with made-up weights.

use crate::gpu::{Gpu, error, exact};
use crate::report::Report;
use candle_core::{DType, Device, Error, Result, Tensor};
use engine::synthetic::Synthetic;
use engine::vae::{Config, Tiling, Vae};
use engine::{Model, Precision, cuda, memory};
use std::time::Instant;

/// Pictures, height and width in pixels.
const SIZES: [(usize, usize, usize); 4] = [(1, 64, 64), (2, 136, 72), (1, 16, 256), (1, 256, 256)];
/// Of bf16 over the layers of one half.
const TOLERANCE: f64 = 3e-2;
const LEAST_PSNR: f64 = 35.0;

pub fn check(gpu: &Gpu, report: &mut Report) {
    let host = vae(&Device::Cpu, Precision::F32);
    for (precision, tolerance) in [(Precision::F32, 2e-3), (Precision::Bf16, TOLERANCE)] {
        let vae = vae(&gpu.device, precision);
        for size in SIZES {
            let (b, h, w) = size;
            report.check(&format!("flux-mini encodes in {precision}"), size, tolerance, || {
                let pictures = pictures(b, h, w)?;
                let expected = host.encode(&pictures).map_err(Error::wrap)?.mean;
                gpu.poison();
                error(&vae.encode(&pictures.to_device(&gpu.device)?).map_err(Error::wrap)?.mean, &expected)
            });
            report.check(&format!("flux-mini decodes in {precision}"), size, tolerance, || {
                let z = host.encode(&pictures(b, h, w)?).map_err(Error::wrap)?.mean;
                let expected = host.decode_raw(&z).map_err(Error::wrap)?;
                gpu.poison();
                let ours = vae.decode_raw(&z.to_device(&gpu.device)?).map_err(Error::wrap)?;
                let psnr = psnr(&ours, &expected)?;
                println!("     PSNR {psnr:.1} dB");
                // NaN too.
                if !(psnr >= LEAST_PSNR) {
                    candle_core::bail!("a PSNR of {psnr:.1} dB, but {LEAST_PSNR} are wanted");
                }
                error(&ours, &expected)
            });
        }
        report.check(&format!("flux-mini decodes in tiles in {precision}"), (1, 256, 192), tolerance, || {
            let z = host.encode(&pictures(1, 256, 192)?).map_err(Error::wrap)?.mean;
            let tiling = Tiling::new(16);
            let expected = host.decode_tiled(&z, tiling).map_err(Error::wrap)?;
            error(&vae.decode_tiled(&z.to_device(&gpu.device)?, tiling).map_err(Error::wrap)?, &expected)
        });
    }
}

fn vae(device: &Device, precision: Precision) -> Vae {
    Vae::open(&Model::from("models/flux-mini"), device, precision).expect("models/flux-mini below the current folder")
}

/// Waves of colour under a little noise, [B, 3, H, W] in -1..=1.
fn pictures(b: usize, h: usize, w: usize) -> Result<Tensor> {
    let wave = |i: usize| {
        let (x, y, c) = ((i % w) as f32, (i / w % h) as f32, (i / (w * h)) as f32);
        0.6 * (0.11 * x + c).sin() * (0.07 * y - 0.5 * c).cos() + if x * 3.0 > y * 2.0 { 0.3 } else { -0.2 }
    };
    let waves = Tensor::from_vec((0..b * 3 * h * w).map(wave).collect::<Vec<f32>>(), (b, 3, h, w), &Device::Cpu)?;
    (waves + Tensor::randn(0f32, 0.03, (b, 3, h, w), &Device::Cpu)?)?.clamp(-1f32, 1f32)
}

/// Of pictures in -1..=1, in dB.
fn psnr(x: &Tensor, expected: &Tensor) -> Result<f64> {
    let shown = |x: &Tensor| exact(x)?.clamp(-1.0, 1.0);
    let square = (shown(x)? - shown(expected)?)?.sqr()?.mean_all()?.to_scalar::<f64>()?;
    Ok(10.0 * (4.0 / square).log10())
}

pub fn time(gpu: &Gpu, report: &mut Report) {
    let model = Model::Synthetic(Synthetic::FluxDev);
    let vae = Vae::open(&model, &gpu.device, Precision::Bf16).expect("FLUX.1's configuration");
    vae.load().expect("room for the weights");
    let config: Config = model.config("vae").expect("FLUX.1's configuration");
    for side in [1024, 512, 2048] {
        // 8.3 TFLOP of convolutions and 0.6 of attention at 1024×1024 on an H100.
        let least = 8.9e12 / 989e12 * 1e6 * (side as f64 / 1024.0).powi(2);
        report.time("FLUX.1's decoder", (side, side), || {
            let z = gpu.normal((1, 16, side / 8, side / 8), DType::F32);
            let run = || vae.decode_raw(&z).map_err(Error::wrap);
            first_run(gpu, || run().map(drop))?;
            let finite = run()?.sum_all()?.to_scalar::<f32>()?;
            if !finite.is_finite() {
                candle_core::bail!("the picture is not finite");
            }
            peak(gpu, memory::decoding(&config, side / 8, side / 8), || run().map(drop))?;
            Ok((gpu.median(|_| run().map(drop))?, least))
        });
    }
    for side in [1024, 512] {
        report.time("FLUX.1's encoder", (side, side), || {
            let picture = gpu.normal((1, 3, side, side), DType::F32);
            let run = || vae.encode(&picture).map(drop).map_err(Error::wrap);
            first_run(gpu, run)?;
            peak(gpu, memory::encoding_pictures(&config, side / 8, side / 8), run)?;
            // 4.3 TFLOP of convolutions and 0.6 of attention.
            Ok((gpu.median(|_| run())?, 4.9e12 / 989e12 * 1e6 * (side as f64 / 1024.0).powi(2)))
        });
    }
}

fn first_run(gpu: &Gpu, run: impl Fn() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    run()?;
    gpu.device.synchronize()?;
    println!("     {:.0} ms on first use", start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// Prints what a run takes beside what is there already, and what was predicted.
fn peak(gpu: &Gpu, predicted: u64, run: impl Fn() -> Result<()>) -> Result<()> {
    gpu.device.synchronize()?;
    let before = cuda::memory(gpu.cuda())?.used as u64;
    cuda::reset_memory_peak(gpu.cuda())?;
    run()?;
    gpu.device.synchronize()?;
    let taken = cuda::memory(gpu.cuda())?.peak as u64 - before;
    println!("     {} at most beside the weights, predicted {}", memory::Bytes(taken), memory::Bytes(predicted));
    Ok(())
}
