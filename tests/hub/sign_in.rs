//! Signing in: the way there and back, what is allowed by it, and every way in which it fails, each in words.

use super::{
    loopback::{
        Fault, Loopback, WRITER,
        oauth::{ADA, BOB},
    },
    site::{Browser, Page, Site},
    studio::assert_sentence,
};
use app::api::*;
use atelier::{config::Config, hub::Token};
use reqwest::{StatusCode, multipart};
use std::time::Duration;

const DRAW: &str = "form[prompt]=a lake&form[size]=64x64&form[steps]=2";

async fn account(browser: &Browser) -> Account {
    browser.call("get_account", "").await.ok().json()
}

/// A file that fits the model.
pub async fn bring_adapter(browser: &Browser, name: &str) -> AdapterInfo {
    let file = std::fs::read("tests/fixtures/flux-mini/lora_impressionist.safetensors").unwrap();
    let part = multipart::Part::bytes(file).file_name("lora.safetensors");
    browser.upload("/upload/adapter", multipart::Form::new().text("name", name.to_owned()).part("file", part)).await.ok().json()
}

fn publication(adapter: &AdapterInfo) -> String {
    format!(
        "adapter={}&form[reviewed]=1&form[repo]=lakes&form[title]=Lakes&form[trigger]=a lake&form[base_model]=flux-mini\
         &form[licence]=apache-2.0&form[visibility]=public&form[rights]=Mine.",
        adapter.id
    )
}

