//! Base models in every form that people have them in, beside what the reference computes from the same numbers; and what is refused.

use crate::{
    fixtures::{assert_near, refusal, values},
    tiny::{self, path},
};
use candle_core::{Device, Tensor};
use engine::{
    AdapterSet, Model, Precision, Result,
    checkpoint::{Assembly, Checkpoint, Chosen, contents, file::TensorFile},
    text_encoder::TextEncoder,
    transformer::Transformer,
    vae::Vae,
};
use std::{fs, path::Path};

/// The whole of a model: for what a file lacks, the folder's own parts and flux-mini's tokenizers.
fn model(file: &str, chosen: Chosen) -> Result<Model> {
    let bare = tempfile::tempdir().unwrap();
    let source = path(&format!("models/{file}"));
    let target = bare.path().join(source.file_name().unwrap());
    fs::copy(&source, &target).unwrap();
    // The model keeps reading its files, so they outlive this function.
    let kept = bare.keep().join(target.file_name().unwrap());
    Model::open(&kept, &chosen)
}

/// flux-mini has tokenizers; the parts that a file lacks are the tiny model's.
fn chosen() -> Chosen {
    Chosen {
        clip: Some(path("models/bfl/clip_l.safetensors")),
        t5: Some(path("models/bfl/t5xxl.safetensors")),
        vae: Some(path("models/bfl/ae.safetensors")),
        base: Some(crate::fixtures::MODEL.into()),
    }
}

fn transformer(model: &Model) -> Transformer {
    Transformer::from_checkpoint(&model.part("transformer", &Device::Cpu).unwrap(), Precision::F32).unwrap()
}

fn check_velocity(name: &str, model: &Model) {
    let expected = tiny::file(&format!("models/{name}.expected.safetensors")).get("velocity");
    assert_near(name, &tiny::velocity(&transformer(model), &AdapterSet::base()), &expected, 1e-4);
}

#[test]
fn transformers_of_every_form() {
    for (file, expected) in [
        ("bfl/flux.safetensors", "bfl"),
        ("schnell.safetensors", "schnell"),
        ("all_in_one.safetensors", "all_in_one"),
        ("fp8_scaled.safetensors", "fp8_scaled"),
        ("fp8_scaled_new.safetensors", "fp8_scaled_new"),
        ("gguf/flux-Q8_0.gguf", "flux-Q8_0"),
        ("gguf/flux-mixed.gguf", "flux-mixed"),
        ("nf4_file.safetensors", "nf4_file"),
    ] {
        check_velocity(expected, &model(file, chosen()).unwrap());
    }
    for folder in ["diffusers", "bnb_nf4", "bnb_int8"] {
        let checkpoint = Checkpoint::open(&path(&format!("models/{folder}")), "transformer", &Device::Cpu).unwrap();
        let transformer = Transformer::from_checkpoint(&checkpoint, Precision::F32).unwrap();
        let expected = tiny::file(&format!("models/{folder}.expected.safetensors")).get("velocity");
        assert_near(folder, &tiny::velocity(&transformer, &AdapterSet::base()), &expected, 1e-4);
    }
}

