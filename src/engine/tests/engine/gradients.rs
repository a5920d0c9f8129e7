//! Gradients of adapters: against torch, against candle's autograd, with checkpointing against without, and against finite differences.

use crate::fixtures::{Call, File, assert_near, pipeline, relative_error};
use crate::plain_transformer::PlainTransformer;
use candle_core::{Device, Tensor, Var};
use engine::{
    AdapterSet, LoraPair, Result, Size,
    transformer::{Checkpointing, Gradients},
};
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

/// Adapters whose matrices are trainable, and their variables as A, B, A, B, …
struct Trainable {
    set: AdapterSet,
    variables: Vec<Var>,
    paths: Vec<String>,
}

impl Trainable {
    /// Pairs on the layers that `pick` chooses, filled by `fill(path, a or b, shape)`.
    fn new(pick: impl Fn(&str) -> bool, rank: usize, mut fill: impl FnMut(&str, char, (usize, usize)) -> Tensor) -> Self {
        let mut trainable = Self { set: AdapterSet::base(), variables: Vec::new(), paths: Vec::new() };
        for layer in pipeline().transformer.linears().iter().filter(|layer| pick(&layer.path)) {
            let a = Var::from_tensor(&fill(&layer.path, 'A', (rank, layer.in_features))).unwrap();
            let b = Var::from_tensor(&fill(&layer.path, 'B', (layer.out_features, rank))).unwrap();
            trainable.set.push(layer.id, LoraPair { a: a.as_tensor().clone(), b: b.as_tensor().clone(), scale: 1.0 });
            trainable.variables.extend([a, b]);
            trainable.paths.push(layer.path.clone());
        }
        trainable
    }

    fn random(pick: impl Fn(&str) -> bool, rank: usize) -> Self {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        Self::new(pick, rank, |_, _, shape| {
            let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| 0.03 * Distribution::<f32>::sample(&StandardNormal, &mut rng)).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        })
    }

    fn gradients(&self, call: &Call, target: &Tensor, checkpointing: Checkpointing) -> (f64, Vec<Tensor>) {
        let loss = |prediction: &Tensor| -> Result<Tensor> { Ok((prediction - target)?.sqr()?.mean_all()?) };
        let transformer = &pipeline().transformer;
        let (loss, gradients) =
            transformer.gradients(&call.latents, &call.step(), &self.set, &self.variables, checkpointing, &loss).unwrap();
        (f64::from(loss.to_scalar::<f32>().unwrap()), gradients)
    }
}

fn lora_step() -> (File, Call) {
    let file = File::read("lora_step.safetensors");
    let call = Call::read(&file, "x_t", Size::new(256, 256).unwrap());
    (file, call)
}

#[test]
fn match_torch() {
    let (file, call) = lora_step();
    let has = |path: &str| file.under("init.").any(|(key, _)| key.strip_suffix(".lora_A.weight") == Some(path));
    let trainable = Trainable::new(has, 4, |path, half, _| file.get(&format!("init.{path}.lora_{half}.weight")));
    assert_eq!(2 * trainable.paths.len(), file.under("init.").count());
    let reference = f64::from(file.get("losses").get(0).unwrap().to_scalar::<f32>().unwrap());
    for checkpointing in [Checkpointing::None, Checkpointing::Smart, Checkpointing::Full] {
        let (loss, gradients) = trainable.gradients(&call, &file.get("target"), checkpointing);
        assert!((loss - reference).abs() / reference < 1e-4, "loss {loss}, reference {reference}");
        let mut worst: f64 = 0.0;
        for (i, path) in trainable.paths.iter().enumerate() {
            for (half, gradient) in [('A', &gradients[2 * i]), ('B', &gradients[2 * i + 1])] {
                let reference = file.get(&format!("grad.{path}.lora_{half}.weight"));
                worst = worst.max(relative_error(gradient, &reference));
                assert_near(&format!("{path} {half}"), gradient, &reference, 1e-3);
            }
        }
        println!("{checkpointing:?}: worst relative error {worst:.2e}");
    }
}

/// On every linear layer at once, modulations and embedders included, in a batch of two.
#[test]
fn checkpointed_equal_plain_on_every_layer() {
    let (file, call) = lora_step();
    let call = batch_of_two(&call);
    let target = Tensor::cat(&[file.get("target"), file.get("noise")], 0).unwrap();
    let trainable = Trainable::random(|_| true, 2);
    let (plain_loss, plain) = trainable.gradients(&call, &target, Checkpointing::None);
    for checkpointing in [Checkpointing::Smart, Checkpointing::Full] {
        let (loss, checkpointed) = trainable.gradients(&call, &target, checkpointing);
        assert!((loss - plain_loss).abs() < 1e-6);
        for (i, (ours, theirs)) in checkpointed.iter().zip(&plain).enumerate() {
            let path = &trainable.paths[i / 2];
            assert!(theirs.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 0.0, "no gradient reaches {path}");
            assert_near(path, ours, theirs, 2e-5);
        }
    }
}

/// A block-wise adapter: nothing below its first layer is run again, and the gradients are the same.
#[test]
fn checkpointed_equal_plain_in_the_last_blocks() {
    let (file, call) = lora_step();
    for pick in ["single_transformer_blocks.4.", "transformer_blocks.2.attn.add_q_proj", "proj_out", "norm_out.linear"] {
        let trainable = Trainable::random(|path| path.starts_with(pick), 2);
        assert!(!trainable.paths.is_empty());
        let (_, plain) = trainable.gradients(&call, &file.get("target"), Checkpointing::None);
        for checkpointing in [Checkpointing::Smart, Checkpointing::Full] {
            let (_, checkpointed) = trainable.gradients(&call, &file.get("target"), checkpointing);
            for (ours, theirs) in checkpointed.iter().zip(&plain) {
                assert_near(pick, ours, theirs, 2e-5);
            }
        }
    }
}

