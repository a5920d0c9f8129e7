//! Adapter files of everybody who writes some, beside what the reference makes of them; and files for others, read again.

use crate::{
    fixtures::{assert_near, pipeline, refusal, relative_error, values},
    tiny,
};
use candle_core::{DType, Device, Tensor};
use engine::{
    Adapter, AdapterSet, LoraPair,
    adapter::{Layout, Target},
};
use std::{collections::BTreeMap, sync::Arc};

/// Name of the fixture, whose layout, and what it is.
const FILES: [(&str, Layout, &str); 14] = [
    ("diffusers", Layout::Diffusers, "LoRA"),
    ("kohya", Layout::Kohya, "LoRA"),
    ("comfyui", Layout::ComfyUi, "LoRA"),
    ("onetrainer", Layout::OneTrainer, "LoRA"),
    ("onetrainer_parts", Layout::OneTrainer, "LoRA"),
    ("onetrainer_dora", Layout::OneTrainer, "DoRA"),
    ("xlabs", Layout::XLabs, "LoRA"),
    ("peft_lora", Layout::RawPeft, "LoRA"),
    ("peft_dora", Layout::RawPeft, "DoRA"),
    ("peft_loha", Layout::RawPeft, "LoHa"),
    ("peft_lokr", Layout::RawPeft, "LoKr"),
    ("loha", Layout::Kohya, "LoHa"),
    ("lokr", Layout::Kohya, "LoKr"),
    ("lycoris_dora", Layout::LyCoris, "DoRA"),
];

fn load(name: &str) -> Adapter {
    let file = tiny::path(&format!("adapters/{name}.safetensors"));
    let path = if file.is_file() { file } else { tiny::path(&format!("adapters/{name}/adapter_model.safetensors")) };
    Adapter::load(&path, &Device::Cpu).unwrap()
}

fn mounted(adapter: &Adapter, strength: f64) -> AdapterSet {
    let (set, coverage) = AdapterSet::mount(tiny::transformer(), &[(Arc::new(adapter.clone()), strength)]).unwrap();
    assert!(coverage[0].unmatched.is_empty(), "{:?}", coverage[0].unmatched);
    assert_eq!(coverage[0].matched.len(), adapter.modules.len());
    set
}

#[test]
fn the_tiny_model_is_the_references() {
    let expected = tiny::file("adapters/call.safetensors").get("output");
    assert_near("base", &tiny::velocity(tiny::transformer(), &AdapterSet::base()), &expected, 2e-5);
}

/// Every change of a weight, and the change of the velocity that all of them make together.
#[test]
fn everybodys_files_do_what_the_reference_says() {
    let base = tiny::file("adapters/call.safetensors").get("output");
    for (name, layout, kind) in FILES {
        let (adapter, expected) = (load(name), tiny::file(&format!("adapters/{name}.expected.safetensors")));
        assert_eq!(adapter.layout, layout, "{name}");
        assert!(adapter.modules.values().all(|delta| delta.kind() == kind), "{name}");
        let deltas: BTreeMap<_, _> = expected.under("delta.").collect();
        for (path, delta) in &deltas {
            assert_near(&format!("{name} {path}"), &adapter.modules[*path].update.matrix().unwrap(), delta, 3e-6);
        }
        assert!(kind == "DoRA" || deltas.len() == adapter.modules.len(), "{name}: {:?}", adapter.modules.keys());
        let ours = tiny::velocity(tiny::transformer(), &mounted(&adapter, 1.0));
        let reference = expected.get("velocity");
        println!("{name}: {:.1e}", relative_error(&ours, &reference));
        assert_near(&format!("{name}: change"), &(ours - &base).unwrap(), &(reference - &base).unwrap(), 2e-4);
    }
}

/// Strength is a straight line between the base's weight and the adapted one.
#[test]
fn strengths_add_up() {
    for name in ["peft_dora", "onetrainer_dora", "lokr"] {
        let adapter = Arc::new(load(name));
        let velocity = |strengths: &[f64]| {
            let all: Vec<_> = strengths.iter().map(|strength| (adapter.clone(), *strength)).collect();
            tiny::velocity(tiny::transformer(), &AdapterSet::mount(tiny::transformer(), &all).unwrap().0)
        };
        assert_near(name, &velocity(&[0.25, 0.75]), &velocity(&[1.0]), 1e-5);
        assert_eq!(values(&velocity(&[0.0])), values(&velocity(&[])), "{name}");
    }
}

