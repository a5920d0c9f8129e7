//! Whatever goes wrong, and wherever: a sentence, nothing half-published, no token in it, and a retry that does not double.

use super::{
    assert_holds, client,
    loopback::{Fault, Loopback, WRITER},
    order, package, send,
};
use atelier::hub::{Error, Hub, Order, Token};

/// Every request of a first publication, in its order.
const WAY: [&str; 11] = [
    "GET /api/whoami-v2",
    "GET /api/models/ada/mucha",
    "POST /api/repos/create",
    "GET /api/models/ada/mucha",
    "/tree/",
    "/preupload/",
    "/objects/batch",
    "PUT /storage/",
    "POST /verify",
    "/commit/main",
    "/resolve/",
];

#[tokio::test]
async fn a_refusal_anywhere_leaves_nothing_and_a_retry_publishes_once() {
    for status in [401, 403, 429, 418] {
        for step in WAY {
            let hub = Loopback::start().await;
            let fault = if status == 429 { Fault::TooMany(3600) } else { Fault::Status(status) };
            hub.fault(step, fault);
            let error = send(&client(&hub, WRITER), &order("mucha"), &package(1, 2000)).await.unwrap_err();
            let expected = if status == 418 { 502 } else { status };
            assert_eq!(error.status(), expected, "{status} at {step}: {error}");
            assert_told(&error);
            assert!(hub.files("ada/mucha").is_none(), "{status} at {step} leaves a repository");
            send(&client(&hub, WRITER), &order("mucha"), &package(1, 2000)).await.unwrap();
            assert_holds(&hub, "ada/mucha", &package(1, 2000));
            assert_eq!(hub.commits("ada/mucha"), 1);
        }
    }
}

#[tokio::test]
async fn what_passes_is_not_even_noticed() {
    for fault in [Fault::Status(500), Fault::Status(503), Fault::Cut, Fault::CutAfter, Fault::TooMany(0)] {
        for step in WAY {
            let hub = Loopback::start().await;
            hub.fault(step, fault.clone());
            let published = send(&client(&hub, WRITER), &order("mucha"), &package(1, 2000)).await;
            published.unwrap_or_else(|error| panic!("{fault:?} at {step}: {error}"));
            assert_holds(&hub, "ada/mucha", &package(1, 2000));
            assert_eq!(hub.commits("ada/mucha"), 1, "{fault:?} at {step} published twice");
        }
    }
}

#[tokio::test]
async fn a_hub_that_stays_broken_is_given_up_and_nothing_stays() {
    for step in ["/tree/", "/preupload/", "PUT /storage/", "/commit/main", "/resolve/"] {
        let hub = Loopback::start().await;
        for _ in 0..12 {
            hub.fault(step, Fault::Status(500));
        }
        let error = send(&client(&hub, WRITER), &order("mucha"), &package(1, 2000)).await.unwrap_err();
        assert!(matches!(error, Error::Failing { status: 500, .. }), "{step}: {error}");
        assert_told(&error);
        assert!(hub.files("ada/mucha").is_none(), "{step}");
    }
}

#[tokio::test]
async fn other_bytes_are_found_and_the_version_before_comes_back() {
    let hub = Loopback::start().await;
    let client = client(&hub, WRITER);
    hub.fault("GET /storage/", Fault::WrongByte);
    let error = send(&client, &order("mucha"), &package(1, 2000)).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch(_)) && hub.files("ada/mucha").is_none(), "{error}");
    assert_told(&error);

    send(&client, &order("mucha"), &package(1, 2000)).await.unwrap();
    let replace = Order { replace: true, ..order("mucha") };
    for spoiled in ["/pytorch_lora_weights.safetensors", "/README.md"] {
        let newest = hub.state().repos["ada/mucha"].commits.last().unwrap().oid.clone();
        // Not the download of what is to be restored, which names the old commit.
        hub.fault(&format!("/resolve/{:040x}{spoiled}", u64::from_str_radix(&newest, 16).unwrap() + 1), Fault::Status(404));
        let error = send(&client, &replace, &package(2, 2000)).await.unwrap_err();
        assert_eq!(error.status(), 404, "{error}");
        assert_holds(&hub, "ada/mucha", &package(1, 2000));
    }
    send(&client, &replace, &package(2, 2000)).await.unwrap();
    assert_holds(&hub, "ada/mucha", &package(2, 2000));
}

#[tokio::test]
async fn somebody_elses_commit_in_between_is_not_written_over() {
    let hub = Loopback::start().await;
    let client = client(&hub, WRITER);
    send(&client, &order("mucha"), &package(1, 2000)).await.unwrap();
    let replace = Order { replace: true, ..order("mucha") };
    // 412, and the head has not moved: tried again, then told.
    for _ in 0..3 {
        hub.fault("/commit/main", Fault::Status(412));
    }
    let error = send(&client, &replace, &package(2, 2000)).await.unwrap_err();
    assert_eq!(error.status(), 409, "{error}");
    assert_told(&error);
    // 409 once: "another operation is in progress".
    hub.fault("/commit/main", Fault::Status(409));
    send(&client, &replace, &package(2, 2000)).await.unwrap();
    assert_eq!(hub.commits("ada/mucha"), 2);
}

#[tokio::test]
async fn what_cannot_be_taken_back_is_told_with_its_address() {
    let hub = Loopback::start().await;
    hub.fault("/preupload/", Fault::Status(403));
    hub.fault("DELETE /api/repos/delete", Fault::Status(403));
    let error = send(&client(&hub, WRITER), &order("mucha"), &package(1, 2000)).await.unwrap_err();
    assert!(matches!(error, Error::NotUndone { .. }) && error.status() == 403, "{error}");
    assert!(error.to_string().contains(&format!("{}/ada/mucha", hub.endpoint)), "{error}");
    assert_told(&error);
    // The empty repository that stayed is taken by the next attempt.
    send(&client(&hub, WRITER), &order("mucha"), &package(1, 2000)).await.unwrap();
    assert_eq!(hub.commits("ada/mucha"), 1);
}

#[tokio::test]
async fn a_wrong_token_and_no_hub_are_told_apart() {
    let hub = Loopback::start().await;
    let stranger = "hf_nobodyKnowsThisOne00000000000000";
    let error = send(&client(&hub, stranger), &order("mucha"), &package(1, 10)).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized(_)) && !error.to_string().contains(stranger), "{error}");
    let nowhere = Hub::new("http://127.0.0.1:9", Token::new(WRITER).unwrap()).unwrap().with_pause(std::time::Duration::from_millis(1));
    let error = send(&nowhere, &order("mucha"), &package(1, 10)).await.unwrap_err();
    assert!(matches!(error, Error::Offline { .. }) && error.status() == 503, "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert_told(&error);
}

/// A sentence, without the token that the hub repeated.
#[track_caller]
fn assert_told(error: &Error) {
    let (text, dump) = (error.to_string(), format!("{error:?}"));
    assert!(!text.contains(WRITER) && !dump.contains(WRITER), "the token is in it: {text}");
    assert!(text.ends_with('.') && text.starts_with(char::is_uppercase), "{text}");
}
