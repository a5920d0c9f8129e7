//! Pictures and comparisons: asked for, watched, kept, deleted.

use super::studio::{Studio, assert_sentence, small_picture, small_training};
use app::api::*;
use atelier::store::png;
use futures::StreamExt;

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_watched_while_it_is_drawn_and_kept_with_its_recipe() {
    let studio = Studio::open().await;
    let run = studio.api().generate(GenerateRequest { count: 2, ..small_picture() }).await.unwrap();
    let events: Vec<Event> = studio.events(&run).await.collect().await;
    assert!(matches!(&events[0], Event::Snapshot { run } if run.state.is_active()), "{:?}", events[0]);
    let Some(Event::Snapshot { run: last }) = events.last() else { panic!("{:?}", events.last()) };
    assert_eq!((last.state, last.pictures.len(), last.progress.done), (RunState::Done, 2, 6));
    let previews = events.iter().filter_map(|event| match event {
        Event::Preview { index, data_url, step, .. } => Some((*index, *step, data_url.len())),
        _ => None,
    });
    let previews = previews.collect::<Vec<_>>();
    assert_eq!(
        previews.iter().map(|(index, step, _)| (*index, *step)).collect::<Vec<_>>(),
        [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]
    );
    assert!(previews.iter().all(|(_, _, bytes)| *bytes < 8000));

    let pictures = studio.api().pictures(PictureFilter::default()).await.unwrap();
    assert_eq!(pictures.iter().map(|picture| picture.seed).collect::<Vec<_>>(), [8, 7]);
    let file = studio.get(&pictures[1].url()).await.ok();
    let recipe = png::recipe(&file.body).unwrap();
    assert_eq!((&recipe["prompt"], &recipe["seed"], &recipe["steps"]), (&"a lake at dusk".into(), &7.into(), &3.into()));
    assert_eq!(image::load_from_memory(&file.body).unwrap().to_rgb8().dimensions(), (64, 64));
    let download = studio.get(&format!("{}?download", pictures[1].url())).await.ok();
    assert_eq!(download.headers["content-disposition"], "attachment; filename=\"a-lake-at-dusk-7.png\"");
    assert_eq!(studio.get(&pictures[1].thumb_url()).await.ok().headers["content-type"], "image/jpeg");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_is_the_same_picture_and_a_deleted_one_is_gone() {
    let studio = Studio::open().await;
    let mut files = Vec::new();
    for _ in 0..2 {
        let run = studio.api().generate(small_picture()).await.unwrap();
        let run = studio.until_ended(&run).await;
        files.push(studio.get(&format!("/files/pictures/{}.png", run.pictures[0])).await.ok().body);
    }
    let pixels = |file: &[u8]| image::load_from_memory(file).unwrap().to_rgb8();
    assert_eq!(pixels(&files[0]), pixels(&files[1]));

    let all = studio.api().pictures(PictureFilter::default()).await.unwrap();
    let found = |search: &str| PictureFilter { search: Some(search.into()), ..PictureFilter::default() };
    assert_eq!(studio.api().pictures(found("DUSK lake")).await.unwrap().len(), 2);
    assert_eq!(studio.api().pictures(found("dusk harbour")).await.unwrap().len(), 0);
    let page = PictureFilter { before: Some(all[0].id.clone()), ..PictureFilter::default() };
    assert_eq!(studio.api().pictures(page).await.unwrap(), all[1..]);

    studio.api().delete_picture(all[0].id.clone()).await.unwrap();
    studio.get(&all[0].url()).await.refused(404, "no picture");
    assert_eq!(studio.api().delete_picture(all[0].id.clone()).await.unwrap_err().status, 404);
    assert!(!studio.state.jobs.store.blobs.folder("pictures").join(format!("{}.png", all[0].id)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_keeps_what_it_finished() {
    let studio = Studio::open().await;
    let long = GenerateRequest { steps: 100, count: 4, width: 128, height: 128, ..small_picture() };
    let (first, waiting) = (studio.api().generate(long.clone()).await.unwrap(), studio.api().generate(long).await.unwrap());
    studio.until(&first, |run| run.progress.done > 2).await;
    studio.api().stop(waiting.clone()).await.unwrap();
    assert_eq!(studio.api().run(waiting.clone()).await.unwrap().state, RunState::Stopped);
    studio.api().stop(first.clone()).await.unwrap();
    let stopped = studio.until_ended(&first).await;
    assert_eq!(stopped.state, RunState::Stopped);
    assert!(stopped.progress.done < 400);
    // Both are over: their events are one last word.
    let events: Vec<Event> = studio.events(&waiting).await.collect().await;
    assert!(matches!(events.as_slice(), [Event::Snapshot { run }] if run.state == RunState::Stopped), "{events:?}");
    assert_eq!(studio.api().resume(first).await.unwrap_err().status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn base_and_adapter_are_compared_on_the_same_seeds_and_voted_on() {
    let studio = Studio::open().await;
    let set = studio.style_set().await;
    let training = studio.api().train(small_training(&set)).await.unwrap();
    assert_eq!(studio.until_ended(&training).await.state, RunState::Done);
    let adapter = studio.api().adapters().await.unwrap().remove(0);
    let GenerateRequest { prompt, width, height, steps, guidance, seed, .. } = small_picture();
    let request =
        CompareRequest { prompt, adapter: adapter.id.clone(), scales: vec![0.5, 1.0], width, height, steps, guidance, seed, count: 2 };
    let id = studio.api().compare(request).await.unwrap();
    let run = studio.api().comparison(id.clone()).await.unwrap().run.id;
    assert_eq!(studio.until_ended(&run).await.state, RunState::Done);
    let comparison = studio.api().comparison(id.clone()).await.unwrap();
    let cells: Vec<_> = comparison.cells.iter().map(|cell| (cell.seed, cell.scale, cell.picture.is_some())).collect();
    assert_eq!(cells, [(7, 0.0, true), (7, 0.5, true), (7, 1.0, true), (8, 0.0, true), (8, 0.5, true), (8, 1.0, true)]);
    let base = studio.api().picture(comparison.cells[0].picture.clone().unwrap()).await.unwrap();
    assert!(base.adapters.is_empty());

    let vote = |seed, adapter_won| Vote { comparison: id.clone(), seed, scale: 1.0, adapter_won };
    studio.api().vote(vote(7, Some(false))).await.unwrap();
    studio.api().vote(vote(7, Some(true))).await.unwrap();
    let tally = studio.api().vote(vote(8, None)).await.unwrap();
    assert_eq!((tally.wins, tally.losses, tally.ties, tally.win_rate), (1, 0, 1, Some(0.75)));
    assert_eq!(studio.api().vote(vote(9, None)).await.unwrap_err().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_drawn_is_refused_and_leaves_nothing() {
    let studio = Studio::open().await;
    let refused = [
        (GenerateRequest { prompt: "x".repeat(100_000), ..small_picture() }, "4000"),
        (GenerateRequest { width: 100, ..small_picture() }, "multiples of 16"),
        (GenerateRequest { steps: 0, ..small_picture() }, "1 to 100"),
        (GenerateRequest { guidance: f64::NAN, ..small_picture() }, "0 to 20"),
    ];
    for (request, words) in refused {
        let error = studio.api().generate(request).await.unwrap_err();
        assert_eq!(error.status, 422);
        assert_sentence(&error.message, words);
    }
    let unknown = AdapterUse { id: "nobody".to_owned().into(), name: String::new(), scale: 1.0 };
    assert_eq!(studio.api().generate(GenerateRequest { adapters: vec![unknown], ..small_picture() }).await.unwrap_err().status, 404);
    assert!(studio.api().runs(false, 10).await.unwrap().is_empty());
}
