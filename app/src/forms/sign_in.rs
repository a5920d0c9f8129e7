//! Where signing in begins.

use super::write_pairs;

/// Lands on `then` afterwards. `again` asks for the permissions even if they were given before.
pub fn href(then: &str, again: bool) -> String {
    let again = if again { Some(("again", "1")) } else { None };
    let pairs: Vec<_> = again.into_iter().chain([("then", then)]).collect();
    format!("/sign-in/start?{}", write_pairs(&pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_to_land_on_is_escaped() {
        assert_eq!(href("/?prompt=a&run=1", false), "/sign-in/start?then=%2F%3Fprompt%3Da%26run%3D1");
        assert_eq!(href("/", true), "/sign-in/start?again=1&then=%2F");
    }
}
