//! Whole runs with flux-mini on tiny pictures: pairing, resume, outputs, numbers of the reference.

use engine::{Adapter, Device, Pipeline, Size};
use image::{Rgb, RgbImage};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use train::batch::Batches;
use train::cache::Cache;
use train::dataset::Limits;
use train::recipe::{OptimizerKind, Policy, Schedule, TimestepSampling, Weighting};
use train::{Dataset, Event, Recipe, Trainer};

static PIPELINE: LazyLock<Pipeline> =
    LazyLock::new(|| Pipeline::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/flux-mini")), &Device::Cpu).unwrap());

/// Four pictures that no one could confuse, each with a caption of its own.
fn dataset(home: &Path) -> Dataset {
    let folder = home.join("set");
    fs::create_dir_all(&folder).unwrap();
    let colours = [("red", [220, 30, 30]), ("green", [20, 180, 60]), ("blue", [30, 40, 210]), ("white", [240, 240, 240])];
    for (index, (name, colour)) in colours.into_iter().enumerate() {
        let stripes = |x: u32, y: u32| if (x / 8 + y / 16) as usize % (index + 2) == 0 { Rgb([255 - colour[0]; 3]) } else { Rgb(colour) };
        RgbImage::from_fn(96, 80, stripes).save(folder.join(format!("{name}.png"))).unwrap();
        fs::write(folder.join(format!("{name}.txt")), format!("a {name} flag in the wind")).unwrap();
    }
    Dataset::open(&folder, Some("ink"), Limits::default(), home).unwrap()
}

fn recipe() -> Recipe {
    Recipe {
        name: "test".into(),
        rank: 2,
        alpha: 2.0,
        steps: 6,
        targets: "attention".into(),
        learning_rate: 1e-2,
        schedule: Schedule::Constant,
        resolution: Size::new(64, 64).unwrap(),
        buckets: false,
        max_sequence_length: 16,
        checkpoint_every: 2,
        sample_steps: 2,
        ..Recipe::default()
    }
}

/// Everything at once: what resume must not disturb.
fn rich_recipe() -> Recipe {
    Recipe {
        batch_size: 2,
        accumulate: 2,
        caption_dropout: 0.3,
        flip: true,
        random_crop: true,
        buckets: true,
        schedule: Schedule::Cosine,
        warmup_steps: 2,
        optimizer: OptimizerKind::AdamW8bit,
        timestep_sampling: TimestepSampling::Shifted,
        weighting: Weighting::Cosmap,
        gradient_checkpointing: Policy::Full,
        targets: "all-linear".into(),
        sample_prompts: vec!["a lake, ink".into()],
        ..recipe()
    }
}

fn finish(mut trainer: Trainer) -> Vec<Event> {
    let mut events = Vec::new();
    while !trainer.is_finished() {
        events.push(trainer.advance(&PIPELINE).unwrap());
    }
    events
}

fn advance_to(trainer: &mut Trainer, step: usize) {
    while trainer.step() < step {
        trainer.advance(&PIPELINE).unwrap();
    }
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("pytorch_lora_weights.safetensors")).unwrap()
}

fn floats(tensor: &engine::Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = |pairs: &mut dyn Iterator<Item = f32>| pairs.map(|x| f64::from(x).powi(2)).sum::<f64>();
    (squares(&mut a.iter().zip(b).map(|(a, b)| a - b)) / squares(&mut b.iter().copied())).sqrt()
}

