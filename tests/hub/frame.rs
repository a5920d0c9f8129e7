//! A Space is shown in a frame of the Hub's page: signing in goes by way of a tab, and a one-time code brings it back.

use super::{
    loopback::{
        Loopback,
        oauth::{ADA, BOB},
    },
    site::{Browser, Page, Site},
    studio::assert_sentence,
};
use app::api::Account;
use atelier::config::HubSettings;
use reqwest::{Method, StatusCode};

async fn space(hub: &Loopback) -> Site {
    Site::open_with(hub, |config| {
        config.in_space = true;
        config.hub = HubSettings::default();
        config.public = Some("https://ada-atelier.hf.space".parse().unwrap());
    })
    .await
}

/// As a browser asks for a page in a frame.
async fn framed(browser: &Browser, path: &str) -> Page {
    browser.send(browser.request(Method::GET, path).header("sec-fetch-dest", "iframe").header("sec-fetch-site", "cross-site")).await
}

async fn account(browser: &Browser) -> Account {
    browser.call("get_account", "").await.ok().json()
}

/// The code that a tab shows after it was opened from a frame.
async fn code(tab: &Browser) -> String {
    let back = tab.authorized("/sign-in/start?then=/gallery&frame=1").await;
    let landed = tab.get(&back).await;
    assert_eq!(landed.location(), "/sign-in?code=1&then=%2Fgallery");
    let html = tab.get(landed.location()).await.ok().text;
    let shown = html.split("id=\"handover-code\"").nth(1).unwrap_or_else(|| panic!("no code is shown: {html}"));
    shown.split('>').nth(1).unwrap().split('<').next().unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_signed_in_with_a_one_time_code() {
    let hub = Loopback::start().await;
    let site = space(&hub).await;
    // Two jars, as browsers keep them for the tab and for the frame.
    let (frame, tab) = (site.browser(), site.browser());
    assert!(framed(&frame, "/").await.ok().text.contains("href=\"/sign-in/start?then=%2F\""));
    let sent = framed(&frame, "/sign-in/start?then=/gallery").await;
    assert_eq!(sent.location(), "/sign-in?again=&then=%2Fgallery", "the provider is not shown in a frame");
    let html = framed(&frame, "/sign-in?then=/gallery").await.ok().text;
    for words in ["target=\"_blank\"", "frame=1", "action=\"/sign-in/code\"", "name=\"code\""] {
        assert!(html.contains(words), "{words}: {html}");
    }

    let code = code(&tab).await;
    assert_eq!(tab.jar().keys().collect::<Vec<_>>(), ["__Host-session"]);
    let opened = frame.post("/sign-in/code", &format!("code={}&then=/gallery", code.to_lowercase())).await;
    assert_eq!((opened.status, opened.location()), (StatusCode::SEE_OTHER, "/gallery"));
    let cookie = opened.headers["set-cookie"].to_str().unwrap().to_owned();
    for words in ["__Host-session-frame=", "SameSite=None", "Secure", "HttpOnly", "Partitioned", "Path=/"] {
        assert!(cookie.contains(words), "{words}: {cookie}");
    }
    assert!(matches!(account(&frame).await, Account::Member(member) if member.username == "ada"));

    let other = site.browser();
    let again = other.post("/sign-in/code", &format!("code={code}&then=https://evil.example")).await;
    assert_sentence(&again.error(), "This code is not known");
    assert!(again.location().contains("then=%2F") && !again.location().contains("evil"));
    assert!(other.jar().is_empty(), "a code serves once");

    // Signed out in one place is signed out in both.
    frame.post("/sign-out", "").await;
    assert!(matches!(account(&tab).await, Account::Stranger { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_cannot_sign_a_frame_in_as_somebody_else() {
    let hub = Loopback::start().await;
    let site = space(&hub).await;
    let (mallory, victim) = (site.browser(), site.browser());
    hub.oauth(|oauth| oauth.person = BOB);
    let code = code(&mallory).await;
    let forged = victim.form("/sign-in/code", &format!("code={code}")).header("origin", "https://evil.example");
    victim.send(forged).await.refused(403, "another site");
    assert!(victim.jar().is_empty());
    // Whoever is not signed in has no code to give, and codes are not guessed: the tries run out.
    site.browser().call("get_sign_in_code", "").await.refused(401, "Sign in first");
    let mut stopped = false;
    for guess in 0..90 {
        let answer = victim.post("/sign-in/code", &format!("code=AAAA-AA{guess:02}")).await;
        stopped |= answer.status == StatusCode::TOO_MANY_REQUESTS;
    }
    assert!(stopped && victim.jar().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_hub_may_frame_a_space() {
    let hub = Loopback::start().await;
    let answer = space(&hub).await.browser().get("/").await.ok();
    let policy = answer.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.ends_with("frame-ancestors 'self' https://huggingface.co"), "{policy}");
    assert!(!answer.headers.contains_key("x-frame-options") && answer.headers.contains_key("strict-transport-security"));
    let site = Site::open(&hub).await;
    let browser = site.signed_in(&hub, ADA).await;
    for path in ["/", "/gallery", "/health", "/pkg/nothing.js", "/files/pictures/x.png", "/sign-in/start", "/api/get_account"] {
        let answer = browser.get(path).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.ends_with("frame-ancestors 'self'"), "{path}: {policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["cross-origin-resource-policy"], "same-origin", "{path}");
        assert_eq!(answer.headers["referrer-policy"], "same-origin", "{path}");
    }
    for (path, cache) in [("/gallery", "private, no-cache"), ("/files/pictures/x.png", "private, no-cache"), ("/sign-in/start", "no-store")]
    {
        assert_eq!(browser.get(path).await.headers["cache-control"], cache, "{path}");
    }
    assert_eq!(browser.call("get_account", "").await.headers["cache-control"], "private, no-cache");
}
