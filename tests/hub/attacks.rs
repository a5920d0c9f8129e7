//! What somebody with bad intentions tries, over real connections.

use super::{
    loopback::{
        Loopback, WRITER,
        oauth::{ADA, APP_ID, APP_SECRET, BOB},
    },
    sign_in::bring_adapter,
    site::{Browser, Site},
    studio::assert_sentence,
};
use app::api::*;
use reqwest::{Method, StatusCode};
use std::{
    io::Read,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const DRAW: &str = "form[prompt]=a lake&form[size]=64x64&form[steps]=2";

async fn account(browser: &Browser) -> Account {
    browser.call("get_account", "").await.ok().json()
}

async fn runs(browser: &Browser) -> usize {
    browser.call("list_runs", "active=false&limit=100").await.ok().json::<Vec<Run>>().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_cannot_use_a_visitors_cookies() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let browser = site.signed_in(&hub, ADA).await;
    let set: DatasetId = browser.call("use_sample_set", "name=mucha").await.ok().json();
    let targets = [
        ("/api/start_generation", DRAW.to_owned()),
        ("/api/delete_dataset", format!("id={set}")),
        ("/upload/dataset", String::new()),
        ("/sign-out", String::new()),
        ("/sign-in/code", "code=AAAA-AAAA".into()),
    ];
    type From = &'static [(&'static str, &'static str)];
    let origins: [From; 7] = [
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "http://localhost.evil.example")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", "http://other.localhost")],
        &[("referer", "https://evil.example/")],
        // Cookies, and not a word about where it comes from: no browser does that.
        &[],
    ];
    for (path, form) in &targets {
        for headers in origins {
            let request = headers.iter().fold(browser.form(path, form), |request, (name, value)| request.header(*name, *value));
            browser.send(request).await.refused(403, "another site");
        }
        // By a link or a picture: reading changes nothing.
        let read = browser.send(browser.request(Method::GET, &format!("{path}?{form}")).header("sec-fetch-site", "cross-site")).await;
        assert!(!read.status.is_success() || read.text.contains("<h1"), "{path}: {}", read.text);
    }
    assert_eq!(runs(&browser).await, 0);
    assert!(matches!(account(&browser).await, Account::Member(_)));
    browser.call("get_dataset", &format!("id={set}")).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_somebody_planted_is_not_the_one_that_opens() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    // Mallory's own session, put into the victim's browser before she signs in.
    let mallory = site.signed_in(&hub, BOB).await;
    let planted = mallory.jar().clone();
    hub.oauth(|oauth| oauth.person = ADA);
    let victim = site.browser();
    *victim.jar() = planted.clone();
    victim.sign_in("/").await;
    assert_ne!(victim.jar()["session"], planted["session"]);
    assert!(matches!(account(&victim).await, Account::Member(member) if member.username == "ada"));
    let known = site.browser();
    *known.jar() = planted;
    assert!(matches!(account(&known).await, Account::Stranger { .. }), "the planted one is over");
    // Signing in again changes the key too.
    let before = victim.jar().clone();
    victim.sign_in("/").await;
    *known.jar() = before;
    assert!(matches!(account(&known).await, Account::Stranger { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_that_were_made_up_or_changed_open_nothing() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let browser = site.signed_in(&hub, ADA).await;
    let good = browser.jar()["session"].clone();
    let changed: String = good.chars().rev().collect();
    let other = Site::open(&hub).await.signed_in(&hub, ADA).await.jar()["session"].clone();
    for value in ["", "ada", &good[..good.len() - 4], &changed, &other, &"A".repeat(4000)] {
        browser.jar().insert("session".into(), value.to_owned());
        assert_eq!(account(&browser).await, Account::Stranger { framed: false }, "{value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_counts_once_for_the_browser_that_began() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let refused = async |browser: &Browser, path: &str, words: &str| {
        let landed = browser.get(path).await;
        assert!(landed.location().starts_with("/sign-in?error="), "{path}: {} {}", landed.location(), landed.text);
        assert_sentence(&landed.error(), words);
        assert_eq!(account(browser).await, Account::Stranger { framed: false });
    };
    // Mallory sends the victim her own way back, to have the victim work under her name.
    let (mallory, victim) = (site.browser(), site.browser());
    let hers = mallory.authorized("/sign-in/start").await;
    refused(&victim, &hers, "began no sign-in").await;
    victim.authorized("/sign-in/start").await;
    refused(&victim, &hers, "not the sign-in that this browser began").await;

    // Another state, none, or one cut short.
    for spoil in [|path: &str| path.replace("state=", "state=x"), |path: &str| path.replace("state=", "estate=")] {
        let back = victim.authorized("/sign-in/start").await;
        refused(&victim, &spoil(&back), "not the sign-in that this browser began").await;
        // The attempt is over: not even the right one is taken now.
        refused(&victim, &back, "began no sign-in").await;
    }
    // A code of another attempt, for which this browser's verifier does not fit.
    let other = site.browser().authorized("/sign-in/start").await;
    let back = victim.authorized("/sign-in/start").await;
    let code = |path: &str| path.split("code=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    refused(&victim, &back.replace(&code(&back), &code(&other)), "code verifier does not fit").await;
    // A code that nobody gave out; no code; an error in somebody else's words.
    let back = victim.authorized("/sign-in/start").await;
    refused(&victim, &back.replace("loopback-code-", "x"), "unknown or was used before").await;
    let back = victim.authorized("/sign-in/start").await;
    refused(&victim, &back.replace("code=", "error=%3Cscript%3E&c="), "refused over there").await;

    // Used twice, with the cookie kept: the provider knows the code no more.
    let back = victim.authorized("/sign-in/start").await;
    let kept = victim.jar().clone();
    assert_eq!(victim.get(&back).await.location(), "/");
    let thief = site.browser();
    *thief.jar() = kept;
    refused(&thief, &back, "unknown or was used before").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_to_another_site() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    for then in [
        "//evil.example",
        "https://evil.example",
        "/%5Cevil.example",
        "%2F%09%2Fevil.example",
        "javascript:alert(1)",
        "/..%2F%2Fevil.example",
    ] {
        let browser = site.browser();
        let landed = browser.sign_in(then).await;
        let location = landed.location();
        let gone_to = reqwest::Url::parse("http://localhost:1/sign-in/callback").unwrap().join(location).unwrap();
        assert_eq!(gone_to.host_str(), Some("localhost"), "{then}: {location}");
        assert!(location.starts_with('/') && !location.starts_with("//"), "{then}: {location}");
        // The tab that a frame opened says where to go on.
        let page = browser.get(&format!("/sign-in?code=1&then={then}")).await.ok().text;
        let before = page.split("Or go on in this tab").next().unwrap();
        let link = before.rsplit("href=\"").next().unwrap().split('"').next().unwrap();
        assert!(page.contains("handover-code") && link == "/", "{then}: {link}");
    }
    // The provider sends nobody to an address that is not the app's, and Atelier builds that from its own, not from the request.
    let elsewhere = Browser::new(&site.address, &site.address);
    let sent = elsewhere.get("/sign-in/start?then=/train&again=1").await;
    assert_eq!(sent.location(), format!("{}/sign-in/start?again=1&frame=&here=1&then=%2Ftrain", site.public), "under its own name first");
    let browser = site.browser();
    let sent = browser.send(browser.request(Method::GET, "/sign-in/start").header("x-forwarded-host", "evil.example")).await;
    assert!(sent.location().contains("redirect_uri=http%3A%2F%2Flocalhost") && !sent.location().contains("evil"), "{}", sent.location());
    hub.oauth(|oauth| oauth.redirects.clear());
    let provider = reqwest::get(sent.location()).await.unwrap();
    assert_eq!(provider.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_for_this_machine_reads_nothing() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let browser = site.signed_in(&hub, ADA).await;
    for path in ["/", "/gallery", "/api/list_pictures", "/health"] {
        let rebound = Browser::new(&site.address, "http://rebound.example");
        *rebound.jar() = browser.jar().clone();
        let answer = rebound.get(path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_from_a_visitor_reach_no_other_address_and_no_other_file() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let browser = site.signed_in(&hub, ADA).await;
    let adapter = bring_adapter(&browser, "Lakes").await;
    let heard = hub.state().heard.len();
    let form = |repo: &str, base: &str| {
        format!(
            "adapter={}&form[reviewed]=1&form[repo]={repo}&form[title]=Lakes&form[base_model]={base}&form[licence]=apache-2.0\
             &form[rights]=Mine.",
            adapter.id
        )
    };
    for repo in ["../../api/whoami-v2", "ada/../bob/x", "http://169.254.169.254/latest", "@evil.example/x", "ada/x?y", "ada/x%23", "a/b/c"]
    {
        browser.call("start_publishing", &form(repo, "flux-mini")).await.refused(422, "no name for a repository");
        browser.call("unpublish_adapter", &format!("adapter={}&repo={repo}", adapter.id)).await.refused(422, "not published there");
    }
    for base in ["../../etc/passwd", "http://169.254.169.254/x", "a/b/c"] {
        let answer = browser.call("start_publishing", &form("lakes", base)).await;
        assert_eq!(answer.status.as_u16(), 422, "{base}: {}", answer.text);
    }
    assert_eq!(hub.state().heard.len(), heard, "nothing was asked of anybody");
    for path in [
        "/files/pictures/..%2F..%2Fatelier.db",
        "/files/adapters/..%2F..%2Flock.json",
        "/files/runs/..%2F..%2F..%2Fetc/samples/passwd",
        "/files/datasets/..%2F../atelier.db",
        "/pkg/..%2F..%2F..%2FCargo.toml",
        "/style-sets/..%2F..%2FCargo.toml",
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!answer.text.contains("[package]") && !answer.text.contains("root:"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_waits_and_others_do_not() {
    let hub = Loopback::start().await;
    let site = Site::open(&hub).await;
    let (ada, bob) = (site.signed_in(&hub, ADA).await, site.signed_in(&hub, BOB).await);
    let mut refused = None;
    for _ in 0..100 {
        let answer = ada.call("stop_run", "id=nobody").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("somewhere is an end");
    refused.refused(429, "too much at once");
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    bob.call("stop_run", "id=nobody").await.refused(404, "no run");
    ada.call("get_account", "").await.ok();
    ada.get("/gallery").await.ok();
    // At the door, by address.
    let mut stopped = false;
    for _ in 0..100 {
        stopped |= site.browser().get("/sign-in/start").await.status == StatusCode::TOO_MANY_REQUESTS;
    }
    assert!(stopped);
}

/// `atelier serve` that says everything it can.
struct Program {
    child: Child,
    address: String,
}

impl Program {
    async fn start(hub: &Loopback, data: &std::path::Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_atelier"));
        command.args(["serve", "-vvv", "--port", &port.to_string(), "--data-dir"]).arg(data);
        command.env("OAUTH_CLIENT_ID", APP_ID).env("OAUTH_CLIENT_SECRET", APP_SECRET).env("OPENID_PROVIDER_URL", &hub.endpoint);
        command.env("OAUTH_SCOPES", "openid profile contribute-repos").env("HF_ENDPOINT", &hub.endpoint).env("HF_TOKEN", WRITER);
        command.env("ATELIER_SECRET", COOKIE_SECRET).env_remove("SPACE_ID").env_remove("SPACE_HOST");
        let log = std::fs::File::create(data.with_extension("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let program = Self { child, address: format!("http://127.0.0.1:{port}") };
        let deadline = Instant::now() + Duration::from_secs(60);
        // It answers at once, and is a studio when it says so.
        while !reqwest::get(format!("{}/health", program.address)).await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(Instant::now() < deadline, "no studio within a minute");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        hub.oauth(|oauth| oauth.redirects.push(format!("http://localhost:{port}/sign-in/callback")));
        program
    }

    fn browser(&self) -> Browser {
        Browser::new(&self.address, &self.address.replace("127.0.0.1", "localhost"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have left already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const COOKIE_SECRET: &str = "a secret for cookies that nobody guesses";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log_of_everything_nor_in_the_store() {
    let hub = Loopback::start().await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let program = Program::start(&hub, &data).await;
    let browser = program.browser();
    let mut secrets = vec![WRITER.to_owned(), APP_SECRET.to_owned(), COOKIE_SECRET.to_owned()];
    let sign_in = async |secrets: &mut Vec<String>| {
        let back = browser.authorized("/sign-in/start").await;
        secrets.extend(browser.jar().values().cloned());
        let value = |name: &str| back.split(&format!("{name}=")).nth(1).unwrap().split('&').next().unwrap().to_owned();
        secrets.extend([value("code"), value("state")]);
        browser.get(&back).await;
        secrets.extend(browser.jar().values().cloned());
        secrets.push(hub.newest_token());
    };
    sign_in(&mut secrets).await;
    let adapter = bring_adapter(&browser, "Lakes").await;
    let form = format!(
        "adapter={}&form[reviewed]=1&form[repo]=lakes&form[title]=Lakes&form[base_model]=flux-mini&form[licence]=apache-2.0&form[rights]=Mine.",
        adapter.id
    );
    let publish = async |form: &str| {
        browser.call("start_publishing", form).await.ok();
        loop {
            let state: Option<PublishState> = browser.call("get_publish_state", &format!("adapter={}", adapter.id)).await.ok().json();
            match state {
                Some(state) if !state.active => return state,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    assert_eq!(publish(&form).await.error, None);
    // What fails is logged too.
    hub.revoke(&hub.newest_token());
    assert!(publish(&format!("{form}&form[replace]=1")).await.error.is_some());
    hub.oauth(|oauth| oauth.lie = Some(("nonce", "another")));
    sign_in(&mut secrets).await;
    hub.oauth(|oauth| oauth.lie = None);
    let code = browser.call("get_sign_in_code", "").await;
    if code.status.is_success() {
        secrets.push(code.json());
    }
    drop(program);
    let mut log = String::new();
    std::fs::File::open(data.with_extension("log")).unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("TRACE") && log.contains("signed in") && log.contains("/sign-in/callback"), "everything is logged");
    let database = [data.join("atelier.db"), data.join("atelier.db-wal")].map(|file| std::fs::read(file).unwrap_or_default()).concat();
    let database = String::from_utf8_lossy(&database);
    assert!(secrets.len() >= 10, "{}", secrets.len());
    for secret in secrets {
        assert!(secret.len() >= 8, "{secret:?} is no secret");
        for (place, text) in [("log", log.as_str()), ("database", &*database)] {
            if let Some(at) = text.find(&secret) {
                let line = text[..at].rfind('\n').map_or(0, |start| start + 1);
                panic!("{secret} is in the {place}: {}", text[line..].lines().next().unwrap_or_default());
            }
        }
    }
}
