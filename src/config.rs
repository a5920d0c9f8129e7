//! What the surroundings decide: address, folders, model. The only reader of the environment besides clap's `env`.

mod storage;

pub use storage::Storage;

use crate::hub::{
    Token,
    address::{is_safe, names_this_machine},
};
use engine::checkpoint::Chosen;
use reqwest::Url;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use std::{
    env, fmt, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// What `atelier serve` is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Loopback unless told otherwise.
    pub host: IpAddr,
    pub port: u16,
    /// Database, pictures, style sets, adapters, trainings.
    pub data_dir: PathBuf,
    /// FLUX.1: a folder in diffusers layout, or a file.
    pub model: PathBuf,
    /// Files that go with it.
    pub chosen: Chosen,
    pub device: engine::device::Choice,
    /// Of the transformer; `None` is what the device holds best.
    pub precision: Option<engine::Precision>,
    /// Pages' scripts, styles and sample sets, as the build lays them out; `None` looks where they usually are.
    pub site: Option<PathBuf>,
    pub hub: HubSettings,
    pub backup: Option<BackupSettings>,
    pub api_keys: ApiKeys,
    /// `None`: one person at one machine, who need not say who they are.
    pub sign_in: Option<SignInSettings>,
    /// How browsers reach the studio; `None` is `http://localhost` and the port.
    pub public: Option<PublicAddress>,
    /// A Hugging Face Space: shown in a frame of the Hub's page, behind its proxy.
    pub in_space: bool,
    pub limits: UserLimits,
}

/// A folder that the store is copied to, and goes on from where the data folder is empty.
#[derive(Clone, Debug)]
pub struct BackupSettings {
    pub folder: PathBuf,
    pub every: Duration,
}

/// Tokens of the HTTP API that the surroundings bring, beside those that the store keeps: SHA-256 of each.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys(Vec<[u8; 32]>);

/// Where adapters are published, and with whose token.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Address of the site.
    pub endpoint: String,
    /// `None`: whoever publishes gives one.
    pub token: Option<Token>,
}

/// How people sign in, in the words of a Space's surroundings.
#[derive(Clone, Debug)]
pub struct SignInSettings {
    /// Address of the OpenID provider.
    pub provider: String,
    pub client_id: String,
    /// `None` for an app that cannot keep one.
    pub client_secret: Option<SecretString>,
    /// Asked for, all of them, in words.
    pub scopes: Vec<String>,
    /// What cookies are encrypted with; `None` makes one, and a restart signs everybody out.
    pub cookie_secret: Option<SecretString>,
    pub hosts: Hosts,
}

/// Whose studio it is. They see everybody's work.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// The provider's ids.
    pub ids: Vec<String>,
    pub usernames: Vec<String>,
}

/// What one user may take of a machine that is shared.
#[derive(Clone, Copy, Debug)]
pub struct UserLimits {
    /// Runs that wait or run at a time.
    pub runs: u32,
    /// Optimiser steps of a training.
    pub train_steps: u32,
    /// Bytes of pictures, style sets, adapters and trainings.
    pub storage: u64,
}

/// Where browsers find the studio, without a path: `https://ada-atelier.hf.space`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicAddress(Url);

impl Config {
    pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    pub const PORT: u16 = 7860;
    pub const DATA_DIR: &str = "data";
    pub const MODEL: &str = "models/flux-mini";
    const SITE: &str = "target/site";

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    pub fn site_folder(&self) -> PathBuf {
        self.site.clone().unwrap_or_else(|| found(Self::SITE))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: Self::HOST,
            port: Self::PORT,
            data_dir: Self::DATA_DIR.into(),
            model: default_model(),
            chosen: Chosen::default(),
            device: Default::default(),
            precision: None,
            site: None,
            hub: HubSettings::default(),
            backup: None,
            api_keys: ApiKeys::default(),
            sign_in: None,
            public: None,
            in_space: false,
            limits: UserLimits::default(),
        }
    }
}

impl ApiKeys {
    const SHORTEST: usize = 20;

    /// `ATELIER_API_TOKENS`: one, or several with commas or white space between.
    pub fn from_environment() -> Result<Self, String> {
        Self::read(&text("ATELIER_API_TOKENS").unwrap_or_default())
    }

