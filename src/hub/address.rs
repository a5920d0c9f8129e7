//! Addresses that secrets may travel to: encrypted ones, and those of this machine.

use reqwest::Url;
use std::net::IpAddr;

pub fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && url.host_str().is_some_and(names_this_machine))
}

/// A host without its port.
pub fn names_this_machine(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