#[test]
fn schnell_has_no_guidance_and_its_own_schedule() {
    let schnell = model("schnell.safetensors", Chosen { base: None, ..chosen() });
    assert!(refusal(schnell).contains("tokenizers"), "no base, no words");
    let schnell = model("schnell.safetensors", chosen()).unwrap();
    assert!(!transformer(&schnell).config.guidance_embeds);
    let with_words = tempfile::tempdir().unwrap();
    for folder in ["tokenizer", "tokenizer_2"] {
        copy(&Path::new(crate::fixtures::MODEL).join(folder), &with_words.path().join(folder));
    }
    // Beside a base with a schedule of its own, which is not this file's, and one without.
    for base in [Path::new(crate::fixtures::MODEL), with_words.path()] {
        for (file, dynamic) in [("schnell.safetensors", false), ("bfl/flux.safetensors", true)] {
            let model = model(file, Chosen { base: Some(base.into()), ..chosen() }).unwrap();
            assert_eq!(engine::scheduler::Scheduler::load(&model).unwrap().use_dynamic_shifting, dynamic, "{file}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The ids that the reference was given.
fn clip_ids() -> Vec<Vec<u32>> {
    let mut ids = vec![4072u32; 77];
    ids[..4].copy_from_slice(&[4071, 320, 1125, 539]);
    vec![ids]
}

const T5_IDS: [u32; 8] = [37, 1021, 5, 1, 0, 0, 0, 0];

#[test]
fn text_encoders_of_every_form() {
    let t5 = |t5: &str| Chosen { t5: Some(path(t5)), ..chosen() };
    for (name, model) in [
        ("bfl", model("bfl/flux.safetensors", chosen()).unwrap()),
        ("all_in_one", model("all_in_one.safetensors", Chosen { base: chosen().base, ..Chosen::default() }).unwrap()),
        ("t5-Q8_0", model("bfl/flux.safetensors", t5("models/gguf/t5-Q8_0.gguf")).unwrap()),
    ] {
        let expected = tiny::file(&format!("models/{name}.expected.safetensors"));
        let encoder = TextEncoder::open(&model, &Device::Cpu, [Precision::F32; 2]).unwrap();
        let hidden = encoder.t5.get().unwrap().forward(&[T5_IDS.to_vec()]).unwrap();
        assert_near(name, &hidden, &expected.get("hidden"), 1e-4);
        if name != "t5-Q8_0" {
            let pooled = encoder.clip.get().unwrap().forward(&clip_ids(), &AdapterSet::base()).unwrap().pooled;
            assert_near(name, &pooled, &expected.get("pooled"), 1e-4);
        }
    }
    // Folders of transformers, as bitsandbytes made them.
    for folder in ["bnb_nf4", "bnb_int8"] {
        let whole = tempfile::tempdir().unwrap();
        copy(&path(&format!("models/{folder}/text_encoder_2")), &whole.path().join("text_encoder_2"));
        fs::copy(path("models/bfl/flux.safetensors"), whole.path().join("flux.safetensors")).unwrap();
        let model = Model::open(whole.path(), &Chosen { t5: None, ..chosen() }).unwrap();
        let encoder = TextEncoder::open(&model, &Device::Cpu, [Precision::F32; 2]).unwrap();
        let hidden = encoder.t5.get().unwrap().forward(&[T5_IDS.to_vec()]).unwrap();
        let expected = tiny::file(&format!("models/{folder}.expected.safetensors")).get("hidden");
        assert_near(folder, &hidden, &expected, 1e-4);
    }
}

#[test]
fn vaes_of_every_form() {
    for (name, model) in
        [("bfl", model("bfl/flux.safetensors", chosen()).unwrap()), ("all_in_one", model("all_in_one.safetensors", chosen()).unwrap())]
    {
        let expected = tiny::file(&format!("models/{name}.expected.safetensors"));
        let vae = Vae::open(&model, &Device::Cpu, Precision::F32).unwrap();
        assert_near(name, &vae.decode_raw(&expected.get("latents")).unwrap(), &expected.get("picture"), 2e-4);
    }
}

/// One tensor of each of GGUF's types, as gguf-py reads it.
#[test]
fn blocks_are_dequantised_as_ggml_does() {
    let file = TensorFile::open(&path("models/gguf/types.gguf")).unwrap();
    assert_eq!(file.entries().len(), 13);
    let tensors = engine::checkpoint::Tensors::open(&[path("models/gguf/types.gguf")], None).unwrap();
    for (name, expected) in tiny::file("models/types.expected.safetensors").under("") {
        let ours = tensors.take(name, expected.dims(), &Device::Cpu).unwrap();
        assert_near(name, &ours, expected, 1e-6);
    }
}

/// In whatever precision the engine then holds it.
#[test]
fn a_quantised_file_is_held_in_any_precision() {
    let model = model("gguf/flux-Q8_0.gguf", chosen()).unwrap();
    let expected = tiny::file("models/flux-Q8_0.expected.safetensors").get("velocity");
    for (precision, most) in [(Precision::Bf16, 0.02), (Precision::Fp8, 0.08), (Precision::Nf4, 0.25)] {
        let transformer = Transformer::from_checkpoint(&model.part("transformer", &Device::Cpu).unwrap(), precision).unwrap();
        assert_near(precision.name(), &tiny::velocity(&transformer, &AdapterSet::base()), &expected, most);
    }
}

#[test]
fn files_beside_are_found_by_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let put = |from: &str, to: &str| fs::copy(path(&format!("models/{from}")), folder.path().join(to)).unwrap();
    put("bfl/flux.safetensors", "a.safetensors");
    put("bfl/ae.safetensors", "b.safetensors");
    put("bfl/clip_l.safetensors", "c.safetensors");
    let base = Chosen { base: None, ..Chosen::default() };
    let sentence = refusal(Model::open(&folder.path().join("a.safetensors"), &base));
    assert!(sentence.contains("T5 is missing") && sentence.contains("--t5"), "{sentence}");
    fs::write(folder.path().join("t5xxl.safetensors"), b"cut off").unwrap();
    let sentence = refusal(Model::open(&folder.path().join("a.safetensors"), &base));
    assert!(sentence.contains("T5 is missing") && sentence.contains("t5xxl.safetensors: truncated"), "{sentence}");
    fs::remove_file(folder.path().join("t5xxl.safetensors")).unwrap();
    put("gguf/t5-Q8_0.gguf", "d.gguf");
    for words in ["tokenizer", "tokenizer_2"] {
        copy(&Path::new(crate::fixtures::MODEL).join(words), &folder.path().join(words));
    }
    for open in [folder.path().to_owned(), folder.path().join("a.safetensors")] {
        let model = Model::open(&open, &base).unwrap();
        let encoder = TextEncoder::open(&model, &Device::Cpu, [Precision::F32; 2]).unwrap();
        let conditioning = encoder.encode(&["a lake"], 8).unwrap();
        assert!(values(&conditioning.tokens).iter().all(|x| x.is_finite()));
    }
    put("bfl/t5xxl.safetensors", "e.safetensors");
    let sentence = refusal(Model::open(&folder.path().join("a.safetensors"), &base));
    assert!(sentence.contains("both") && sentence.contains("choose one with --t5"), "{sentence}");
    let sentence = refusal(Model::open(&folder.path().join("b.safetensors"), &base));
    assert!(sentence.contains("a VAE is in it, but no transformer"), "{sentence}");
    let wide = Chosen { clip: Some(Path::new(crate::fixtures::MODEL).join("text_encoder/model.safetensors")), ..chosen() };
    let sentence = refusal(Model::open(&folder.path().join("a.safetensors"), &wide));
    assert!(sentence.contains("CLIP is 128 wide") && sentence.contains("the transformer reads 64"), "{sentence}");
    let mixed = Chosen { clip: Some(path("models/bfl/t5xxl.safetensors")), ..base };
    let sentence = refusal(Model::open(&folder.path().join("a.safetensors"), &mixed));
    assert!(sentence.contains("CLIP is expected here, but T5 is in it"), "{sentence}");
}

/// A sentence that names the file and what was expected.
#[test]
fn damaged_and_foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flux1-dev.safetensors");
    let load = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        Model::open(&file, &chosen())
            .and_then(|model| Transformer::from_checkpoint(&model.part("transformer", &Device::Cpu)?, Precision::F32))
    };
    let open = |bytes: &[u8]| {
        let sentence = refusal(load(bytes));
        assert!(sentence.contains("flux1-dev.safetensors"), "{sentence}");
        sentence
    };
    let whole = fs::read(path("models/bfl/flux.safetensors")).unwrap();
    assert!(open(&whole[..whole.len() - 5]).contains("truncated"));
    assert!(open(&whole[..40]).contains("truncated"));
    assert!(open(b"").contains("truncated") || open(b"").contains("cannot be read"));
    assert!(open(b"<!doctype html><html>").contains("page of the site"));
    assert!(open(b"version https://git-lfs.github.com/spec/v1\n").contains("pointer"));
    assert!(open(b"PK\x03\x04model").contains("pickle"));
    let gguf = fs::read(path("models/gguf/flux-Q8_0.gguf")).unwrap();
    assert!(open(&gguf[..gguf.len() - 5]).contains("truncated"));
    assert!(open(&gguf[..30]).contains("truncated"));
    let tensors = |keys: &[&str]| {
        let ones = Tensor::ones((2, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        safetensors::serialize(keys.iter().map(|key| (*key, &ones)), None).unwrap()
    };
    assert!(open(&tensors(&["model.diffusion_model.input_blocks.0.0.weight"])).contains("Stable Diffusion 1, 2 or XL"));
    assert!(open(&tensors(&["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"])).contains("--adapter"));
    assert!(open(&tensors(&["something.weight"])).contains("no part of FLUX.1"));
    let sentence = open(&tensors(&["double_blocks.0.img_attn.qkv.weight"]));
    assert!(sentence.contains("img_in.weight is missing"), "{sentence}");
    assert!(open(&without(&whole, "single_blocks.0.linear1.weight")).contains("single_blocks.0.linear1.weight"));
    // A block that is missing altogether, before one that is not.
    let sentence = open(&with_one(&whole, "single_blocks.2.linear1.bias"));
    assert!(sentence.contains("tensor single_blocks.1.") && sentence.contains("is missing"), "{sentence}");
    // A length of the header that looks like a pickle, or like a page.
    for start in [[0x80, 2], [b'<', 0]] {
        assert!(load(&padded_to(&whole, u16::from_le_bytes(start))).is_ok(), "{start:?}");
    }
    let nf4 = fs::read(path("models/nf4_file.safetensors")).unwrap();
    let key = "model.diffusion_model.double_blocks.0.img_mlp.0.weight.quant_state.bitsandbytes__nf4";
    assert!(open(&without(&nf4, key)).contains("no state of bitsandbytes' NF4 lies beside it"));
    let key = "model.diffusion_model.double_blocks.0.img_mlp.0.weight.absmax";
    assert!(open(&without(&nf4, key)).contains("has no double_blocks.0.img_mlp.0.weight.absmax beside it"));
}

/// The same file with one number more.
fn with_one(file: &[u8], key: &str) -> Vec<u8> {
    let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
    let one = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
    safetensors::serialize(tensors.iter().chain([(key, one)]), None).unwrap()
}

/// The same file with spaces after its header, until its length ends in these two bytes.
fn padded_to(file: &[u8], end: u16) -> Vec<u8> {
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let padded = header.len() + usize::from(end.wrapping_sub(header.len() as u16));
    let spaces = vec![b' '; padded - header.len()];
    [&(padded as u64).to_le_bytes(), header, &spaces, data].concat()
}

/// The same file without one tensor.
fn without(file: &[u8], key: &str) -> Vec<u8> {
    let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
    assert!(tensors.names().contains(&key), "{key}");
    safetensors::serialize(tensors.iter().filter(|(name, _)| *name != key), None).unwrap()
}

#[test]
fn contents_are_told() {
    let parts = |file: &str| contents::parts(&TensorFile::open(&path(&format!("models/{file}"))).unwrap()).into_keys().collect::<Vec<_>>();
    assert_eq!(parts("all_in_one.safetensors"), ["text_encoder", "text_encoder_2", "transformer", "vae"]);
    assert_eq!(parts("gguf/t5-Q8_0.gguf"), ["text_encoder_2"]);
    assert_eq!(parts("nf4_file.safetensors"), ["transformer"]);
    assert!(Assembly::find(&path("models/bfl"), &Chosen::default()).is_err(), "no tokenizers");
}