    fn read(tokens: &str) -> Result<Self, String> {
        let tokens: Vec<&str> = tokens.split([',', ' ', '\t', '\n', '\r']).filter(|token| !token.is_empty()).collect();
        match tokens.iter().all(|token| token.len() >= Self::SHORTEST && token.bytes().all(|byte| byte.is_ascii_graphic())) {
            true => Ok(Self::of(&tokens)),
            // Not told which: the log would tell whoever reads it.
            false => Err(format!(
                "ATELIER_API_TOKENS: each token needs {} plain characters or more; `openssl rand -hex 32` makes one",
                Self::SHORTEST
            )),
        }
    }

    pub fn of(tokens: &[&str]) -> Self {
        Self(tokens.iter().map(|token| Sha256::digest(token).into()).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn admit(&self, token: &str) -> bool {
        self.0.contains(&Sha256::digest(token).into())
    }
}

impl Default for HubSettings {
    fn default() -> Self {
        Self { endpoint: "https://huggingface.co".into(), token: None }
    }
}

impl HubSettings {
    /// By the rules of `huggingface_hub`: `HF_ENDPOINT`; `HF_TOKEN`, else the file that `hf auth login` wrote.
    pub fn from_environment() -> Self {
        let Self { endpoint, token } = Self::default();
        let endpoint = text("HF_ENDPOINT").unwrap_or(endpoint);
        if text("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| !["0", "false", "no", "off"].contains(&value.to_lowercase().as_str()))
        {
            return Self { endpoint, token };
        }
        let stored = text("HF_TOKEN").or_else(|| fs::read_to_string(token_file()?).ok());
        let token = stored.filter(|text| !text.trim().is_empty()).and_then(|text| match Token::new(&text) {
            Ok(token) => Some(token),
            Err(_) => {
                tracing::warn!("HF_TOKEN, or the token file, holds no token, and is ignored");
                None
            }
        });
        Self { endpoint, token }
    }
}

impl Default for UserLimits {
    fn default() -> Self {
        Self { runs: 10, train_steps: 5000, storage: 20 << 30 }
    }
}

impl SignInSettings {
    /// What an adapter needs to go to the Hub, and nothing that was there before.
    const SCOPES: &str = "openid profile contribute-repos";
    /// Two of these are no secret.
    const SHORTEST_SECRET: usize = 32;

    /// `None` without `OAUTH_CLIENT_ID`. A Space with `hf_oauth: true` sets `OAUTH_…` and `OPENID_PROVIDER_URL`.
    pub fn from_environment() -> Result<Option<Self>, String> {
        let Some(client_id) = text("OAUTH_CLIENT_ID") else { return Ok(None) };
        let client_secret = text("OAUTH_CLIENT_SECRET");
        let cookie_secret = text("ATELIER_SECRET");
        if cookie_secret.as_ref().is_some_and(|secret| secret.len() < Self::SHORTEST_SECRET) {
            return Err(format!("ATELIER_SECRET is too short; give {} letters or more that nobody can guess", Self::SHORTEST_SECRET));
        }
        Ok(Some(Self {
            provider: text("OPENID_PROVIDER_URL").unwrap_or_else(|| HubSettings::default().endpoint),
            client_id,
            scopes: words(&text("OAUTH_SCOPES").unwrap_or_else(|| Self::SCOPES.into())),
            cookie_secret: cookie_secret.or_else(|| client_secret.clone()).map(SecretString::from),
            client_secret: client_secret.map(SecretString::from),
            hosts: Hosts::from_environment(),
        }))
    }
}

impl Hosts {
    /// `ATELIER_OWNERS` names them; else whoever made the Space, by id where that is told, since a username may come to be somebody else's.
    fn from_environment() -> Self {
        if let Some(usernames) = text("ATELIER_OWNERS") {
            return Self { ids: Vec::new(), usernames: words(&usernames.replace(',', " ")) };
        }
        match text("SPACE_CREATOR_USER_ID") {
            Some(id) => Self { ids: vec![id], usernames: Vec::new() },
            None => Self { ids: Vec::new(), usernames: text("SPACE_AUTHOR_NAME").into_iter().collect() },
        }
    }

    pub fn include(&self, id: &str, username: &str) -> bool {
        self.ids.iter().any(|host| host == id) || self.usernames.iter().any(|host| host.eq_ignore_ascii_case(username))
    }
}

impl PublicAddress {
    /// In a Space; there may be several names, the first of which is the Space's own.
    pub fn from_environment() -> Option<Self> {
        format!("https://{}", text("SPACE_HOST")?.split(',').next()?.trim()).parse().ok()
    }

    pub fn local(port: u16) -> Self {
        Self(Url::parse(&format!("http://localhost:{port}")).expect("an address"))
    }

    /// `path` begins with a slash.
    pub fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(path);
        url
    }

    /// As browsers write it in `Origin`.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// As browsers write it in `Host`.
    pub fn authority(&self) -> &str {
        self.0.authority()
    }

    /// A name of this machine, which nobody elsewhere reaches it by.
    pub fn is_local(&self) -> bool {
        self.0.host_str().is_some_and(names_this_machine)
    }

    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl FromStr for PublicAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address of a site; write one such as https://atelier.example, without a path");
        let url = Url::parse(text).map_err(|_| wrong())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        match (url.scheme(), bare) {
            ("https" | "http", true) if is_safe(&url) => Ok(Self(url)),
            ("http", true) => Err(format!("{text} is not encrypted, so nobody could sign in safely; give an https:// address")),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for PublicAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

/// Inside a Hugging Face Space.
pub fn in_space() -> bool {
    text("SPACE_ID").is_some()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn token_file() -> Option<PathBuf> {
    let home = || env::home_dir().map(|home| home.join(".cache"));
    let caches = || text("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let folder = || text("HF_HOME").map(PathBuf::from).or_else(|| Some(caches()?.join("huggingface")));
    text("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(folder()?.join("token")))
}

/// A variable that says something.
fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// The embedded model, from wherever the program was started.
pub fn default_model() -> PathBuf {
    found(Config::MODEL)
}

/// The folder of the style sets that ship with Atelier.
pub fn style_sets() -> PathBuf {
    found("public/style-sets")
}

/// Gives the cores to the engine's kernels. candle spreads its own elementwise operations over a second pool, whose threads spin
/// between them: 65 % of a training step's profile on two cores. Call it before there is any other thread.
pub fn leave_cores_to_the_engine() {
    // SAFETY: `main` calls this first, so no other thread reads or writes the environment.
    unsafe { env::set_var("CANDLE_NUM_THREADS", "1") }
}

/// A path of the project: below the working folder, or below a folder above the program (`target/release/atelier`).
fn found(path: &str) -> PathBuf {
    let path = Path::new(path);
    let program = env::current_exe().and_then(|program| program.canonicalize()).unwrap_or_default();
    let above = program.ancestors().skip(1).take(4).map(|folder| folder.join(path));
    std::iter::once(path.to_owned()).chain(above).find(|candidate| candidate.exists()).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_tokens_are_long_and_kept_as_hashes() {
        let keys = ApiKeys::read(" 0123456789abcdef0123,\nfedcba9876543210fedc ").unwrap();
        assert!(keys.admit("0123456789abcdef0123") && keys.admit("fedcba9876543210fedc"));
        assert!(!keys.admit("") && !keys.admit("0123456789abcdef0123,"));
        assert!(!format!("{keys:?}").contains("0123456789abcdef"));
        assert!(ApiKeys::read("").unwrap().is_empty());
        for bad in ["short", "0123456789abcdef0123, x", "0123456789abcdef012\u{e4}"] {
            assert!(!ApiKeys::read(bad).unwrap_err().contains(bad));
        }
    }

    #[test]
    fn a_public_address_is_a_site_that_is_encrypted_or_here() {
        let space: PublicAddress = "https://ada-atelier.hf.space".parse().unwrap();
        assert_eq!(space.join("/sign-in/callback").as_str(), "https://ada-atelier.hf.space/sign-in/callback");
        assert_eq!((space.origin().as_str(), space.authority()), ("https://ada-atelier.hf.space", "ada-atelier.hf.space"));
        let local: PublicAddress = "http://127.0.0.1:7860".parse().unwrap();
        assert!(!local.is_encrypted() && local.authority() == "127.0.0.1:7860");
        for bad in
            ["http://atelier.example", "ada-atelier.hf.space", "https://a.example/path", "https://a@b.example", "ftp://localhost", ""]
        {
            assert!(bad.parse::<PublicAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_is_known_by_id_before_name() {
        let hosts = Hosts { ids: vec!["5f1".into()], usernames: Vec::new() };
        assert!(hosts.include("5f1", "renamed") && !hosts.include("other", "ada"));
        assert!(Hosts { ids: Vec::new(), usernames: vec!["Ada".into()] }.include("x", "ada"));
        assert!(!Hosts::default().include("", ""));
    }
}
