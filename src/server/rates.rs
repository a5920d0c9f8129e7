//! How often one visitor may ask: nobody who shares a studio keeps it from the others.

use super::{AppState, error::refused, visitor::Visitor};
use crate::store::Owner;
use app::api::{ApiError, ApiResult};
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::Response,
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock, clock::DefaultClock};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

/// Requests a second in the long run, and how many at once.
const READS: (u32, u32) = (30, 600);
/// A minute, and at once.
const CHANGES: (u32, u32) = (60, 40);
const SIGN_INS: (u32, u32) = (30, 60);
/// Streams of events that one person may keep open.
const MOST_WATCHERS: usize = 32;
/// Visitors remembered before those who have been quiet are forgotten.
const MOST_VISITORS: usize = 20_000;

type Limiter = DefaultKeyedRateLimiter<String>;

pub struct Rates {
    reads: Limiter,
    changes: Limiter,
    sign_ins: Limiter,
    watching: Mutex<HashMap<Owner, Arc<()>>>,
    /// Something before us ends TLS, and puts the visitor's address last in `X-Forwarded-For`.
    proxied: bool,
}

impl Rates {
    pub fn new(proxied: bool) -> Self {
        let number = |value: u32| NonZeroU32::new(value).expect("a constant above 0");
        let per_minute = |(rate, burst): (u32, u32)| RateLimiter::keyed(Quota::per_minute(number(rate)).allow_burst(number(burst)));
        let reads = RateLimiter::keyed(Quota::per_second(number(READS.0)).allow_burst(number(READS.1)));
        Self { reads, changes: per_minute(CHANGES), sign_ins: per_minute(SIGN_INS), watching: Mutex::default(), proxied }
    }

    /// Seconds to wait, when this is too much.
    fn check(&self, request: &Request) -> Result<(), u64> {
        let address = self.address(request);
        let (limiter, key) = match (request.uri().path(), request.method()) {
            // By address: there is nobody yet.
            (path, _) if path.starts_with("/sign-in/") => (&self.sign_ins, address),
            (path, method) if is_read(path, method) => (&self.reads, visitor(request).unwrap_or(address)),
            _ => (&self.changes, visitor(request).unwrap_or(address)),
        };
        if limiter.len() > MOST_VISITORS {
            limiter.retain_recent();
        }
        limiter.check_key(&key).map_err(|not_yet| not_yet.wait_time_from(DefaultClock::default().now()).as_secs() + 1)
    }

    /// Counts a watcher of this owner's as long as what is returned lives; refused when there are too many.
    pub fn watch(&self, owner: &Owner) -> ApiResult<Arc<()>> {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        // One is the map's own.
        watching.retain(|_, watchers| Arc::strong_count(watchers) > 1);
        let watchers = watching.entry(owner.clone()).or_default();
        match Arc::strong_count(watchers) > MOST_WATCHERS {
            true => Err(ApiError::new(429, format!("You watch {MOST_WATCHERS} runs already; close a page or a connection first."))),
            false => Ok(watchers.clone()),
        }
    }

    fn address(&self, request: &Request) -> String {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let address = if self.proxied { forwarded(request.headers()).or(peer) } else { peer };
        address.map_or_else(|| "unknown".to_owned(), network)
    }
}

/// Server functions are posted to, those that only look too: pages ask how a run stands twice a second.
pub(super) fn is_read(path: &str, method: &Method) -> bool {
    const LOOKS: [&str; 4] = ["/api/get_", "/api/list_", "/api/predict_", "/api/show_"];
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || LOOKS.iter().any(|prefix| path.starts_with(prefix))
}

/// By person, wherever they sit.
fn visitor(request: &Request) -> Option<String> {
    match request.extensions().get()? {
        Visitor::Member(member) => Some(format!("user {}", member.user.id)),
        Visitor::Local | Visitor::Stranger { .. } => None,
    }
}

/// What a visitor sends stands before what the proxy adds.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// One household has 2⁶⁴ addresses of IPv6.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).to_string(),
        address => address.to_string(),
    }
}

pub async fn limit(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match state.rates.as_ref().map_or(Ok(()), |rates| rates.check(&request)) {
        Ok(()) => next.run(request).await,
        Err(seconds) => {
            let sentence = format!("That was too much at once. Try again in {seconds} seconds.");
            let mut response = refused(request.uri().path(), ApiError::new(429, sentence));
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn request(method: Method, path: &str, forwarded: &str) -> Request {
        let request = Request::builder().method(method).uri(path).header("x-forwarded-for", forwarded);
        request.extension(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 1)))).body(Body::empty()).unwrap()
    }

    #[test]
    fn each_address_has_its_own_share_and_a_forged_one_is_not_believed() {
        let rates = Rates::new(true);
        let change = |forwarded: &str| rates.check(&request(Method::POST, "/api/x", forwarded));
        let allowed = (0..200).filter(|i| change(&format!("198.51.100.{i}, 203.0.113.7")).is_ok()).count();
        assert!((CHANGES.1 as usize..CHANGES.1 as usize + 5).contains(&allowed), "{allowed}");
        assert!(change("203.0.113.7").is_err_and(|seconds| (1..=60).contains(&seconds)));
        assert!(change("203.0.113.8").is_ok());
        assert!(rates.check(&request(Method::GET, "/", "203.0.113.7")).is_ok(), "reading goes on");
        assert!(rates.check(&request(Method::POST, "/api/get_run", "203.0.113.7")).is_ok());
        let direct = Rates::new(false);
        let allowed = (0..200).filter(|i| direct.check(&request(Method::POST, "/", &format!("203.0.113.{i}"))).is_ok()).count();
        assert!(allowed < 50, "nobody forwards, so the header is the visitor's own");
    }

    #[test]
    fn a_household_is_one_visitor() {
        assert_eq!(network("2001:db8:1:2:3::1".parse().unwrap()), network("2001:db8:1:2:ffff::9".parse().unwrap()));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1");
    }
}