/// Every layer at once against candle's own backward pass through a transformer of plain operations.
#[test]
fn match_a_plain_transformer_on_every_layer() {
    let (file, call) = lora_step();
    let call = batch_of_two(&call);
    let target = Tensor::cat(&[file.get("target"), file.get("noise")], 0).unwrap();
    let trainable = Trainable::random(|_| true, 2);
    let pairs = trainable.paths.iter().cloned().zip(trainable.variables.chunks(2).map(|pair| [pair[0].clone(), pair[1].clone()]));
    let prediction = PlainTransformer::new(pairs.collect()).forward(&call);
    let ours = pipeline().transformer.forward(&call.latents, &call.step(), &trainable.set).unwrap();
    assert_near("velocity", &ours, &prediction, 1e-5);
    let reference = (prediction - &target).unwrap().sqr().unwrap().mean_all().unwrap().backward().unwrap();
    let (_, gradients) = trainable.gradients(&call, &target, Checkpointing::None);
    for (i, variable) in trainable.variables.iter().enumerate() {
        assert_near(&trainable.paths[i / 2], &gradients[i], reference.get(variable).unwrap(), 1e-4);
    }
}

/// What is added to a buffer twice is there twice.
#[test]
fn gradients_accumulate() {
    let (file, call) = lora_step();
    let trainable = Trainable::random(|path| path.ends_with("attn.to_q") || path.ends_with("proj_out"), 2);
    let (_, once) = trainable.gradients(&call, &file.get("target"), Checkpointing::None);
    let sums = Gradients::zeros(&trainable.variables, &Device::Cpu).unwrap();
    for _ in 0..2 {
        let loss = |prediction: &Tensor| -> Result<Tensor> { Ok((prediction - file.get("target"))?.sqr()?.mean_all()?) };
        let transformer = &pipeline().transformer;
        transformer.add_gradients(&call.latents, &call.step(), &trainable.set, &sums, Checkpointing::None, &loss).unwrap();
    }
    for (sum, once) in sums.views().iter().zip(&once) {
        assert_near("twice", sum, &(once * 2.0).unwrap(), 1e-5);
    }
    assert_eq!(sums.flat().elem_count(), once.iter().map(Tensor::elem_count).sum::<usize>());
    sums.clear().unwrap();
    assert!(crate::fixtures::values(sums.flat()).iter().all(|x| *x == 0.0));
}

/// A check that owes nothing to any autograd: the slope of the loss along a random direction.
#[test]
fn match_finite_differences_on_modulations_and_embedders() {
    let (file, call) = lora_step();
    let target = file.get("target");
    let frozen = [
        "x_embedder",
        "context_embedder",
        "time_text_embed.timestep_embedder.linear_1",
        "norm_out.linear",
        "transformer_blocks.1.norm1.linear",
    ];
    let trainable = Trainable::random(|path| frozen.contains(&path), 2);
    assert_eq!(trainable.paths.len(), frozen.len());
    let (_, gradients) = trainable.gradients(&call, &target, Checkpointing::None);
    for (i, path) in trainable.paths.iter().enumerate() {
        let (variable, gradient) = (&trainable.variables[2 * i + 1], &gradients[2 * i + 1]);
        let start = variable.as_tensor().copy().unwrap();
        let norm = gradient.sqr().unwrap().sum_all().unwrap().sqrt().unwrap().to_scalar::<f32>().unwrap();
        let direction = (gradient / f64::from(norm)).unwrap();
        let loss_at = |distance: f64| {
            variable.set(&(&start + (&direction * distance).unwrap()).unwrap()).unwrap();
            let prediction = pipeline().transformer.forward(&call.latents, &call.step(), &trainable.set).unwrap();
            let squares = crate::fixtures::values(&(prediction - &target).unwrap().sqr().unwrap());
            squares.iter().sum::<f64>() / squares.len() as f64
        };
        const H: f64 = 0.02;
        let slope = (loss_at(H) - loss_at(-H)) / (2.0 * H);
        variable.set(&start).unwrap();
        assert!((slope - f64::from(norm)).abs() <= 0.02 * f64::from(norm) + 1e-5, "{path}: slope {slope}, gradient {norm}");
    }
}

#[test]
fn no_adapter_no_gradient() {
    let (file, call) = lora_step();
    let stray = Trainable::random(|path| path == "proj_out", 2);
    let nothing = Trainable { set: AdapterSet::base(), ..stray };
    let (loss, gradients) = nothing.gradients(&call, &file.get("target"), Checkpointing::Full);
    assert!(loss > 0.0);
    assert!(gradients.iter().all(|g| crate::fixtures::values(g).iter().all(|x| *x == 0.0)));
}

fn batch_of_two(call: &Call) -> Call {
    let shifted = (&call.latents.0 * 0.7).unwrap();
    Call {
        latents: engine::latents::PackedLatents(Tensor::cat(&[&call.latents.0, &shifted], 0).unwrap()),
        conditioning: call.conditioning.clone(),
        size: call.size,
        sigma: vec![call.sigma[0], 0.3],
        guidance: vec![call.guidance[0], 3.5],
    }
}
