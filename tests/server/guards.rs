//! What surrounds the pages: unknown addresses and ids, other sites, headers.

use super::studio::{Studio, small_picture};
use axum::{
    body::Body,
    http::{Request, header},
};

#[tokio::test(flavor = "multi_thread")]
async fn unknown_ids_are_told_in_a_sentence() {
    let studio = Studio::open().await;
    for path in [
        "/events/nobody",
        "/files/pictures/nobody.png",
        "/files/pictures/nobody/thumb",
        "/files/pictures/nobody.exe",
        "/files/pictures/..%2F..%2Fatelier.db",
        "/files/datasets/a/b",
        "/files/datasets/a/b/thumb",
        "/files/adapters/nobody.safetensors",
        "/files/adapters/nobody.json",
        "/files/runs/nobody/samples/x.png",
    ] {
        studio.get(path).await.refused(404, "there is no");
    }
    assert_eq!(studio.api().run("nobody".to_owned().into()).await.unwrap_err().status, 404);
    assert_eq!(studio.api().stop("nobody".to_owned().into()).await.unwrap_err().status, 404);
    assert_eq!(studio.api().training("nobody".to_owned().into()).await.unwrap_err().status, 404);
    studio.call("get_run", "id=nobody").await.refused(404, "no run");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_rendered_and_what_is_not_there_is_a_page_too() {
    let studio = Studio::open().await;
    for page in ["/", "/compare", "/train", "/adapters", "/gallery"] {
        let answer = studio.get(page).await.ok();
        assert!(String::from_utf8_lossy(&answer.body).contains("<h1"), "{page}");
        assert!(answer.headers["content-security-policy"].to_str().unwrap().contains("object-src 'none'"));
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
    for page in ["/nowhere", "/train/nobody", "/compare?comparison=nobody", "/?run=nobody", "/style-sets/../../Cargo.toml", "/api/nowhere"]
    {
        assert_eq!(studio.get(page).await.status, 404, "{page}");
    }
    let health: serde_json::Value = studio.get("/health").await.ok().json();
    assert_eq!(health["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_changes_nothing() {
    let studio = Studio::open().await;
    for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("origin", "null")] {
        for path in ["/api/start_generation", "/upload/dataset", "/upload/adapter"] {
            let request = Request::post(path)
                .header(header::HOST, "localhost:7860")
                .header(name, value)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            studio.send(request.body(Body::from("form[prompt]=a lake")).unwrap()).await.refused(403, "another site");
        }
    }
    assert!(studio.api().runs(false, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_the_pages_starts_a_picture_and_refuses_a_bad_one() {
    let studio = Studio::open().await;
    studio.api().recipes().await.unwrap();
    let started = studio.call("start_generation", "form[prompt]=a lake&form[size]=64x64&form[steps]=2").await.ok();
    let run = studio.until_ended(&started.json()).await;
    assert_eq!(run.pictures.len(), 1);
    let long = format!("form[prompt]={}", "x".repeat(100_000));
    studio.call("start_generation", &long).await.refused(422, "4000");
    assert_eq!(studio.api().runs(false, 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_has_an_end() {
    let studio = Studio::open().await;
    let mut refused = None;
    for _ in 0..80 {
        if let Err(error) = studio.api().generate(app::api::GenerateRequest { steps: 100, ..small_picture() }).await {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused.expect("the queue takes no more at some point").status, 409);
    for run in studio.api().runs(true, 100).await.unwrap() {
        studio.api().stop(run.id.clone()).await.unwrap();
        studio.until_ended(&run.id).await;
    }
}
