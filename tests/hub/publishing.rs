//! One commit, again and again: first version, same again, next version, taken off.

use super::{
    assert_holds, client,
    loopback::{APP, Loopback, READER, WRITER},
    order, package, send, stages,
};
use atelier::hub::{Error, Order, Stage, unpublish};

#[tokio::test]
async fn a_publication_is_one_commit_that_came_back_bit_by_bit() {
    let hub = Loopback::start().await;
    let (client, package) = (client(&hub, WRITER), package(1, 300_000));
    let (published, stages) = stages(&client, &order("mucha"), &package).await;
    let published = published.unwrap();
    assert_eq!((published.repo.to_string().as_str(), published.created, published.unchanged), ("ada/mucha", true, false));
    assert_eq!(published.url, format!("{}/ada/mucha", hub.endpoint));
    assert_holds(&hub, "ada/mucha", &package);
    assert_eq!(hub.commits("ada/mucha"), 1);
    {
        let state = hub.state();
        let commit = state.repos["ada/mucha"].commits.last().unwrap();
        assert_eq!((commit.oid.as_str(), commit.summary.as_str()), (published.commit.as_str(), "Mucha: 40 steps"));
        assert!(commit.files["pytorch_lora_weights.safetensors"].large && !commit.files["README.md"].large);
        assert_eq!(state.leaks, [""; 0], "the storage saw a token");
    }
    let total = package.bytes();
    assert_eq!(stages.first(), Some(&Stage::Checking));
    assert!(stages.contains(&Stage::Uploading { done: total, total }) && stages.contains(&Stage::Committing));
    assert_eq!(stages.last(), Some(&Stage::Comparing { done: 6, total: 6 }));
}

#[tokio::test]
async fn large_files_travel_in_parts_too() {
    let hub = Loopback::start().await;
    // Parts that do not come out even, and files smaller than one.
    hub.state().part_size = Some(70_001);
    let package = package(1, 300_000);
    send(&client(&hub, WRITER), &order("mucha"), &package).await.unwrap();
    assert_holds(&hub, "ada/mucha", &package);
    let parts = hub.state().heard.iter().filter(|line| line.starts_with("PUT /storage/")).count();
    assert_eq!(parts, 5 + 3, "five parts of the weights, one of each picture");
}

#[tokio::test]
async fn the_same_again_changes_nothing_and_the_next_version_takes_its_place() {
    let hub = Loopback::start().await;
    let client = client(&hub, WRITER);
    let first = send(&client, &order("mucha"), &package(1, 9000)).await.unwrap();
    let again = send(&client, &order("ada/mucha"), &package(1, 9000)).await.unwrap();
    assert_eq!((again.commit, again.unchanged, again.created), (first.commit, true, false));
    assert_eq!(hub.commits("ada/mucha"), 1);

    let refused = send(&client, &order("mucha"), &package(2, 9000)).await.unwrap_err();
    assert!(matches!(refused, Error::Taken(_)) && refused.status() == 409, "{refused}");
    assert_holds(&hub, "ada/mucha", &package(1, 9000));

    let replace = Order { replace: true, ..order("mucha") };
    let second = send(&client, &replace, &package(2, 9000)).await.unwrap();
    assert!(!second.created && !second.unchanged);
    assert_eq!(hub.commits("ada/mucha"), 2);
    // images/03.png of the first version is gone, images/04.png of the second is there.
    assert_holds(&hub, "ada/mucha", &package(2, 9000));
    // What both versions have in common was not sent again.
    let base = package(1, 0).get("images/01-base.png").unwrap().sha256.clone();
    assert_eq!(hub.state().heard.iter().filter(|line| line.contains(&base) && line.starts_with("PUT")).count(), 1);
}

#[tokio::test]
async fn visibility_is_as_asked_for() {
    let hub = Loopback::start().await;
    let client = client(&hub, WRITER);
    let private = Order { private: true, ..order("mucha") };
    assert!(send(&client, &private, &package(1, 900)).await.unwrap().private);
    assert!(hub.state().repos["ada/mucha"].private);
    send(&client, &order("mucha"), &package(1, 900)).await.unwrap();
    assert!(!hub.state().repos["ada/mucha"].private, "the same files, now for all to see");
    send(&client, &Order { replace: true, ..private }, &package(2, 900)).await.unwrap();
    assert!(hub.state().repos["ada/mucha"].private);
}

#[tokio::test]
async fn what_others_made_is_left_alone() {
    let hub = Loopback::start().await;
    let client = client(&hub, WRITER);
    hub.put("ada/thesis", &[("README.md", "my thesis"), ("model.bin", "x")]);
    for replace in [false, true] {
        let error = send(&client, &Order { replace, ..order("thesis") }, &package(1, 900)).await.unwrap_err();
        assert!(error.to_string().contains("choose another name"), "{error}");
    }
    let error = unpublish(&client, &"thesis".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("left alone"), "{error}");
    assert_eq!(hub.files("ada/thesis").unwrap()["README.md"], "my thesis");
    let error = send(&client, &order("bob/mucha"), &package(1, 900)).await.unwrap_err();
    assert!(error.to_string().contains("choose one of ada"), "{error}");
}

#[tokio::test]
async fn unpublishing_deletes_and_may_be_repeated() {
    let hub = Loopback::start().await;
    let client = client(&hub, WRITER);
    send(&client, &order("mucha"), &package(1, 900)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(unpublish(&client, &"mucha".parse().unwrap()).await.unwrap().to_string(), "ada/mucha");
        assert!(hub.files("ada/mucha").is_none());
    }
}

#[tokio::test]
async fn a_base_model_that_is_named_must_be_there() {
    let hub = Loopback::start().await;
    let client = client(&hub, WRITER);
    let on = |base: &str| Order { base_model: Some(base.parse().unwrap()), ..order("mucha") };
    let error = send(&client, &on("nobody/nothing"), &package(1, 900)).await.unwrap_err();
    assert!(error.to_string().contains("nobody/nothing is not on the Hub") && hub.files("ada/mucha").is_none(), "{error}");
    hub.put("bfl/flux", &[("README.md", "a model")]);
    send(&client, &on("bfl/flux"), &package(1, 900)).await.unwrap();
}

#[tokio::test]
async fn scopes_are_kept_to() {
    let hub = Loopback::start().await;
    let reading = send(&client(&hub, READER), &order("mucha"), &package(1, 900)).await.unwrap_err();
    assert_eq!((reading.status(), hub.files("ada/mucha").is_none()), (403, true));
    assert!(reading.to_string().contains("reading only"), "{reading}");
    // A token that may contribute: what it made itself, and nothing else.
    let app = client(&hub, APP);
    send(&app, &order("mucha"), &package(1, 900)).await.unwrap();
    send(&app, &Order { replace: true, ..order("mucha") }, &package(2, 900)).await.unwrap();
    hub.put("ada/older", &[("adapter.json", "{}"), ("pytorch_lora_weights.safetensors", "x")]);
    let error = send(&app, &Order { replace: true, ..order("older") }, &package(1, 900)).await.unwrap_err();
    assert_eq!(error.status(), 403, "{error}");
    assert_eq!(hub.commits("ada/older"), 0);
}
