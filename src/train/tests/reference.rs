//! One batch of the reference through our gradients and AdamW: losses and weights after one and three steps.

use candle_core::{Tensor, Var, safetensors};
use engine::latents::PackedLatents;
use engine::text_encoder::Conditioning;
use engine::transformer::{Checkpointing, Step};
use engine::{AdapterSet, Device, LoraPair, Pipeline, Size};
use std::collections::HashMap;
use std::path::Path;
use train::objective::Example;
use train::optimizer::{Adam, AdamW, Optimizer};
use train::recipe::Weighting;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/flux-mini");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/flux-mini");
const ADAM: Adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-4 };
const LEARNING_RATE: f64 = 1e-4;

type Tensors = HashMap<String, Tensor>;

fn fixture() -> Tensors {
    safetensors::load(Path::new(FIXTURES).join("lora_step.safetensors"), &Device::Cpu).unwrap()
}

/// `transformer_blocks.0.attn.to_q.lora_A.weight` …, sorted.
fn names(fixture: &Tensors) -> Vec<String> {
    let mut names: Vec<_> = fixture.keys().filter_map(|key| key.strip_prefix("init.")).map(str::to_owned).collect();
    names.sort();
    names
}

fn flat(fixture: &Tensors, prefix: &str, names: &[String]) -> Vec<f32> {
    names.iter().flat_map(|name| fixture[&format!("{prefix}.{name}")].flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
}

/// |a - b| / |b|
fn relative(a: &[f32], b: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

#[test]
fn one_step_on_the_references_gradients_gives_its_weights() {
    let fixture = fixture();
    let names = names(&fixture);
    let (mut weights, gradients) = (flat(&fixture, "init", &names), flat(&fixture, "grad", &names));
    let change = |weights: &[f32]| weights.iter().zip(flat(&fixture, "init", &names)).map(|(w, init)| w - init).collect::<Vec<_>>();
    AdamW::new(ADAM, weights.len()).step(1, LEARNING_RATE, &mut weights, &gradients);
    let after = flat(&fixture, "after1", &names);
    assert!(relative(&weights, &after) < 1e-6, "{}", relative(&weights, &after));
    // The step itself, not only the weights that it hardly moves.
    assert!(relative(&change(&weights), &change(&after)) < 1e-3, "{}", relative(&change(&weights), &change(&after)));
}

#[test]
fn three_steps_of_ours_give_the_references_losses_and_weights() {
    let fixture = fixture();
    let names = names(&fixture);
    let pipeline = Pipeline::load(Path::new(MODEL), &Device::Cpu).unwrap();
    let variables: Vec<Var> = names.iter().map(|name| Var::from_tensor(&fixture[&format!("init.{name}")]).unwrap()).collect();
    let adapters = mounted(&pipeline, &names, &variables);
    let numbers =
        |name: &str| fixture[name].flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect::<Vec<_>>();
    let (sigma, guidance) = (numbers("timestep"), numbers("guidance"));
    let packed = |name: &str| PackedLatents(fixture[name].clone());
    let example = Example::new(&packed("x0"), &packed("noise"), &sigma, Weighting::None).unwrap();
    let of = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(relative(&of(&example.noisy.0), &of(&fixture["x_t"])) < 1e-6);
    assert!(relative(&of(&example.target), &of(&fixture["target"])) < 1e-6);

    let conditioning = Conditioning { pooled: fixture["pooled_projections"].clone(), tokens: fixture["encoder_hidden_states"].clone() };
    let step =
        Step { size: Size::new(256, 256).unwrap(), conditioning: &conditioning, sigma: &sigma, guidance: &guidance, modulations: None };
    let mut weights = flat(&fixture, "init", &names);
    let mut optimizer = AdamW::new(ADAM, weights.len());
    for (index, expected) in numbers("losses").into_iter().enumerate() {
        let (loss, gradients) = pipeline
            .transformer
            .gradients(&example.noisy, &step, &adapters, &variables, Checkpointing::None, &|v| example.loss(v))
            .unwrap();
        let loss = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((loss / expected - 1.0).abs() < 1e-3, "loss {index}: {loss}, expected {expected}");
        let gradients: Vec<f32> = gradients.iter().flat_map(of).collect();
        optimizer.step(index + 1, LEARNING_RATE, &mut weights, &gradients);
        show(&variables, &weights);
        let after = format!("after{}", index + 1);
        if fixture.contains_key(&format!("{after}.{}", names[0])) {
            let error = relative(&weights, &flat(&fixture, &after, &names));
            assert!(error < 1e-3, "{after}: {error}");
        }
    }
}

/// alpha = r: scale 1.
fn mounted(pipeline: &Pipeline, names: &[String], variables: &[Var]) -> AdapterSet {
    let mut set = AdapterSet::base();
    for (pair, names) in variables.chunks(2).zip(names.chunks(2)) {
        let path = names[0].strip_suffix(".lora_A.weight").expect("A before B");
        let linear = pipeline.transformer.linears().iter().find(|linear| linear.path == path).expect("the model has the layer");
        set.push(linear.id, LoraPair { a: pair[0].as_tensor().clone(), b: pair[1].as_tensor().clone(), scale: 1.0 });
    }
    set
}

fn show(variables: &[Var], weights: &[f32]) {
    let mut rest = weights;
    for variable in variables {
        let (mine, others) = rest.split_at(variable.elem_count());
        variable.set(&Tensor::from_slice(mine, variable.shape(), &Device::Cpu).unwrap()).unwrap();
        rest = others;
    }
}
