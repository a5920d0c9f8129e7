//! Trainings: from a style set to an adapter, stopped and resumed, beside pictures.

use super::studio::{Studio, assert_sentence, small_picture, small_training};
use app::api::*;
use atelier::store::Owner;
use futures::StreamExt;

#[tokio::test(flavor = "multi_thread")]
async fn a_style_set_becomes_an_adapter_that_draws() {
    let studio = Studio::open().await;
    let set = studio.style_set().await;
    let prediction = studio.api().predict(small_training(&set)).await.unwrap();
    assert!(prediction.seconds > 0.0 && prediction.peak_mib > 0.0);
    assert!(prediction.warnings.iter().any(|warning| warning.contains("fewer than 5")), "{:?}", prediction.warnings);

    let run = studio.api().train(small_training(&set)).await.unwrap();
    let events: Vec<Event> = studio.events(&run).await.collect().await;
    let losses: Vec<u32> =
        events.iter().filter_map(|event| if let Event::Loss { point } = event { Some(point.step) } else { None }).collect();
    assert_eq!(losses, [1, 2, 3, 4]);
    assert!(matches!(events.last(), Some(Event::Snapshot { run }) if run.state == RunState::Done), "{:?}", events.last());

    let detail = studio.api().training(run.clone()).await.unwrap();
    assert_eq!((detail.losses.len(), detail.samples.len(), detail.last_checkpoint), (4, 2, Some(4)));
    assert_eq!(detail.dataset_name, "Mucha");
    studio.get(&detail.samples[0].url).await.ok();
    let adapter = studio.api().adapter(detail.adapter.unwrap()).await.unwrap();
    assert_eq!((adapter.name.as_str(), adapter.rank, adapter.steps, adapter.training), ("Small Mucha", 2, 4, false));
    assert_eq!(adapter.trigger.as_deref(), Some("art nouveau panel"));
    assert_eq!(adapter.sample_urls, [detail.samples[1].url.clone()]);
    let file = studio.get(&format!("/files/adapters/{}.safetensors", adapter.id)).await.ok();
    assert_eq!(file.headers["content-disposition"], "attachment; filename=\"small-mucha.safetensors\"");
    assert_eq!(file.body.len() as u64, adapter.bytes);
    let recipe: serde_json::Value = studio.get(&format!("/files/adapters/{}.json", adapter.id)).await.ok().json();
    assert_eq!((&recipe["name"], &recipe["recipe"]["rank"]), (&"Small Mucha".into(), &2.into()));

    let used = AdapterUse { id: adapter.id.clone(), name: String::new(), scale: 1.0 };
    let mut pictures = Vec::new();
    for adapters in [vec![], vec![used]] {
        let run = studio.api().generate(GenerateRequest { adapters, ..small_picture() }).await.unwrap();
        let run = studio.until_ended(&run).await;
        pictures.push(studio.api().picture(run.pictures[0].clone()).await.unwrap());
    }
    assert_eq!(pictures[1].adapters[0].name, "Small Mucha");
    let filter = PictureFilter { adapter: Some(adapter.id.clone()), ..PictureFilter::default() };
    assert_eq!(studio.api().pictures(filter).await.unwrap(), [pictures[1].clone()]);

    studio.api().rename_adapter(adapter.id.clone(), " Panel ".into()).await.unwrap();
    assert_eq!(studio.api().adapter(adapter.id.clone()).await.unwrap().name, "Panel");
    studio.api().delete_adapter(adapter.id.clone()).await.unwrap();
    studio.get(&format!("/files/adapters/{}.safetensors", adapter.id)).await.refused(404, "no adapter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_that_made_nothing_leaves_nothing() {
    let studio = Studio::open().await;
    let set = studio.style_set().await;
    let owner = Owner::local();
    let store = &studio.state.jobs.store;
    let before = store.bytes_of(&owner).await.unwrap();
    let first = studio.api().train(small_training(&set)).await.unwrap();
    let waiting = studio.api().train(small_training(&set)).await.unwrap();
    assert!(store.bytes_of(&owner).await.unwrap() > before, "what it took along counts");
    for run in [&waiting, &first] {
        studio.api().stop(run.clone()).await.unwrap();
        studio.until_ended(run).await;
    }
    for run in [&first, &waiting] {
        let kept = studio.api().training(run.clone()).await.unwrap().adapter;
        assert!(kept.is_some() || !store.run_folder(run).exists(), "{run}");
    }
    assert!(!store.run_folder(&waiting).exists());
    assert_sentence(&studio.api().resume(waiting).await.unwrap_err().message, "start a new training");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_is_used_while_it_runs_stopped_and_resumed() {
    let studio = Studio::open().await;
    let set = studio.style_set().await;
    let mut request = small_training(&set);
    request.settings.steps = Some(2000);
    let run = studio.api().train(request).await.unwrap();
    studio.until(&run, |run| run.progress.phase == "training" && run.progress.done >= 3).await;
    let adapter = studio.api().adapters().await.unwrap().remove(0);
    assert!(adapter.training && adapter.steps >= 2);
    assert_eq!(studio.api().delete_adapter(adapter.id.clone()).await.unwrap_err().status, 409);
    let used = AdapterUse { id: adapter.id.clone(), name: String::new(), scale: 1.0 };
    let picture = studio.api().generate(GenerateRequest { adapters: vec![used], ..small_picture() }).await.unwrap();
    assert_eq!(studio.until_ended(&picture).await.state, RunState::Done);
    assert!(studio.api().run(run.clone()).await.unwrap().state.is_active(), "the training goes on beside the picture");

    studio.api().stop(run.clone()).await.unwrap();
    let stopped = studio.until_ended(&run).await;
    assert_eq!(stopped.state, RunState::Stopped);
    let checkpoint = studio.api().training(run.clone()).await.unwrap().last_checkpoint.unwrap();
    assert_eq!(studio.api().adapter(adapter.id.clone()).await.unwrap().steps, checkpoint, "the last step was kept");

    // The set may change or go: the run has its own copy.
    studio.api().delete_dataset(set.id).await.unwrap();
    studio.api().resume(run.clone()).await.unwrap();
    assert_eq!(studio.api().resume(run.clone()).await.unwrap_err().status, 409);
    studio.until(&run, |run| run.progress.done > checkpoint + 1).await;
    studio.api().stop(run.clone()).await.unwrap();
    studio.until_ended(&run).await;
    let steps: Vec<u32> = studio.api().training(run).await.unwrap().losses.iter().map(|point| point.step).collect();
    assert_eq!(steps, (1..=steps.len() as u32).collect::<Vec<_>>(), "no step is missing or told twice");
}

/// By the order of events, whatever the machine's speed: the micro-step in progress, and one more.
#[tokio::test(flavor = "multi_thread")]
async fn a_picture_starts_within_two_training_steps() {
    let studio = Studio::open().await;
    let set = studio.style_set().await;
    let mut request = small_training(&set);
    request.settings =
        RecipeSettings { steps: Some(2000), checkpoint_every: Some(0), resolution: Some("192x192".into()), ..request.settings };
    let training = studio.api().train(request).await.unwrap();
    let losses = studio.events(&training).await;
    studio.until(&training, |run| run.progress.done >= 2).await;
    let picture = studio.api().generate(small_picture()).await.unwrap();
    let mut both = futures::stream::select(losses, studio.events(&picture).await);
    let (mut asked, mut steps) = (false, 0);
    loop {
        match both.next().await.unwrap() {
            Event::Snapshot { run } if run.id == picture => asked |= run.progress.phase == "drawing",
            Event::Loss { .. } if asked => steps += 1,
            Event::Preview { .. } => break,
            _ => {}
        }
    }
    assert!(steps <= 2, "{steps} training steps passed before the picture's first");
    studio.api().stop(training.clone()).await.unwrap();
    studio.until_ended(&training).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_trained_is_refused_and_leaves_nothing() {
    let studio = Studio::open().await;
    let set = studio.style_set().await;
    type Spoil = fn(&mut TrainRequest);
    let cases: [(Spoil, &str); 7] = [
        (|r| r.settings.rank = Some(0), "rank"),
        (|r| r.settings.steps = Some(0), "1 to 20000"),
        (|r| r.settings.learning_rate = Some(f64::NAN), "number"),
        (|r| r.settings.resolution = Some("65x64".into()), "multiples of 16"),
        (|r| r.settings.targets = Some("(".into()), "targets"),
        (|r| r.recipe = "../../etc/passwd".into(), "no recipe"),
        (|r| r.name = " ".into(), "name"),
    ];
    for (spoil, words) in cases {
        let mut request = small_training(&set);
        spoil(&mut request);
        let error = studio.api().train(request).await.unwrap_err();
        assert_eq!(error.status, 422, "{}", error.message);
        assert_sentence(&error.message, words);
    }
    for item in &set.items {
        assert_eq!(studio.api().set_caption(set.id.clone(), item.id.clone(), "  ".into()).await.unwrap_err().status, 422);
        studio.api().remove_item(set.id.clone(), item.id.clone()).await.unwrap();
    }
    assert_sentence(&studio.api().train(small_training(&set)).await.unwrap_err().message, "no pictures");
    assert!(studio.api().runs(false, 10).await.unwrap().is_empty());
}
