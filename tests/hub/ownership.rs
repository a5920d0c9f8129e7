//! Whose work is whose: another user's ids open nothing, wherever they are tried; limits hold for each user; the host sees everybody's.

use super::{
    loopback::{
        Loopback,
        oauth::{ADA, BOB, Person},
    },
    sign_in::bring_adapter,
    site::{Browser, Site, limits},
    studio::{small_picture, small_training},
};
use app::api::*;
use atelier::{
    config::{Hosts, UserLimits},
    server::visitor::{Member, Visitor},
    store::{Owner, users::User},
};
use leptos::server_fn::axum::server_fn_paths;
use reqwest::multipart;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// One of everything.
struct Things {
    run: RunId,
    picture: PictureId,
    training: RunId,
    adapter: AdapterId,
    dataset: DatasetId,
    item: String,
    comparison: ComparisonId,
    sample: String,
}

fn api(site: &Site, person: Person) -> Arc<dyn Api> {
    let user = User { id: person.id.into(), username: person.username.into(), name: person.name.into() };
    let member = Member { user, sign_in: "test".into(), host: false, everyone: false, grant: None, framed: false };
    site.state.api(Visitor::Member(Arc::new(member)))
}

async fn until_ended(api: &dyn Api, run: &RunId) {
    for _ in 0..6000 {
        if !api.run(run.clone()).await.unwrap().state.is_active() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("two minutes have passed");
}

async fn things(api: &dyn Api) -> Things {
    let dataset = api.use_sample_set("mucha".into()).await.unwrap();
    let set = api.dataset(dataset.clone()).await.unwrap();
    for item in &set.items[2..] {
        api.remove_item(dataset.clone(), item.id.clone()).await.unwrap();
    }
    let training = api.train(small_training(&api.dataset(dataset.clone()).await.unwrap())).await.unwrap();
    until_ended(api, &training).await;
    let adapter = api.adapters().await.unwrap().remove(0);
    let GenerateRequest { prompt, width, height, steps, guidance, seed, .. } = small_picture();
    let request = CompareRequest { prompt, adapter: adapter.id.clone(), scales: vec![1.0], width, height, steps, guidance, seed, count: 1 };
    let comparison = api.compare(request).await.unwrap();
    let run = api.comparison(comparison.clone()).await.unwrap().run.id;
    until_ended(api, &run).await;
    let picture = api.run(run.clone()).await.unwrap().pictures[0].clone();
    let sample = adapter.sample_urls[0].clone();
    Things { run, picture, training, adapter: adapter.id, dataset, item: set.items[0].id.clone(), comparison, sample }
}

/// All that a person sees of their own.
async fn everything(api: &dyn Api) -> String {
    let filter = PictureFilter::default();
    format!(
        "{:?} {:?} {:?} {:?} {:?}",
        api.runs(false, 100).await,
        api.pictures(filter).await,
        api.datasets().await,
        api.adapters().await,
        api.comparisons(100).await
    )
}

/// What somebody else hears.
enum Heard {
    /// 404, as if it were not there.
    Nothing,
    /// An answer without any of it.
    Empty(&'static str),
    /// Nothing that belongs to anybody.
    Common,
}

/// Every server function, with another user's ids in every place that takes one.
fn calls(things: &Things) -> Vec<(&'static str, String, Heard)> {
    use Heard::*;
    let Things { run, picture, training, adapter, dataset, item, comparison, .. } = things;
    let form = "form[reviewed]=1&form[repo]=mine&form[title]=Mine&form[base_model]=flux-mini&form[licence]=apache-2.0&form[rights]=Mine.";
    vec![
        ("get_account", String::new(), Common),
        ("get_sign_in_code", String::new(), Common),
        ("get_studio", String::new(), Common),
        ("list_recipes", String::new(), Common),
        ("list_sample_sets", String::new(), Common),
        ("use_sample_set", "name=mucha".into(), Common),
        ("show_card", format!("adapter={adapter}&{form}"), Common),
        ("look_at_everyone", "on=1".into(), Common),
        ("list_adapters", String::new(), Empty("[]")),
        ("list_comparisons", String::new(), Empty("[]")),
        ("list_datasets", String::new(), Empty("[]")),
        ("list_pictures", "filter[limit]=100".into(), Empty("[]")),
        ("list_runs", "active=false&limit=100".into(), Empty("[]")),
        ("get_tally", format!("adapter={adapter}"), Empty("\"wins\":0,\"losses\":0,\"ties\":0")),
        ("get_run", format!("id={run}"), Nothing),
        ("stop_run", format!("id={training}"), Nothing),
        ("resume_run", format!("id={training}"), Nothing),
        ("get_picture", format!("id={picture}"), Nothing),
        ("delete_picture", format!("id={picture}"), Nothing),
        ("get_dataset", format!("id={dataset}"), Nothing),
        ("set_caption", format!("dataset={dataset}&item={item}&caption=mine"), Nothing),
        ("set_trigger", format!("dataset={dataset}&trigger=mine"), Nothing),
        ("remove_item", format!("dataset={dataset}&item={item}"), Nothing),
        ("delete_dataset", format!("id={dataset}"), Nothing),
        ("predict_training", format!("form[dataset]={dataset}&form[recipe]=quick&form[name]=mine"), Nothing),
        ("start_training", format!("form[dataset]={dataset}&form[recipe]=quick&form[name]=mine"), Nothing),
        ("get_training", format!("run={training}"), Nothing),
        ("rename_adapter", format!("id={adapter}&name=mine"), Nothing),
        ("delete_adapter", format!("id={adapter}"), Nothing),
        (
            "start_generation",
            format!(
                "form[prompt]=a lake&form[size]=64x64&form[steps]=2&form[adapters][0][id]={adapter}&form[adapters][0][on]=1&form[adapters][0][scale]=1"
            ),
            Nothing,
        ),
        (
            "start_comparison",
            format!("form[prompt]=a lake&form[size]=64x64&form[steps]=2&form[adapter]={adapter}&form[scales][]=1"),
            Nothing,
        ),
        ("get_comparison", format!("id={comparison}"), Nothing),
        ("cast_vote", format!("comparison={comparison}&round=1&choice=first"), Nothing),
        ("get_publish_review", format!("adapter={adapter}&{form}"), Nothing),
        ("start_publishing", format!("adapter={adapter}&{form}"), Nothing),
        ("get_publish_state", format!("adapter={adapter}"), Nothing),
        ("unpublish_adapter", format!("adapter={adapter}&repo=ada/mucha"), Nothing),
    ]
}

fn files(things: &Things) -> Vec<String> {
    let Things { run, picture, training, adapter, dataset, item, sample, .. } = things;
    vec![
        format!("/files/pictures/{picture}.png"),
        format!("/files/pictures/{picture}.png?download"),
        format!("/files/pictures/{picture}/thumb"),
        format!("/files/datasets/{dataset}/{item}"),
        format!("/files/datasets/{dataset}/{item}/thumb"),
        format!("/files/adapters/{adapter}.safetensors"),
        format!("/files/adapters/{adapter}.json"),
        sample.clone(),
        format!("/events/{run}"),
        format!("/events/{training}?after=0"),
    ]
}

fn pages(things: &Things) -> Vec<String> {
    let Things { run, picture, training, adapter, comparison, .. } = things;
    vec![
        format!("/?run={run}"),
        format!("/train/{training}"),
        format!("/compare?comparison={comparison}"),
        format!("/gallery?picture={picture}"),
        format!("/adapters/{adapter}/publish"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_ids_open_nothing() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let ada = site.signed_in(&hub, ADA).await;
    let things = things(&*api(&site, ADA)).await;
    for path in files(&things) {
        ada.get(&path).await.ok();
    }
    let before = everything(&*api(&site, ADA)).await;

    let tried: BTreeSet<String> = calls(&things).iter().map(|(name, ..)| format!("/api/{name}")).collect();
    let all: BTreeSet<String> = server_fn_paths().map(|(path, _)| path.to_owned()).collect();
    assert_eq!(tried, all, "every server function is tried");
    let (bob, stranger) = (site.signed_in(&hub, BOB).await, site.browser());
    for (browser, who) in [(&bob, "bob"), (&stranger, "a stranger")] {
        for (function, form, heard) in calls(&things) {
            let answer = browser.call(function, &form).await;
            let status = answer.status.as_u16();
            match heard {
                Heard::Nothing => {
                    assert!(status == 404 || (who == "a stranger" && status == 401), "{who}, {function}: {status} {}", answer.text)
                }
                Heard::Empty(words) => assert!(answer.text.contains(words) && status == 200, "{who}, {function}: {}", answer.text),
                Heard::Common => {}
            }
            for secret in ["Small Mucha", "a lake at dusk", &things.item] {
                // A refusal may repeat what was asked for.
                assert!(form.contains(secret) || !answer.text.contains(secret), "{who}, {function} tells {secret}");
            }
            if function == "use_sample_set" && who == "bob" {
                bob.call("delete_dataset", &format!("id={}", answer.json::<DatasetId>())).await.ok();
            }
        }
        for path in files(&things) {
            browser.get(&path).await.refused(404, "there is no");
        }
        for path in pages(&things) {
            let html = browser.get(&path).await.text;
            assert!(!html.contains("Small Mucha") && !html.contains("a lake at dusk"), "{who}, {path}");
        }
        let part = multipart::Part::bytes(std::fs::read("public/icons/touch.png").unwrap()).file_name("mine.png");
        let form = multipart::Form::new().text("dataset", things.dataset.0.clone()).part("files", part);
        let refused = browser.upload("/upload/dataset", form).await;
        assert!([401, 404].contains(&refused.status.as_u16()), "{who}: {}", refused.text);
    }
    assert_eq!(everything(&*api(&site, ADA)).await, before, "nothing of ada's has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_sees_everybodys_work_when_wanted() {
    let hub = Loopback::start().await;
    let host = Hosts { ids: vec![BOB.id.into()], usernames: Vec::new() };
    let site = Site::open_with(&hub, |config| config.sign_in.as_mut().unwrap().hosts = host).await;
    let ada = site.signed_in(&hub, ADA).await;
    let adapter = bring_adapter(&ada, "Of ada's").await;
    let listed = async |browser: &Browser| browser.call("list_adapters", "").await.ok().json::<Vec<AdapterInfo>>().len();
    let bob = site.signed_in(&hub, BOB).await;
    assert_eq!(listed(&bob).await, 0, "lists hold one's own");
    bob.get(&format!("/files/adapters/{}.json", adapter.id)).await.ok();
    bob.call("look_at_everyone", "on=1").await.ok();
    assert_eq!(listed(&bob).await, 1);
    assert!(bob.get("/adapters").await.ok().text.contains("Show my work alone"));
    bob.call("look_at_everyone", "").await.ok();
    assert_eq!(listed(&bob).await, 0);
    bob.call("delete_adapter", &format!("id={}", adapter.id)).await.ok();
    assert_eq!(listed(&ada).await, 0, "and keeps the house");
    ada.call("look_at_everyone", "on=1").await.refused(403, "whose studio");
    assert!(!ada.get("/adapters").await.ok().text.contains("everybody&#39;s work"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_has_a_share_of_the_queue() {
    let hub = Loopback::start().await;
    let site = Site::open_with(&hub, |config| config.limits = limits(3)).await;
    let (ada, bob) = (site.signed_in(&hub, ADA).await, site.signed_in(&hub, BOB).await);
    let long = "form[prompt]=a lake&form[size]=256x256&form[steps]=100&form[count]=4";
    // All at once: each would find the same room.
    let asked = futures::future::join_all((0..12).map(|_| ada.call("start_generation", long))).await;
    assert_eq!(asked.iter().filter(|answer| answer.status.is_success()).count(), 3);
    asked.iter().find(|answer| !answer.status.is_success()).unwrap().refused(409, "at most 3 may");
    bob.call("start_generation", long).await.ok();
    for browser in [&ada, &bob] {
        let runs: Vec<Run> = browser.call("list_runs", "active=true&limit=9").await.ok().json();
        for run in runs {
            browser.call("stop_run", &format!("id={}", run.id)).await.ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_has_a_share_of_the_connections() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let ada = site.signed_in(&hub, ADA).await;
    let long = "form[prompt]=a lake&form[size]=256x256&form[steps]=100&form[count]=4";
    let run: RunId = ada.call("start_generation", long).await.ok().json();
    let watch = || ada.request(reqwest::Method::GET, &format!("/events/{run}")).send();
    let mut streams = Vec::new();
    for _ in 0..32 {
        let stream = watch().await.unwrap();
        assert!(stream.status().is_success());
        streams.push(stream);
    }
    ada.get(&format!("/events/{run}")).await.refused(429, "watch 32 runs");
    streams.clear();
    let mut open = false;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        open |= watch().await.unwrap().status().is_success();
    }
    assert!(open, "who left may come again");
    ada.call("stop_run", &format!("id={run}")).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_come_together_share_the_room_that_is_left() {
    let hub = Loopback::start().await;
    let site = Site::open_with(&hub, |config| config.limits = UserLimits { storage: 3 << 20, ..UserLimits::default() }).await;
    let ada = site.signed_in(&hub, ADA).await;
    let asked = futures::future::join_all((0..8).map(|_| ada.call("use_sample_set", "name=mucha"))).await;
    assert!(asked.iter().any(|answer| answer.status.is_success()) && asked.iter().any(|answer| answer.status == 409));
    assert!(site.state.jobs.store.bytes_of(&Owner::user(ADA.id)).await.unwrap() <= 3 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_has_a_share_of_the_disk_and_of_time() {
    let hub = Loopback::start().await;
    let site = Site::open_with(&hub, |config| config.limits = UserLimits { runs: 10, train_steps: 50, storage: 3 << 20 }).await;
    let (ada, bob) = (site.signed_in(&hub, ADA).await, site.signed_in(&hub, BOB).await);
    let set: DatasetId = ada.call("use_sample_set", "name=mucha").await.ok().json();
    let training = format!("form[dataset]={set}&form[recipe]=quick&form[name]=Mine&form[steps]=51");
    ada.call("start_training", &training).await.refused(422, "at most 50");
    let larger = training.replace("steps]=51", "steps]=20") + "&form[accumulate]=256";
    ada.call("start_training", &larger).await.refused(422, "at most 50");
    let mut refused = None;
    for _ in 0..20 {
        let answer = ada.call("use_sample_set", "name=mucha").await;
        if !answer.status.is_success() {
            refused = Some(answer);
            break;
        }
    }
    refused.expect("the disk has an end").refused(409, "storage");
    let large = |size: usize| multipart::Form::new().part("files", multipart::Part::bytes(vec![7; size]).file_name("a.png"));
    // A little more than is left, so that all of it is on its way before the refusal comes back.
    let left = (3 << 20) - site.state.jobs.store.bytes_of(&Owner::user(ADA.id)).await.unwrap() as usize;
    ada.upload("/upload/dataset", large(left + 1)).await.refused(413, "your storage");
    ada.call("delete_dataset", &format!("id={set}")).await.ok();
    ada.call("use_sample_set", "name=mucha").await.ok();
    bob.call("use_sample_set", "name=mucha").await.ok();
}
