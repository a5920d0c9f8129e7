//! Scripts beside people who sign in: a session opens no API, a token opens no page, and neither shows what is the other's.

use super::{
    loopback::{Loopback, oauth::ADA},
    site::Site,
};
use app::api::{ApiError, Picture, Run, RunId};
use reqwest::Method;

const SMALL: &str = r#"{"prompt": "a lake", "width": 64, "height": 64, "steps": 2}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_opens_no_api_and_a_token_no_page() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let (ada, nobody) = (site.signed_in(&hub, ADA).await, site.browser());
    for path in ["/api/v1/studio", "/api/v1/pictures", "/v1/models", "/metrics"] {
        assert_eq!((ada.get(path).await.status.as_u16(), nobody.get(path).await.status.as_u16()), (401, 401), "{path}");
    }
    let token = site.state.jobs.store.api_tokens().create("ci").await.unwrap();
    let script = |method, path: &str| nobody.request(method, path).bearer_auth(&token);

    let hers: RunId = ada.call("start_generation", "form[prompt]=a lake&form[size]=64x64&form[steps]=2").await.ok().json();
    nobody.send(script(Method::GET, &format!("/api/v1/runs/{hers}"))).await.refused(404, "no run");
    nobody.send(script(Method::GET, &format!("/api/v1/runs/{hers}/events"))).await.refused(404, "no run");
    let drawn = script(Method::POST, "/api/v1/pictures?wait=50").header("content-type", "application/json").body(SMALL);
    let run: Run = nobody.send(drawn).await.ok().json();
    let picture = run.pictures[0].clone();
    let listed: Vec<Picture> = nobody.send(script(Method::GET, "/api/v1/pictures")).await.ok().json();
    assert_eq!(listed.iter().map(|picture| &picture.id).collect::<Vec<_>>(), [&picture]);
    let image = nobody.send(script(Method::GET, &format!("/api/v1/pictures/{picture}/image"))).await.ok();
    assert_eq!(image.headers["content-type"], "image/png");
    ada.get(&format!("/files/pictures/{picture}.png")).await.refused(404, "no picture");
    nobody.send(script(Method::GET, &format!("/files/pictures/{picture}.png"))).await.refused(404, "no picture");
    let page = nobody.send(nobody.form("/api/start_generation", "form[prompt]=x").bearer_auth(&token)).await;
    assert_eq!((page.status.as_u16(), page.json::<ApiError>().status), (401, 401), "a token is no sign-in");
}