/// A cache that paired latents and captions by position would mix them here: it is filled in one order and read in another.
#[test]
fn latents_and_captions_are_paired_by_content() {
    let home = tempfile::tempdir().unwrap();
    let (recipe, mut dataset) = (recipe(), dataset(home.path()));
    let folder = home.path().join("cache");
    let fill = |dataset: &Dataset| {
        let mut cache = Cache::open(&PIPELINE, &recipe, &folder).unwrap();
        let batches = Batches::new(&recipe, dataset);
        for (index, item) in dataset.items.iter().enumerate() {
            cache.prepare(&PIPELINE, dataset, item, batches.frames(index)).unwrap();
        }
        cache.save().unwrap();
        (cache, batches)
    };
    fill(&dataset);
    dataset.items.reverse();
    dataset.items.swap(0, 2);
    let written = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let latents: Vec<_> = fs::read_dir(folder.join("latents")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let times: Vec<_> = latents.iter().map(|path| written(path)).collect();
    let (cache, batches) = fill(&dataset);
    assert_eq!(times, latents.iter().map(|path| written(path)).collect::<Vec<_>>(), "nothing was encoded twice");

    for (index, item) in dataset.items.iter().enumerate() {
        let frame = batches.frames(index)[0];
        let picture = frame.cut(&dataset.picture(item, Limits::default()).unwrap()).unwrap();
        let fresh = PIPELINE.vae.encode(&train::buckets::to_tensor(&picture, &Device::Cpu).unwrap()).unwrap();
        assert_eq!(floats(&cache.posterior(item, &frame).mean), floats(&fresh.mean), "{}", item.file_name);
        let heard = PIPELINE.text_encoder.encode(&[&item.caption], recipe.max_sequence_length).unwrap();
        assert_eq!(floats(&cache.conditioning(item).tokens), floats(&heard.tokens), "{}", item.file_name);
        assert_eq!(floats(&cache.conditioning(item).pooled), floats(&heard.pooled), "{}", item.file_name);
    }
    // And so is what a step is given: x_t and target give the picture back, to be told by the colour it decodes to.
    for step in 1..=8 {
        let item = &dataset.items[batches.items(&recipe, step, 0)[0]];
        let batch = batches.draw(&PIPELINE, &recipe, &dataset, &cache, step, 0).unwrap();
        assert_eq!(floats(&batch.step().conditioning.tokens), floats(&cache.conditioning(item).tokens), "step {step}");
        let sigma = batch.step().sigma[0];
        let clean = (&batch.example.noisy.0 - (&batch.example.target * sigma).unwrap()).unwrap();
        let clean = engine::latents::PackedLatents(clean).unpack(recipe.resolution).unwrap();
        let mean = PIPELINE.vae.normalise(&cache.posterior(item, &batches.frames(batches.items(&recipe, step, 0)[0])[0]).mean).unwrap();
        let own = distance(&floats(&clean.0), &floats(&mean.0));
        for (index, other) in dataset.items.iter().enumerate().filter(|(_, other)| other.sha256 != item.sha256) {
            let other = PIPELINE.vae.normalise(&cache.posterior(other, &batches.frames(index)[0]).mean).unwrap();
            assert!(own < distance(&floats(&clean.0), &floats(&other.0)), "step {step}");
        }
    }
    let audit = cache.audit(&dataset).unwrap().to_string();
    assert!(
        audit.lines().any(|line| line.starts_with("red.png") && line.ends_with("a red flag in the wind, ink") && line.contains("64x64")),
        "{audit}"
    );
}

#[test]
fn a_damaged_cache_entry_is_made_again() {
    let home = tempfile::tempdir().unwrap();
    let run = home.path().join("run");
    let straight = {
        finish(Trainer::start(&PIPELINE, recipe(), dataset(home.path()), &run).unwrap());
        weights(&run)
    };
    let other = home.path().join("other");
    let mut trainer = Trainer::start(&PIPELINE, recipe(), dataset(home.path()), &other).unwrap();
    advance_to(&mut trainer, 1);
    drop(trainer);
    for entry in fs::read_dir(other.join("cache/latents")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 9;
        bytes[at] ^= 0x40;
        fs::write(path, bytes).unwrap();
    }
    fs::write(other.join("cache/embeddings.parquet"), "PAR1 nonsense PAR1").unwrap();
    finish(Trainer::resume(&PIPELINE, dataset(home.path()), &other).unwrap());
    assert_eq!(tensors(&other), tensors(&run));
    assert_eq!(straight, weights(&run));
}

/// Names and numbers of a finished adapter.
fn tensors(run: &Path) -> Vec<(String, Vec<f32>, Vec<f32>)> {
    let adapter = Adapter::load(&run.join("pytorch_lora_weights.safetensors"), &Device::Cpu).unwrap();
    let pair = |delta: &engine::Delta| delta.pair().unwrap().clone();
    adapter.modules.iter().map(|(path, delta)| (path.clone(), floats(&pair(delta).a), floats(&pair(delta).b))).collect()
}

#[test]
fn a_resumed_run_ends_in_the_same_bytes() {
    let home = tempfile::tempdir().unwrap();
    let straight = home.path().join("straight/run");
    finish(Trainer::start(&PIPELINE, rich_recipe(), dataset(home.path()), &straight).unwrap());

    let broken = home.path().join("broken/run");
    let mut trainer = Trainer::start(&PIPELINE, rich_recipe(), dataset(home.path()), &broken).unwrap();
    advance_to(&mut trainer, 3);
    trainer.advance(&PIPELINE).unwrap();
    // Killed in the middle of step 4, with a checkpoint half written and the newest one damaged.
    drop(trainer);
    fs::create_dir_all(broken.join("checkpoints/.writing-x")).unwrap();
    fs::create_dir_all(broken.join("checkpoints/step-000003")).unwrap();
    fs::write(broken.join("checkpoints/step-000003/state.json"), "{").unwrap();
    let trainer = Trainer::resume(&PIPELINE, dataset(home.path()), &broken).unwrap();
    assert_eq!((trainer.step(), trainer.losses().len()), (2, 2));
    finish(trainer);
    assert_eq!(tensors(&broken), tensors(&straight));
    assert_eq!(weights(&broken), weights(&straight));

    // Stopped out of turn, between two checkpoints.
    let stopped = home.path().join("stopped/run");
    let mut trainer = Trainer::start(&PIPELINE, rich_recipe(), dataset(home.path()), &stopped).unwrap();
    advance_to(&mut trainer, 5);
    assert!(matches!(trainer.checkpoint().unwrap(), Event::Checkpoint { step: 5, .. }));
    drop(trainer);
    let trainer = Trainer::resume(&PIPELINE, dataset(home.path()), &stopped).unwrap();
    assert_eq!(trainer.step(), 5);
    finish(trainer);
    assert_eq!(weights(&stopped), weights(&straight));
    // Two event files, one a start.
    let events =
        fs::read_dir(&stopped).unwrap().filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("events.out"));
    assert_eq!(events.count(), 2);
}