async fn until_published(browser: &Browser, adapter: &AdapterInfo) -> PublishState {
    for _ in 0..1000 {
        let state: Option<PublishState> = browser.call("get_publish_state", &format!("adapter={}", adapter.id)).await.ok().json();
        match state {
            Some(state) if !state.active => return state,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    panic!("it does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_looks_around_signs_in_makes_something_and_signs_out() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let browser = site.browser();
    for page in ["/", "/compare", "/train", "/adapters", "/gallery", "/sign-in"] {
        let html = browser.get(page).await.ok().text;
        assert!(html.contains("href=\"/sign-in/start?then="), "{page}");
    }
    assert_eq!(account(&browser).await, Account::Stranger { framed: false });
    browser.call("start_generation", DRAW).await.refused(401, "Sign in first");
    assert!(browser.jar().is_empty(), "a stranger is given nothing to keep");
    assert!(hub.state().heard.is_empty(), "nobody is asked before somebody wants to sign in");

    let landed = browser.sign_in("/gallery?search=a%20lake").await;
    assert_eq!((landed.status, landed.location()), (StatusCode::SEE_OTHER, "/gallery?search=a%20lake"));
    assert_eq!(browser.jar().keys().collect::<Vec<_>>(), ["session"], "what the way took is gone");
    let html = browser.get("/gallery").await.ok().text;
    assert!(
        html.contains("Account of ada")
            && html.contains("Ada Lovelace")
            && html.contains("action=\"/sign-out\"")
            && !html.contains("/sign-in/start"),
        "{html}"
    );
    browser.call("start_generation", DRAW).await.ok();
    let runs: Vec<Run> = browser.call("list_runs", "active=false&limit=9").await.ok().json();
    assert_eq!(runs.len(), 1);

    let kept = browser.jar().clone();
    assert_eq!(browser.post("/sign-out", "").await.location(), "/");
    assert!(browser.jar().is_empty());
    *browser.jar() = kept;
    assert_eq!(account(&browser).await, Account::Stranger { framed: false }, "a copied cookie is worth nothing after signing out");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_text_and_people_are_known_by_id() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let first = site.signed_in(&hub, BOB).await;
    let html = first.get("/").await.ok().text;
    assert!(!html.contains("<b>Ross") && html.contains("Bob &lt;b&gt;Ross"), "a name is no markup");
    first.call("use_sample_set", "name=mucha").await.ok();
    // The same person under another name sees the same work; somebody who took the name does not.
    let renamed = site.signed_in(&hub, super::loopback::oauth::Person { username: "robert", ..BOB }).await;
    let sets = async |browser: &Browser| browser.call("list_datasets", "").await.ok().json::<Vec<DatasetInfo>>().len();
    assert_eq!(sets(&renamed).await, 1);
    let taker = site.signed_in(&hub, super::loopback::oauth::Person { id: "64eve", ..BOB }).await;
    assert_eq!(sets(&taker).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_are_asked_for_in_words_and_what_is_missing_is_said() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    hub.oauth(|oauth| oauth.granted = Some("openid profile"));
    let browser = site.signed_in(&hub, ADA).await;
    let asked = hub.state().heard.iter().find(|line| line.contains("/oauth/authorize")).cloned().unwrap();
    assert!(asked.contains("scope=openid+profile+contribute-repos") && asked.contains("code_challenge_method=S256"), "{asked}");
    assert!(!asked.contains("prompt="), "{asked}");
    assert!(browser.get("/sign-in").await.ok().text.contains("contribute-repos is missing"));

    let adapter = bring_adapter(&browser, "Lakes").await;
    let html = browser.get(&format!("/adapters/{}/publish", adapter.id)).await.ok().text;
    assert!(html.contains("without the permission “contribute-repos”") && html.contains("/sign-in/start?again=1"), "{html}");
    assert!(!html.contains("type=\"password\""), "no token is to be typed where people sign in");
    browser.call("start_publishing", &publication(&adapter)).await.refused(401, "contribute-repos");
    browser.call("start_publishing", &format!("{}&token={WRITER}", publication(&adapter))).await.refused(401, "contribute-repos");

    hub.oauth(|oauth| oauth.granted = None);
    let back = browser.authorized("/sign-in/start?again=1&then=/adapters").await;
    browser.get(&back).await;
    assert!(hub.state().heard.iter().any(|line| line.contains("prompt=consent")));
    browser.call("start_publishing", &publication(&adapter)).await.ok();
    assert_eq!(until_published(&browser, &adapter).await.error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_publishes_with_the_permission_of_their_own() {
    let hub = Loopback::start().await;
    // The machine's own token, of somebody else's account, is never lent.
    let site = Site::open_with(&hub, |config| config.hub.token = Some(Token::new(WRITER).unwrap())).await;
    let browser = site.signed_in(&hub, BOB).await;
    let adapter = bring_adapter(&browser, "Lakes").await;
    let html = browser.get(&format!("/adapters/{}/publish", adapter.id)).await.ok().text;
    assert!(html.contains("With your own permission, as bob."), "{html}");
    browser.call("start_publishing", &publication(&adapter)).await.ok();
    let published = until_published(&browser, &adapter).await.published.expect("published");
    assert_eq!(published.repo, "bob/lakes");
    assert!(hub.files("ada/lakes").is_none());

    // The Hub forgets the token, as when the person takes the permission back.
    hub.revoke(&hub.newest_token());
    browser.call("start_publishing", &format!("{}&form[replace]=1", publication(&adapter))).await.ok();
    let error = until_published(&browser, &adapter).await.error.expect("an error");
    assert_sentence(&error, "does not know this token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_ends_and_a_restart_forgets_it() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    hub.oauth(|oauth| oauth.expires_in = 0);
    let browser = site.signed_in(&hub, ADA).await;
    let adapter = bring_adapter(&browser, "Lakes").await;
    browser.call("start_publishing", &publication(&adapter)).await.refused(401, "expired");
    assert!(browser.get(&format!("/adapters/{}/publish", adapter.id)).await.ok().text.contains("has expired. Sign in again"));
    assert!(matches!(account(&browser).await, Account::Member(_)), "who it is stays known");

    // The next process knows the session from the store, and no permission; cookies stay readable where their secret is configured.
    let secret = |config: &mut Config| config.sign_in.as_mut().unwrap().cookie_secret = Some("the same after every restart of it".into());
    hub.oauth(|oauth| oauth.expires_in = 28_800);
    let site = Site::open_with(&hub, secret).await;
    let browser = site.signed_in(&hub, ADA).await;
    let adapter = bring_adapter(&browser, "Lakes").await;
    let next = site.restarted(&hub).await;
    let after = next.browser();
    *after.jar() = browser.jar().clone();
    assert!(matches!(account(&after).await, Account::Member(_)));
    after.call("start_publishing", &publication(&adapter)).await.refused(401, "restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_on_the_way_is_said() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let fails = async |words: &str| {
        let browser = site.browser();
        let landed = browser.sign_in("/train").await;
        assert!(landed.location().starts_with("/sign-in?error="), "{words}: {}", landed.location());
        assert_sentence(&landed.error(), words);
        assert!(landed.location().contains("then=%2Ftrain"));
        assert!(browser.jar().is_empty(), "{words}");
        assert!(browser.get(landed.location()).await.ok().text.contains("role=\"alert\""));
    };
    hub.oauth(|oauth| oauth.denies = true);
    fails("did not agree").await;
    hub.oauth(|oauth| oauth.denies = false);
    for lie in [("iss", "https://evil.example"), ("aud", "another-app"), ("nonce", "of another sign-in"), ("sub", "64b0b")] {
        hub.oauth(|oauth| oauth.lie = Some(lie));
        fails("cannot be trusted").await;
    }
    hub.oauth(|oauth| oauth.lie = None);
    for path in ["/oauth/token", "/oauth/userinfo"] {
        hub.fault(path, Fault::Status(503));
        fails("could not be reached").await;
        hub.fault(path, Fault::Cut);
        fails("could not be reached").await;
    }
    hub.fault("/oauth/token", Fault::Status(400));
    fails("did not accept the sign-in").await;
    let browser = site.browser();
    let landed: Page = browser.sign_in("/train").await;
    assert_eq!(landed.location(), "/train", "and after all of it, it works");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_or_lies_about_itself_is_said() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    hub.fault("openid-configuration", Fault::Status(502));
    let landed = site.browser().get("/sign-in/start?then=/train").await;
    assert_sentence(&landed.error(), "could not be reached");
    // It was not remembered: the next try asks again.
    assert!(site.browser().get("/sign-in/start").await.location().starts_with(&hub.endpoint));

    let gone = Site::open_with(&hub, |config| config.sign_in.as_mut().unwrap().provider = "http://127.0.0.1:9".into()).await;
    assert_sentence(&gone.browser().get("/sign-in/start").await.error(), "could not be reached");
    gone.browser().get("/gallery").await.ok();
    // Another name of the same machine, which the document does not speak for.
    let other = hub.endpoint.replace("127.0.0.1", "localhost");
    let liar = Site::open_with(&hub, |config| config.sign_in.as_mut().unwrap().provider = other).await;
    assert_sentence(&liar.browser().get("/sign-in/start").await.error(), "cannot be trusted");
}
