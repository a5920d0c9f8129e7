//! Where signing in begins, and where it may lead.

use super::write_pairs;

/// Lands on `then` afterwards. `again` asks for the permissions even if they were given before.
pub fn href(then: &str, again: bool) -> String {
    let again = if again { Some(("again", "1")) } else { None };
    let pairs: Vec<_> = again.into_iter().chain([("then", then)]).collect();
    format!("/sign-in/start?{}", write_pairs(&pairs))
}

/// The page to go on to after signing in; the first page for whatever could lead elsewhere.
pub fn landing(wanted: String) -> String {
    if stays_here(&wanted) { wanted } else { "/".to_owned() }
}

/// As browsers read a link: they pass over tabs and line breaks, and take `\` for `/`; two slashes begin the name of a site.
fn stays_here(page: &str) -> bool {
    let path = page.split(['?', '#']).next().unwrap_or_default();
    page.starts_with('/') && !path.contains("//") && !page.contains(|c: char| c.is_control() || c == '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_to_land_on_is_escaped() {
        assert_eq!(href("/?prompt=a&run=1", false), "/sign-in/start?then=%2F%3Fprompt%3Da%26run%3D1");
        assert_eq!(href("/", true), "/sign-in/start?again=1&then=%2F");
    }

    #[test]
    fn a_link_that_leaves_the_studio_is_none() {
        for page in ["/", "/gallery?search=a//b", "/train#x"] {
            assert_eq!(landing(page.into()), page);
        }
        for elsewhere in
            ["", "x", "//evil.example", "/\\evil.example", "/\t/evil.example", "/..//evil.example", "https://evil.example", "javascript:1"]
        {
            assert_eq!(landing(elsewhere.into()), "/", "{elsewhere:?}");
        }
    }
}
