//! AdamW with 8-bit moments, and the sum of squares that clips its gradients.

use crate::gpu::{DTYPES, Gpu, error, with, worst};
use crate::report::Report;
use candle_core::backend::BackendStorage;
use candle_core::{DType, Device, Result, Tensor};
use engine::cuda::adamw8bit::{AdamW8bit, BLOCK, Moments, Rule, SMALLEST};
use engine::cuda::reduce::sum_of_squares;

/// Step one of AdamW with weight decay 0.01 at rate 0.01.
const RULE: Rule = Rule { keep: 0.9999, new_first: 0.1, beta2: 0.999, new_second: 0.001, rate: 0.1, root: 0.031_622_775, epsilon: 1e-8 };
const STEPS: usize = 20;

/// The dynamic code, signed or not, ascending (arXiv 2110.02861).
fn code(signed: bool) -> [f32; 256] {
    let mut values = vec![0.0, 1.0];
    for exponent in 0..7 {
        let parts = 1 << if signed { exponent } else { exponent + 1 };
        for part in 0..parts {
            let value = (10f64.powi(exponent - 6) * (0.1 + 0.9 * (f64::from(part) + 0.5) / f64::from(parts))) as f32;
            values.push(value);
            values.extend(signed.then_some(-value));
        }
    }
    values.sort_by(f32::total_cmp);
    values.try_into().expect("256 values")
}

/// The twin on the host: one tensor at a time, one element after the other.
struct Host {
    codes: [[f32; 256]; 2],
    moments: Vec<Moments>,
}

impl Host {
    fn new(lengths: &[usize]) -> Self {
        let codes = [code(true), code(false)];
        let zero = codes.map(|code| code.partition_point(|&value| value < 0.0) as u8);
        let moments = lengths.iter().map(|&length| {
            let blocks = length.div_ceil(BLOCK);
            match length < SMALLEST {
                true => Moments::Full { first: vec![0.0; length], second: vec![0.0; length] },
                false => Moments::Quantised {
                    first: vec![zero[0]; length],
                    first_scale: vec![0.0; blocks],
                    second: vec![zero[1]; length],
                    second_scale: vec![0.0; blocks],
                },
            }
        });
        Self { moments: moments.collect(), codes }
    }

    fn step(&mut self, mut parameters: &mut [f32], mut gradients: &[f32]) {
        for moments in &mut self.moments {
            let length = match moments {
                Moments::Full { first, .. } => first.len(),
                Moments::Quantised { first, .. } => first.len(),
            };
            let (mine, others) = parameters.split_at_mut(length);
            let (my_gradients, other_gradients) = gradients.split_at(length);
            step(&self.codes, moments, mine, my_gradients);
            (parameters, gradients) = (others, other_gradients);
        }
    }
}

fn step(codes: &[[f32; 256]; 2], moments: &mut Moments, parameters: &mut [f32], gradients: &[f32]) {
    match moments {
        Moments::Full { first, second } => {
            for (i, parameter) in parameters.iter_mut().enumerate() {
                apply(parameter, &mut first[i], &mut second[i], gradients[i]);
            }
        }
        Moments::Quantised { first, first_scale, second, second_scale } => {
            for block in 0..first_scale.len() {
                let range = block * BLOCK..parameters.len().min((block + 1) * BLOCK);
                let value = |code: &[f32; 256], codes: &[u8], scale: f32| -> Vec<f32> {
                    codes[range.clone()].iter().map(|&c| code[usize::from(c)] * scale).collect()
                };
                let mut m = value(&codes[0], first, first_scale[block]);
                let mut v = value(&codes[1], second, second_scale[block]);
                for (n, i) in range.clone().enumerate() {
                    apply(&mut parameters[i], &mut m[n], &mut v[n], gradients[i]);
                }
                first_scale[block] = requantise(&codes[0], &m, &mut first[range.clone()], 0);
                let least = codes[1].partition_point(|&value| value <= 0.0) as u8;
                second_scale[block] = requantise(&codes[1], &v, &mut second[range], least);
            }
        }
    }
}

fn apply(parameter: &mut f32, first: &mut f32, second: &mut f32, gradient: f32) {
    *first += (gradient - *first) * RULE.new_first;
    *second = *second * RULE.beta2 + gradient * gradient * RULE.new_second;
    *parameter = *parameter * RULE.keep - RULE.rate * *first / (second.sqrt() / RULE.root + RULE.epsilon);
}

/// Values → codes, of which those of values above zero are `least` at least, and their scale.
fn requantise(code: &[f32; 256], values: &[f32], codes: &mut [u8], least: u8) -> f32 {
    let scale = values.iter().fold(0f32, |most, value| most.max(value.abs()));
    for (slot, &value) in codes.iter_mut().zip(values) {
        let x = if scale > 0.0 { value / scale } else { 0.0 };
        let above = code.partition_point(|&value| value < x).min(255);
        let below = above.saturating_sub(1);
        let nearest = if x - code[below] <= code[above] - x { below } else { above } as u8;
        *slot = if x > 0.0 { nearest.max(least) } else { nearest };
    }
    scale
}