/// CLIP's part of a kohya file moves the pooled vector; T5's part is reported.
#[test]
fn clip_is_adapted_too() {
    let adapter = Arc::new(load("clip"));
    assert_eq!(adapter.left_out.len(), 2);
    assert!(adapter.left_out.iter().all(|(key, reason)| key.starts_with("lora_te3_") && reason.contains("T5")));
    let set = pipeline().mount(&[(adapter.clone(), 1.0)]).unwrap();
    assert_eq!((set.coverage[0].matched.len(), set.coverage[0].unmatched.len()), (2, 2));
    let expected = tiny::file("adapters/clip.expected.safetensors");
    let ids: Vec<Vec<u32>> = vec![values(&expected.get("ids")).into_iter().map(|id| id as u32).collect()];
    let clip = pipeline().text_encoder.clip.get().unwrap();
    assert_near("pooled", &clip.forward(&ids, &set.clip).unwrap().pooled, &expected.get("pooled"), 1e-5);
    assert!(relative_error(&clip.forward(&ids, &AdapterSet::base()).unwrap().pooled, &expected.get("pooled")) > 1e-2);
    assert!(pipeline().measure(&adapter).unwrap() > 1e-4);
}

#[test]
fn an_adapter_that_changes_nothing_is_refused() {
    let zeros = |shape: (usize, usize)| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let ones = Tensor::ones((2, 256), DType::F32, &Device::Cpu).unwrap();
    let pair = |b: Tensor| [("proj_out".to_owned(), LoraPair { a: ones.clone(), b, scale: 1.0 })];
    let untrained = Adapter::of_pairs("untrained", pair(zeros((64, 2))), BTreeMap::new());
    assert!(refusal(pipeline().measure(&Arc::new(untrained))).contains("changes nothing"));
    let trained = Adapter::of_pairs("trained", pair((zeros((64, 2)) + 0.01).unwrap()), BTreeMap::new());
    let change = pipeline().measure(&Arc::new(trained)).unwrap();
    assert!((1e-4..1.0).contains(&change), "{change}");
}

/// From one adapter three files; each says the same of every layer, and draws the same.
#[test]
fn exports_keep_every_change() {
    for name in ["diffusers", "kohya", "comfyui", "onetrainer_parts", "xlabs", "peft_lora", "loha", "clip"] {
        let adapter = load(name);
        for target in Target::ALL {
            let export = adapter.export(target).unwrap();
            assert!(export.difference <= 1e-6 && export.modules == adapter.modules.len(), "{name} as {target}: {:.1e}", export.difference);
            let again = Adapter::from_bytes("again", &export.bytes, &Device::Cpu).unwrap();
            let layout = match target {
                Target::Diffusers => Layout::Diffusers,
                Target::Kohya => Layout::Kohya,
                Target::ComfyUi => Layout::ComfyUi,
            };
            assert_eq!(again.layout, layout);
            if name != "clip" {
                let (one, other) = (mounted(&adapter, 1.0), mounted(&again, 1.0));
                assert_near(name, &tiny::velocity(tiny::transformer(), &other), &tiny::velocity(tiny::transformer(), &one), 1e-5);
            }
        }
    }
}

/// What came out of a fused layer goes back with its rank; what was trained apart comes back with its own.
#[test]
fn ranks_survive_fusing() {
    let ranks = |adapter: &Adapter| adapter.modules.iter().map(|(path, delta)| (path.clone(), delta.rank())).collect::<BTreeMap<_, _>>();
    for name in ["kohya", "onetrainer_parts", "diffusers"] {
        let adapter = load(name);
        let again = Adapter::from_bytes("again", &adapter.to_bytes(Target::Kohya).unwrap(), &Device::Cpu).unwrap();
        assert_eq!(ranks(&again), ranks(&adapter), "{name}");
    }
}

#[test]
fn what_no_lora_file_can_say_is_refused() {
    for name in ["peft_dora", "onetrainer_dora", "lycoris_dora"] {
        assert!(refusal(load(name).export(Target::Diffusers)).contains("DoRA"), "{name}");
    }
    assert!(refusal(load("lokr").export(Target::Kohya)).contains("atelier merge"));
}
