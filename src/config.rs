//! What the surroundings decide: address, folders, model. The only reader of the environment besides clap's `env`.

use crate::hub::Token;
use engine::checkpoint::Chosen;
use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// What `atelier serve` is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Loopback unless told otherwise: nobody signs in here.
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
}

/// Where adapters are published, and with whose token.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Address of the site.
    pub endpoint: String,
    /// `None`: whoever publishes gives one.
    pub token: Option<Token>,
}

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
        }
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