pub fn check(gpu: &Gpu, report: &mut Report) {
    for lengths in [vec![1], vec![300, SMALLEST, 7, SMALLEST + 10], vec![3072 * 16, 100, 12288 * 4]] {
        report.check("adamw8bit, twenty steps and a restart", lengths.clone(), 1e-6, || twenty_steps(gpu, &lengths));
        report.check("adamw8bit with clipping", lengths.clone(), 1e-5, || clipped_step(gpu, &lengths));
    }
    for elements in [1, 33, 5000, 4_669_441] {
        for dtype in DTYPES {
            report.check("sum_of_squares", (elements, dtype), 1e-6, || {
                let x = gpu.normal(elements, dtype);
                gpu.poison();
                let sum = gpu.tensor(with([&x], |[x]| sum_of_squares(x))?, 1);
                let again = gpu.tensor(with([&x], |[x]| sum_of_squares(x))?, 1);
                if again.to_vec1::<f32>()? != sum.to_vec1::<f32>()? {
                    candle_core::bail!("not the same bits on a second run");
                }
                error(&sum, &x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.sqr()?.sum_all()?.reshape(1)?)
            });
        }
    }
}

fn twenty_steps(gpu: &Gpu, lengths: &[usize]) -> Result<f64> {
    let (total, codes) = (lengths.iter().sum::<usize>(), [code(true), code(false)]);
    let new = || AdamW8bit::new(gpu.cuda(), lengths, [&codes[0], &codes[1]]);
    let (mut ours, mut host) = (new()?, Host::new(lengths));
    let start = gpu.normal(total, DType::F32);
    let mut parameters = with([&start], |[x]| BackendStorage::try_clone(x.0, x.1))?;
    let mut expected = start.to_vec1::<f32>()?;
    for step in 0..STEPS {
        let g = gpu.normal(total, DType::F32);
        with([&g], |[g]| ours.step(RULE, &mut parameters, g, None))?;
        host.step(&mut expected, &g.to_vec1()?);
        if step == STEPS / 2 {
            let saved = ours.moments()?;
            ours = new()?;
            ours.restore(&saved)?;
        }
    }
    let parameters = gpu.tensor(parameters, total);
    // A code may differ where a quotient lies on the line between two; seldom.
    let different = ours.moments()?.iter().zip(&host.moments).map(|(a, b)| differences(a, b)).sum::<usize>();
    let codes_error = if different * 1000 <= total { 0.0 } else { different as f64 / total as f64 };
    Ok(worst([error(&parameters, &Tensor::from_vec(expected, total, &Device::Cpu)?)?, codes_error]))
}

fn differences(a: &Moments, b: &Moments) -> usize {
    let count = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count();
    match (a, b) {
        (Moments::Quantised { first, second, .. }, Moments::Quantised { first: f, second: s, .. }) => count(first, f) + count(second, s),
        (Moments::Full { first, .. }, Moments::Full { first: f, .. }) if first.len() == f.len() => 0,
        _ => usize::MAX / 2,
    }
}

fn clipped_step(gpu: &Gpu, lengths: &[usize]) -> Result<f64> {
    const MOST: f32 = 0.5;
    let (total, codes) = (lengths.iter().sum::<usize>(), [code(true), code(false)]);
    let mut ours = AdamW8bit::new(gpu.cuda(), lengths, [&codes[0], &codes[1]])?;
    let (start, g) = (gpu.normal(total, DType::F32), (gpu.normal(total, DType::F32) * 3.0)?);
    let mut parameters = with([&start], |[x]| BackendStorage::try_clone(x.0, x.1))?;
    with([&g], |[g]| {
        let sum = sum_of_squares(g)?;
        ours.step(RULE, &mut parameters, g, Some((&sum, MOST)))
    })?;
    let (mut expected, g) = (start.to_vec1::<f32>()?, g.to_vec1::<f32>()?);
    let norm = g.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    let factor = (f64::from(MOST) / (norm + 1e-6)).min(1.0) as f32;
    Host::new(lengths).step(&mut expected, &g.iter().map(|g| g * factor).collect::<Vec<_>>());
    error(&gpu.tensor(parameters, total), &Tensor::from_vec(expected, total, &Device::Cpu)?)
}

pub fn time(gpu: &Gpu, report: &mut Report) {
    // FLUX's attention projections at rank 4 and at rank 16.
    for total in [4_669_440, 4 * 4_669_440] {
        let (lengths, codes) = (vec![12288; total / 12288], [code(true), code(false)]);
        report.time("adamw8bit, clipped", total, || {
            let mut ours = AdamW8bit::new(gpu.cuda(), &lengths, [&codes[0], &codes[1]])?;
            let (start, g) = (gpu.normal(total, DType::F32), gpu.normal(total, DType::F32));
            let mut parameters = with([&start], |[x]| BackendStorage::try_clone(x.0, x.1))?;
            let median = gpu.median(|_| {
                with([&g], |[g]| {
                    let sum = sum_of_squares(g)?;
                    ours.step(RULE, &mut parameters, g, Some((&sum, 1.0)))
                })
            })?;
            Ok((median, gpu.bytes(total * (4 + 12 + 4))))
        });
    }
}
