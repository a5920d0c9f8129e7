//! Models written in another form, or with adapters baked in, and read again.

use crate::{
    fixtures::{assert_near, refusal, relative_error},
    tiny::{self, path},
};
use candle_core::{Device, Tensor};
use engine::{
    Adapter, AdapterSet, Model, Precision,
    checkpoint::Chosen,
    convert::{Conversion, Converted, Form},
    transformer::Transformer,
};
use std::{path::Path, sync::Arc};

/// The tiny model, from BFL's files.
fn base() -> Model {
    let chosen = Chosen { base: Some(crate::fixtures::MODEL.into()), ..Chosen::default() };
    Model::open(&path("models/bfl/flux.safetensors"), &chosen).unwrap()
}

fn convert(model: &Model, form: Form, adapters: &[(Arc<Adapter>, f64)], out: &Path) -> Converted {
    let mut heard = 0;
    let converted = Conversion { form, adapters }.run(model, out, &mut |_| heard += 1).unwrap();
    assert_eq!(heard, converted.errors.len());
    converted
}

/// A folder is a model of its own; a file takes the rest from where it came from.
fn reopened(out: &Path) -> Model {
    let parts = path("models/bfl");
    let chosen = Chosen {
        clip: Some(parts.join("clip_l.safetensors")),
        t5: Some(parts.join("t5xxl.safetensors")),
        vae: Some(parts.join("ae.safetensors")),
        base: Some(crate::fixtures::MODEL.into()),
    };
    let chosen = if out.is_dir() { Chosen { base: None, t5: None, ..chosen } } else { chosen };
    Model::open(out, &chosen).unwrap()
}

fn velocity(model: &Model) -> Tensor {
    let transformer = Transformer::from_checkpoint(&model.part("transformer", &Device::Cpu).unwrap(), Precision::F32).unwrap();
    tiny::velocity(&transformer, &AdapterSet::base())
}

const FORMS: [(&str, f64); 8] =
    [("bf16", 1e-6), ("f16", 1e-4), ("q8_0", 0.02), ("int8", 0.02), ("fp8", 0.08), ("q5_0", 0.15), ("nf4", 0.25), ("q4_0", 0.3)];

#[test]
fn every_form_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (model, expected) = (base(), velocity(&base()));
    for (name, most) in FORMS {
        let form: Form = name.parse().unwrap();
        let out = folder.path().join(form.ending().map_or(name.to_owned(), |ending| format!("{name}.{ending}")));
        let converted = convert(&model, form, &[], &out);
        let ours = velocity(&reopened(&out));
        println!("{name}: {:.1e} of the velocity, {} bytes", relative_error(&ours, &expected), converted.bytes);
        assert_near(name, &ours, &expected, most);
        assert!(converted.errors.iter().all(|one| one.error < 0.15), "{name}: {:?}", converted.errors);
        assert!(most <= 1e-4 || relative_error(&ours, &expected) > 0.0, "{name} is not what it says");
        assert!(refusal(Conversion { form, adapters: &[] }.run(&model, &out, &mut |_| {})).contains("is there already"));
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), FORMS.len(), "nothing unfinished is left: {left:?}");
}

/// The error in the table is that of the weights that are read again.
#[test]
fn errors_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let original = base().part("transformer", &Device::Cpu).unwrap();
    let (layer, shape) = ("transformer_blocks.0.ff.net.2", [64, 256]);
    for (name, written) in [("nf4", layer), ("int8", layer), ("q4_0", "double_blocks.0.img_mlp.2"), ("fp8", "double_blocks.0.img_mlp.2")] {
        let form: Form = name.parse().unwrap();
        let out = folder.path().join(form.ending().map_or(name.to_owned(), |ending| format!("{name}.{ending}")));
        let converted = convert(&base(), form, &[], &out);
        let said = converted.errors.iter().find(|one| one.layer == written).unwrap().error;
        let take = |checkpoint: &engine::checkpoint::Checkpoint| checkpoint.keys().at(layer).take_f32("weight", &shape).unwrap();
        let found = relative_error(&take(&reopened(&out).part("transformer", &Device::Cpu).unwrap()), &take(&original));
        // bitsandbytes' readers round what comes out of NF4 to bf16.
        assert!((found - said).abs() < 2e-3 * said.max(0.05), "{name}: {found} instead of {said}");
    }
}

/// Four bits of a file that has eight.
#[test]
fn a_quantised_model_is_quantised_again() {
    let folder = tempfile::tempdir().unwrap();
    let eight = folder.path().join("eight.gguf");
    convert(&base(), "q8_0".parse().unwrap(), &[], &eight);
    let four = folder.path().join("four");
    convert(&reopened(&eight), Form::Nf4, &[], &four);
    assert_near("nf4 of q8_0", &velocity(&reopened(&four)), &velocity(&base()), 0.25);
}

/// Every kind of adapter, whatever the names of the base: what diffusers draws with it mounted.
#[test]
fn adapters_are_baked_in() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["diffusers", "kohya", "comfyui", "loha", "lokr", "lycoris_dora", "onetrainer_dora"] {
        let adapter = Arc::new(Adapter::load(&path(&format!("adapters/{name}.safetensors")), &Device::Cpu).unwrap());
        let expected = tiny::file(&format!("adapters/{name}.expected.safetensors")).get("velocity");
        for form in ["bf16", "f16"] {
            let form: Form = form.parse().unwrap();
            let out = folder.path().join(form.ending().map_or(name.to_owned(), |ending| format!("{name}.{ending}")));
            let converted = convert(&base(), form, &[(adapter.clone(), 1.0)], &out);
            assert_eq!((converted.baked, converted.left_out.len()), (adapter.modules.len(), 0), "{name}: {:?}", converted.left_out);
            assert_near(&format!("{name} in {form}"), &velocity(&reopened(&out)), &expected, if form == Form::Bf16 { 0.02 } else { 0.003 });
        }
    }
}

#[test]
fn an_adapter_of_another_model_is_not_baked_in() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = Arc::new(Adapter::load(&crate::fixtures::path("lora_impressionist.safetensors"), &Device::Cpu).unwrap());
    let out = folder.path().join("merged.gguf");
    let conversion = Conversion { form: "q8_0".parse().unwrap(), adapters: &[(adapter, 1.0)] };
    assert!(refusal(conversion.run(&base(), &out, &mut |_| {})).contains("fits this model"));
}

#[test]
fn a_form_that_is_not_known_is_refused() {
    assert!(refusal("q3_x".parse::<Form>()).contains("q8_0"));
}
