//! The part of OpenAI's API: its shapes, and OpenAI's own Python client against the running program.

use super::{
    program::Program,
    python,
    studio::{Answer, Studio},
    uploads::Form,
};
use app::api::{AdapterInfo, GenerateRequest, Run, RunState};
use atelier::store::png;
use axum::{
    body::Body,
    http::{Request, header},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::path::Path;

async fn get(studio: &Studio, path: &str) -> Answer {
    studio.send(Request::get(path).header(header::HOST, "localhost:7860").body(Body::empty()).unwrap()).await
}

fn asked(body: &Value) -> Request<Body> {
    let request = Request::post("/v1/images/generations").header(header::HOST, "localhost:7860");
    request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).unwrap()
}

async fn generate(studio: &Studio, body: Value) -> Answer {
    studio.send(asked(&body)).await
}

fn small(more: Value) -> Value {
    let mut body = json!({"prompt": "a lake", "size": "64x64", "steps": 3, "seed": 7});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, param: Option<&str>, words: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", String::from_utf8_lossy(&answer.body));
    let error = answer.json::<Value>()["error"].clone();
    assert_eq!(error["param"], json!(param));
    assert!(error["type"].is_string() && error["message"].as_str().unwrap().contains(words), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_come_as_bytes_or_by_link() {
    let studio = Studio::open().await;
    let drawn: Value = generate(&studio, small(json!({"n": 2, "model": "flux-mini"}))).await.ok().json();
    assert_eq!((drawn["data"].as_array().unwrap().len(), &drawn["size"]), (2, &"64x64".into()));
    let bytes = BASE64_STANDARD.decode(drawn["data"][1]["b64_json"].as_str().unwrap()).unwrap();
    assert_eq!(png::recipe(&bytes).unwrap()["seed"], 8);
    assert_eq!((&drawn["data"][1]["seed"], &drawn["usage"]["output_tokens"]), (&8.into(), &32.into()));

    let drawn: Value = generate(&studio, small(json!({"response_format": "url"}))).await.ok().json();
    let link = drawn["data"][0]["url"].as_str().unwrap().strip_prefix("http://localhost:7860").unwrap().to_owned();
    let file = get(&studio, &link).await.ok();
    assert_eq!(file.headers["content-type"], "image/png");
    assert_eq!(png::recipe(&file.body).unwrap()["seed"], 7);
    assert_refused(&get(&studio, "/v1/images/files/0123.png").await, 404, None, "more than an hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_is_a_model_and_its_trigger_is_added() {
    let studio = Studio::open().await;
    let file = std::fs::read("tests/fixtures/flux-mini/lora_impressionist.safetensors").unwrap();
    for name in ["Sea and sky", "Twin", "Twin"] {
        let form = Form::default().field("name", name).field("trigger", "impressionist painting").named("file", "x.safetensors", &file);
        form.send_to(&studio, "/api/v1/adapters").await.ok();
    }
    let list: Value = get(&studio, "/v1/models").await.ok().json();
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[0], ids.contains(&"Sea and sky"), ids.contains(&"Twin")), (4, "flux-mini", true, false));
    let one: Value = get(&studio, "/v1/models/Sea%20and%20sky").await.ok().json();
    assert_eq!((&one["object"], &one["owned_by"]), (&"model".into(), &"atelier".into()));

    let drawn: Value = generate(&studio, small(json!({"model": "Sea and sky", "scale": 0.5}))).await.ok().json();
    assert_eq!(drawn["data"][0]["revised_prompt"], "a lake, impressionist painting");
    let twin: AdapterInfo = studio.api().adapters().await.unwrap().into_iter().find(|adapter| adapter.name == "Twin").unwrap();
    generate(&studio, small(json!({"model": twin.id}))).await.ok();
    let pictures = studio.api().pictures(Default::default()).await.unwrap();
    assert_eq!((pictures[0].adapters[0].id.clone(), pictures[1].adapters[0].scale), (twin.id, 0.5));
    assert_refused(&generate(&studio, small(json!({"model": "Twin"}))).await, 400, Some("model"), "Several");
    assert_refused(&generate(&studio, small(json!({"model": "dall-e-3"}))).await, 404, Some("model"), "no model");
    assert_refused(&get(&studio, "/v1/models/dall-e-3").await, 404, Some("model"), "no model");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_openais_shape() {
    let studio = Studio::open().await;
    assert_refused(&generate(&studio, small(json!({"n": 5}))).await, 400, Some("n"), "1 to 4");
    assert_refused(&generate(&studio, small(json!({"size": "65x64"}))).await, 400, None, "multiples of 16");
    assert_refused(&generate(&studio, small(json!({"background": "transparent"}))).await, 400, Some("background"), "opaque");
    assert_refused(&generate(&studio, json!({"model": "flux-mini"})).await, 400, None, "prompt");
    assert_refused(&get(&studio, "/v1/chat/completions").await, 404, None, "/v1/images/generations");
    assert_refused(&get(&studio, "/v1/images/generations").await, 405, None, "methods");
    let elsewhere = asked(&json!({"prompt": "a lake"}));
    let (mut parts, body) = elsewhere.into_parts();
    parts.headers.insert(header::ORIGIN, "https://elsewhere.example".parse().unwrap());
    assert_refused(&studio.send(Request::from_parts(parts, body)).await, 403, None, "another site");
    studio.state.jobs.store.api_tokens().create("me").await.unwrap();
    let locked = get(&studio, "/v1/models").await;
    assert_refused(&locked, 401, None, "token");
    assert_eq!(locked.json::<Value>()["error"]["code"], "invalid_api_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_run_along() {
    let studio = Studio::open().await;
    let long = GenerateRequest { steps: 100, ..super::studio::small_picture() };
    let body = json!({"prompt": long.prompt, "size": "512x512", "steps": 100});
    for body in [body.clone(), json!({"stream": true, "prompt": "a lake", "size": "512x512", "steps": 100})] {
        let answering = {
            let (router, request) = (studio.router(), asked(&body));
            tokio::spawn(async move {
                let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
                axum::body::to_bytes(response.into_body(), usize::MAX).await
            })
        };
        let run: Run = loop {
            match studio.api().runs(true, 1).await.unwrap().pop() {
                Some(run) if run.progress.done > 0 => break run,
                _ => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        };
        answering.abort();
        assert_eq!(studio.until_ended(&run.id).await.state, RunState::Stopped);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_somebody_stops_is_not_asked_for_again() {
    let studio = Studio::open().await;
    let body = json!({"prompt": "a lake", "size": "512x512", "steps": 100});
    let stopping = async {
        let run: Run = loop {
            match studio.api().runs(true, 1).await.unwrap().pop() {
                Some(run) if run.progress.done > 0 => break run,
                _ => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        };
        studio.api().stop(run.id).await.unwrap();
    };
    let (answer, ()) = tokio::join!(generate(&studio, body), stopping);
    assert_refused(&answer, 422, None, "stopped");
}

/// `openai` as people install it: models, pictures both ways, errors as exceptions, a stream with looks at the unfinished picture.
#[tokio::test(flavor = "multi_thread")]
async fn openais_own_client_draws() {
    let Some(python) = python::with("openai") else { return };
    let data = tempfile::tempdir().unwrap();
    let token = "0123456789abcdef0123456789abcdef";
    let program = Program::start_with(data.path(), &[("ATELIER_API_TOKENS", token)]).await;
    let client = reqwest::Client::new();
    let file = std::fs::read("tests/fixtures/flux-mini/lora_impressionist.safetensors").unwrap();
    let form = reqwest::multipart::Form::new()
        .text("name", "Impressionist")
        .text("trigger", "impressionist painting")
        .part("file", reqwest::multipart::Part::bytes(file).file_name("x.safetensors"));
    let sent = client.post(program.url("/api/v1/adapters")).bearer_auth(token).multipart(form).send().await.unwrap();
    assert_eq!(sent.status(), 201, "{}", sent.text().await.unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/openai_client.py");
    let (url, schema) = (program.url("/v1"), program.url("/api/openapi.json"));
    let output = tokio::task::spawn_blocking(move || python.command(&script).args([&url, token, &schema]).output().unwrap()).await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    println!("{stdout}");
}