#[test]
fn a_run_leaves_what_it_promises() {
    let home = tempfile::tempdir().unwrap();
    let run = home.path().join("my style");
    let recipe = Recipe { sample_prompts: vec!["a lake, ink".into(), "a hill, ink".into()], keep_checkpoints: 2, alpha: 4.0, ..recipe() };
    let events = finish(Trainer::start(&PIPELINE, recipe, dataset(home.path()), &run).unwrap());
    let count = |of: fn(&Event) -> bool| events.iter().filter(|event| of(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Prepared { total: 4, .. })), 4);
    assert_eq!(count(|event| matches!(event, Event::Step { .. })), 6);
    assert_eq!(count(|event| matches!(event, Event::Checkpoint { .. })), 3);
    assert_eq!(count(|event| matches!(event, Event::Sample { .. })), 6);
    assert!(matches!(events.last(), Some(Event::Finished { .. })));
    assert_eq!(fs::read_dir(run.join("checkpoints")).unwrap().count(), 2, "older checkpoints are pruned");
    assert_eq!(fs::read_dir(run.join("samples")).unwrap().count(), 6);

    let adapter = Adapter::load(&run.join("pytorch_lora_weights.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(adapter.modules.len(), 3 * 4 + 6 * 3, "attention of three double and six single blocks");
    assert!(adapter.modules.values().all(|delta| delta.rank() == Some(2)));
    assert_eq!(adapter.metadata["modelspec.trigger_phrase"], "ink");
    let checkpoint = Adapter::load(&run.join("checkpoints/step-000006/pytorch_lora_weights.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(checkpoint.modules.len(), adapter.modules.len());

    let about: serde_json::Value = serde_json::from_slice(&fs::read(run.join("adapter.json")).unwrap()).unwrap();
    assert_eq!((&about["name"], &about["trigger"], &about["base_model"]), (&"my style".into(), &"ink".into(), &"flux-mini".into()));
    assert_eq!((&about["steps"], &about["recipe"]["rank"]), (&6.into(), &2.into()));
    assert_eq!(about["dataset"]["pictures"].as_array().unwrap().len(), 4);
    assert!(about["final_loss"].as_f64().is_some_and(f64::is_finite));
}

#[test]
fn a_finished_run_can_be_made_longer() {
    let home = tempfile::tempdir().unwrap();
    let (short, long) = (home.path().join("a/run"), home.path().join("b/run"));
    finish(Trainer::start(&PIPELINE, Recipe { steps: 4, ..recipe() }, dataset(home.path()), &short).unwrap());
    let mut trainer = Trainer::resume(&PIPELINE, dataset(home.path()), &short).unwrap();
    trainer.extend(6).unwrap();
    finish(trainer);
    finish(Trainer::start(&PIPELINE, recipe(), dataset(home.path()), &long).unwrap());
    assert_eq!(weights(&short), weights(&long));
}

#[test]
fn learns_what_it_is_shown() {
    let home = tempfile::tempdir().unwrap();
    let recipe = Recipe { steps: 40, learning_rate: 5e-3, rank: 8, alpha: 8.0, checkpoint_every: 0, batch_size: 2, ..recipe() };
    let mut trainer = Trainer::start(&PIPELINE, recipe, dataset(home.path()), &home.path().join("run")).unwrap();
    advance_to(&mut trainer, 40);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&trainer.losses()[..10]), mean(&trainer.losses()[30..]));
    assert!(last < 0.8 * first, "loss went from {first} to {last}");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let run = home.path().join("run");
    let refused = |result: train::Result<Trainer>| result.err().expect("refused").to_string();
    let start = |recipe: Recipe| Trainer::start(&PIPELINE, recipe, dataset(home.path()), &run);
    assert!(refused(start(Recipe { rank: 0, ..recipe() })).contains("rank 0"));
    assert!(refused(start(Recipe { targets: "to_queue".into(), ..recipe() })).contains("match no layer"));
    assert!(!run.exists(), "a refused start leaves nothing");

    let mut trainer = start(recipe()).unwrap();
    advance_to(&mut trainer, 2);
    trainer.checkpoint().unwrap();
    drop(trainer);
    assert!(refused(start(recipe())).contains("already holds a run"));
    let mut other = dataset(home.path());
    other.items[0].caption = "something else".into();
    assert!(refused(Trainer::resume(&PIPELINE, other, &run)).contains("the dataset is not the one"));
    let changed = fs::read_to_string(run.join("recipe.toml")).unwrap().replace("learning_rate = 0.01", "learning_rate = 0.02");
    fs::write(run.join("recipe.toml"), changed).unwrap();
    assert!(refused(Trainer::resume(&PIPELINE, dataset(home.path()), &run)).contains("the recipe is not the one"));
    assert!(refused(Trainer::resume(&PIPELINE, dataset(home.path()), &home.path().join("nothing"))).contains("no run"));
}

/// What is kept for the backward pass may change on the way; the run is the same one, and so is what comes of it, but for rounding.
#[test]
fn a_run_goes_on_under_another_policy() {
    let home = tempfile::tempdir().unwrap();
    let (straight, changed) = (home.path().join("a/run"), home.path().join("b/run"));
    let kept = |policy| Recipe { gradient_checkpointing: policy, ..recipe() };
    finish(Trainer::start(&PIPELINE, kept(Policy::Auto), dataset(home.path()), &straight).unwrap());
    let mut trainer = Trainer::start(&PIPELINE, kept(Policy::None), dataset(home.path()), &changed).unwrap();
    advance_to(&mut trainer, 3);
    trainer.checkpoint().unwrap();
    drop(trainer);
    Trainer::change_policy(&changed, Policy::Full).unwrap();
    let trainer = Trainer::resume(&PIPELINE, dataset(home.path()), &changed).unwrap();
    assert_eq!((trainer.step(), trainer.recipe().gradient_checkpointing), (3, Policy::Full));
    finish(trainer);
    for ((_, a, b), (_, other_a, other_b)) in tensors(&straight).iter().zip(tensors(&changed)) {
        assert!(distance(a, &other_a) < 1e-3 && distance(b, &other_b) < 1e-3);
    }
}

/// What is made ahead of a micro-step is made from what the micro-step draws.
#[test]
fn moments_are_those_of_the_batches() {
    let home = tempfile::tempdir().unwrap();
    let (recipe, dataset) = (rich_recipe(), dataset(home.path()));
    let mut cache = Cache::open(&PIPELINE, &recipe, &home.path().join("cache")).unwrap();
    let batches = Batches::new(&recipe, &dataset);
    for (index, item) in dataset.items.iter().enumerate() {
        cache.prepare(&PIPELINE, &dataset, item, batches.frames(index)).unwrap();
    }
    cache.prepare_nothing(&PIPELINE).unwrap();
    let moments = batches.moments(&PIPELINE, &recipe, &dataset, &cache, 3..7).unwrap();
    for (place, index) in (3..7).enumerate() {
        let batch = batches.draw(&PIPELINE, &recipe, &dataset, &cache, index / 2 + 1, index % 2).unwrap();
        assert_eq!(&moments.sigma[2 * place..][..2], batch.step().sigma, "micro-step {index}");
        assert_eq!(
            floats(&moments.pooled.narrow(0, 2 * place, 2).unwrap()),
            floats(&batch.step().conditioning.pooled),
            "micro-step {index}"
        );
    }
}
