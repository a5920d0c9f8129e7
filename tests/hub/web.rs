//! The pages: from the review to the Hub and back, as a browser without scripts does it, and every refusal in words.

use super::{
    loopback::{Fault, Loopback, READER, WRITER},
    studio::{Studio, assert_sentence, small_training},
};
use app::api::*;
use atelier::{
    config::{Config, HubSettings},
    hub::Token,
};
use axum::{
    body::Body,
    http::{Request, header},
};
use std::time::Duration;

/// A studio that publishes on this hub.
async fn studio(hub: &Loopback, token: Option<&str>) -> Studio {
    let token = token.map(|token| Token::new(token).unwrap());
    Studio::open_with(Config { hub: HubSettings { endpoint: hub.endpoint.clone(), token }, ..Config::default() }).await
}

/// A small training's adapter, with samples.
async fn adapter(studio: &Studio) -> AdapterInfo {
    let set = studio.style_set().await;
    let run = studio.api().train(small_training(&set)).await.unwrap();
    studio.until_ended(&run).await;
    studio.api().adapters().await.unwrap().remove(0)
}

fn form(adapter: &AdapterInfo, more: &str) -> String {
    format!(
        "adapter={}&form[reviewed]=1&form[repo]=mucha&form[title]=Small Mucha&form[trigger]=art nouveau panel&form[base_model]=flux-mini\
         &form[licence]=apache-2.0&form[visibility]=public&form[rights]=Drawn for the tests.{more}",
        adapter.id
    )
}

