//! Where somebody lands after signing in: a page of the studio, whatever the link said.

use app::forms;
use reqwest::Url;

/// Path and query of a page here, as a header can hold them; the first page for everything else.
pub fn landing(wanted: &str) -> String {
    written(&forms::landing(wanted.to_owned())).unwrap_or_else(|| "/".to_owned())
}

fn written(page: &str) -> Option<String> {
    let page = Url::parse("http://studio.invalid/").ok()?.join(page).ok()?;
    let query = page.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(page.path().to_owned() + &query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_elsewhere() {
        for (wanted, page) in
            [("/gallery?search=a%20lake", "/gallery?search=a%20lake"), ("/", "/"), ("/a/../train#x", "/train"), ("/a b", "/a%20b")]
        {
            assert_eq!(landing(wanted), page);
        }
        for elsewhere in [
            "",
            "gallery",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\\\\evil.example",
            "https://evil.example/",
            "https:evil.example",
            "javascript:alert(1)",
            "/..//evil.example",
            "/.//evil.example",
            "/%0d%0aSet-Cookie:x=y//..//../evil\r\nLocation: https://evil.example",
        ] {
            let page = landing(elsewhere);
            assert!(page.starts_with('/') && !page.starts_with("//") && !page.contains(['\\', '\r', '\n', '\t']), "{elsewhere:?}: {page}");
            assert!(!page.starts_with("/evil") || elsewhere.contains(".."), "{elsewhere:?}: {page}");
        }
    }
}