/// As a plain form posts; where it lands.
async fn post(studio: &Studio, function: &str, form: String) -> String {
    let request = Request::post(format!("/api/{function}"))
        .header(header::HOST, "localhost:7860")
        .header(header::ACCEPT, "text/html")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = studio.send(request.body(Body::from(form)).unwrap()).await;
    assert!(answer.status.is_redirection(), "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    answer.headers["location"].to_str().unwrap().to_owned()
}

async fn page(studio: &Studio, path: &str) -> String {
    String::from_utf8(studio.get(path).await.ok().body).unwrap()
}

async fn until_ended(studio: &Studio, adapter: &AdapterId) -> PublishState {
    for _ in 0..2000 {
        match studio.api().publish_state(adapter.clone()).await.unwrap() {
            Some(state) if !state.active => return state,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("it does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_goes_to_the_hub_and_comes_off_it() {
    let hub = Loopback::start().await;
    let studio = studio(&hub, None).await;
    let adapter = adapter(&studio).await;
    let address = format!("/adapters/{}/publish", adapter.id);
    let proposed = studio.api().review_publication(adapter.id.clone(), None).await.unwrap();
    assert_eq!((proposed.request.repo.as_str(), proposed.request.licence.as_str()), ("small-mucha", "apache-2.0"));
    assert!(proposed.publisher == Publisher::Typed && proposed.request.rights.is_empty());
    assert_eq!((proposed.choices.len(), proposed.request.pictures.len()), (1, 1), "the sample of the last checkpoint");
    let html = page(&studio, &address).await;
    for words in
        ["Say whose the training pictures are", "type=\"password\"", "Trigger words", "Front matter", "pytorch_lora_weights.safetensors"]
    {
        assert!(html.contains(words), "{words}");
    }
    assert!(hub.state().heard.is_empty(), "a look at the page asks nothing of the Hub");

    // The card with what was typed; no token in any address.
    let picture = format!("&form[pictures][]={}", proposed.choices[0].id);
    let shown = post(&studio, "show_card", form(&adapter, &format!("{picture}&token={WRITER}"))).await;
    assert!(shown.starts_with(&address) && !shown.contains(WRITER), "{shown}");
    let html = page(&studio, &shown).await;
    assert!(html.contains("Drawn for the tests") && html.contains(&proposed.choices[0].url) && !html.contains("Say whose"), "{html}");

    let landed = post(&studio, "start_publishing", form(&adapter, &format!("{picture}&token={WRITER}"))).await;
    assert!(landed.starts_with(&address) && !landed.contains(WRITER) && !landed.contains("error="), "{landed}");
    let state = until_ended(&studio, &adapter.id).await;
    let published = state.published.expect("published");
    assert_eq!((published.repo.as_str(), published.private), ("ada/mucha", false));
    let files = hub.files("ada/mucha").unwrap();
    let weights = studio.get(&format!("/files/adapters/{}.safetensors", adapter.id)).await.ok().body;
    assert_eq!(files["pytorch_lora_weights.safetensors"], weights);
    assert_eq!(files["images/01.png"], studio.get(&proposed.choices[0].url).await.ok().body);
    let readme = String::from_utf8(files["README.md"].to_vec()).unwrap();
    for words in [
        "load_lora_weights(\"ada/mucha\"",
        "instance_prompt: \"art nouveau panel\"",
        "license: apache-2.0",
        "Drawn for the tests",
        "| Rank | 2 |",
    ] {
        assert!(readme.contains(words), "{words}: {readme}");
    }
    let html = page(&studio, &landed).await;
    assert!(html.contains("compared bit by bit") && html.contains("Unpublish") && html.contains(&published.commit[..8]), "{html}");

    // The next version proposes the same place, and agrees to take it.
    let again = studio.api().review_publication(adapter.id.clone(), None).await.unwrap();
    assert_eq!((again.request.repo.as_str(), again.request.replace), ("ada/mucha", true));
    let request = PublishRequest { rights: "Mine.".into(), private: true, ..again.request };
    studio.api().publish(adapter.id.clone(), request, Some(WRITER.into())).await.unwrap();
    assert_eq!(until_ended(&studio, &adapter.id).await.error, None);
    assert!(hub.commits("ada/mucha") == 2 && hub.state().repos["ada/mucha"].private);
    let listed = studio.api().review_publication(adapter.id.clone(), None).await.unwrap().published;
    assert_eq!((listed.len(), listed[0].private), (1, true));

    let landed = post(&studio, "unpublish_adapter", format!("adapter={}&repo=ada/mucha&token={WRITER}", adapter.id)).await;
    assert_eq!(landed, address);
    assert!(hub.files("ada/mucha").is_none());
    assert!(studio.api().review_publication(adapter.id.clone(), None).await.unwrap().published.is_empty());
    studio.api().delete_adapter(adapter.id).await.unwrap();
    assert_eq!(hub.state().leaks, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_sentences_and_the_form_keeps_what_was_typed() {
    let hub = Loopback::start().await;
    let studio = studio(&hub, None).await;
    let adapter = adapter(&studio).await;
    let typed = form(&adapter, &format!("&token={WRITER}"));
    let cases = [
        ("form[repo]=mucha", "form[repo]=../etc", "no name for a repository"),
        ("form[title]=Small Mucha", "form[title]=", "title is needed"),
        ("form[licence]=apache-2.0", "form[licence]=", "Choose a licence"),
        ("form[base_model]=flux-mini", "form[base_model]=FLUX.1-dev", "flux-1-dev-non-commercial-license"),
        ("form[rights]=Drawn for the tests.", "form[rights]=", "whose the training pictures"),
        ("&token=", "&token=a b", "no token"),
        (&format!("&token={WRITER}"), "", "token with write access is needed"),
    ];
    for (from, to, words) in cases {
        studio.call("start_publishing", &typed.replace(from, to)).await.refused(422, words);
        let landed = post(&studio, "start_publishing", typed.replace(from, to)).await;
        assert!(landed.contains("error=") && landed.contains("reviewed=1") && !landed.contains(WRITER), "{landed}");
        assert!(page(&studio, &landed).await.contains("role=\"alert\""));
    }
    assert!(hub.state().heard.is_empty(), "nothing was asked of the Hub");
    studio.call("start_publishing", &typed.replace(&adapter.id.0, "nobody")).await.refused(404, "no adapter");
    studio
        .call("unpublish_adapter", &format!("adapter={}&repo=ada/thesis&token={WRITER}", adapter.id))
        .await
        .refused(422, "not published there");

    // What the Hub says no to, the page says in words.
    let stranger = "hf_nobodyKnowsThisOne00000000000000";
    for (token, fault, words) in [
        (READER, None, "reading only"),
        (stranger, None, "does not know this token"),
        (WRITER, Some(("/repos/create", Fault::Status(403))), "may not create ada/mucha"),
        (WRITER, Some(("/whoami", Fault::TooMany(600))), "in 10 minutes"),
    ] {
        if let Some((path, fault)) = fault {
            hub.fault(path, fault);
        }
        post(&studio, "start_publishing", typed.replace(WRITER, token)).await;
        let error = until_ended(&studio, &adapter.id).await.error.expect("an error");
        assert_sentence(&error, words);
        assert!(!error.contains(token));
        let html = page(&studio, &format!("/adapters/{}/publish", adapter.id)).await;
        assert!(html.contains(words) && !html.contains(token), "{words}");
        assert!(hub.files("ada/mucha").is_none());
    }
    hub.put("ada/mucha", &[("README.md", "a card"), ("adapter.json", "{}"), ("pytorch_lora_weights.safetensors", "x")]);
    post(&studio, "start_publishing", typed).await;
    let error = until_ended(&studio, &adapter.id).await.error.expect("an error");
    assert_sentence(&error, "holds an adapter already");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configured_token_serves_the_person_at_this_machine_alone() {
    let hub = Loopback::start().await;
    let studio = studio(&hub, Some(WRITER)).await;
    let adapter = adapter(&studio).await;
    let html = page(&studio, &format!("/adapters/{}/publish", adapter.id)).await;
    assert!(html.contains("configured on this machine") && !html.contains("type=\"password\"") && !html.contains(WRITER));
    studio.call("start_publishing", &form(&adapter, "")).await.ok();
    assert_eq!(until_ended(&studio, &adapter.id).await.error, None);
    assert!(hub.files("ada/mucha").is_some());

    // Others come by the machine's address, or through a proxy before it.
    let settings = HubSettings { endpoint: hub.endpoint.clone(), token: Some(Token::new(WRITER).unwrap()) };
    let open = Config { host: "0.0.0.0".parse().unwrap(), hub: settings.clone(), ..Config::default() };
    let proxied = Config { public: Some("https://atelier.example".parse().unwrap()), hub: settings, ..Config::default() };
    for config in [open, proxied] {
        let studio = Studio::open_with(config).await;
        let adapter = self::adapter(&studio).await;
        studio.call("start_publishing", &form(&adapter, "")).await.refused(422, "token with write access is needed");
        studio.get("/api/v1/studio").await.refused(401, "token");
        assert!(studio.state.rates.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_ends_before_the_process_does() {
    let hub = Loopback::start().await;
    let studio = studio(&hub, Some(WRITER)).await;
    let adapter = adapter(&studio).await;
    studio.call("start_publishing", &form(&adapter, "")).await.ok();
    studio.state.publishing.shut_down().await;
    let state = studio.api().publish_state(adapter.id.clone()).await.unwrap().unwrap();
    assert!(!state.active && state.published.is_some(), "{state:?}");
    assert_eq!(studio.api().review_publication(adapter.id.clone(), None).await.unwrap().published.len(), 1);
    studio.call("start_publishing", &form(&adapter, "&form[replace]=1")).await.refused(503, "started anew");
}
