//! A card as the page shows it before it is published: its Markdown as HTML, with nothing in it that runs, and pictures from here.

use super::front_matter;
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html::push_html};

/// The text without its front matter. `picture` gives the address here of a picture of the package; others are left out.
pub fn render(markdown: &str, picture: impl Fn(&str) -> Option<String>) -> String {
    let text = front_matter::split(markdown).map_or(markdown, |(_, text)| text);
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).filter_map(|event| harmless(event, &picture));
    let mut html = String::new();
    push_html(&mut html, events);
    html
}

/// The page has its own first heading and its own gallery; HTML of the card's is shown as the text that it is.
fn harmless<'a>(event: Event<'a>, picture: &impl Fn(&str) -> Option<String>) -> Option<Event<'a>> {
    Some(match event {
        Event::Html(html) | Event::InlineHtml(html) if html.trim() == "<Gallery />" => return None,
        Event::Html(html) | Event::InlineHtml(html) => Event::Text(html),
        Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => return None,
        Event::Start(Tag::Heading { level, id, classes, attrs }) => Event::Start(Tag::Heading { level: below(level), id, classes, attrs }),
        Event::End(TagEnd::Heading(level)) => Event::End(TagEnd::Heading(below(level))),
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            let dest_url = picture(&dest_url).unwrap_or_default().into();
            Event::Start(Tag::Image { link_type, dest_url, title, id })
        }
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            let dest_url: CowStr = if dest_url.starts_with("https://") { dest_url } else { "#card".into() };
            Event::Start(Tag::Link { link_type, dest_url, title, id })
        }
        other => other,
    })
}

/// Two levels down: the page's own headings come before.
fn below(level: pulldown_cmark::HeadingLevel) -> pulldown_cmark::HeadingLevel {
    use pulldown_cmark::HeadingLevel::*;
    match level {
        H1 => H3,
        H2 => H4,
        _ => H5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_card_runs() {
        let evil = "# T\n\n<Gallery />\n\n<script>alert(1)</script>\n\n<img src=x onerror=alert(1)> [a](javascript:alert(1)) ![p](images/01.png) ![q](https://x/y.png)";
        let html = render(evil, |path| (path == "images/01.png").then(|| "/files/pictures/1.png".to_owned()));
        assert!(!html.contains("<script") && !html.contains("<img src=x") && !html.contains("javascript:"), "{html}");
        assert!(html.contains("src=\"/files/pictures/1.png\"") && !html.contains("https://x/y.png") && !html.contains("Gallery"), "{html}");
    }

    #[test]
    fn the_words_of_a_visitor_mean_nothing_to_markdown() {
        let card = super::super::tests::card();
        let html = render(&card.markdown(), |_| None);
        assert!(html.contains("&lt;b&gt;chair&lt;/b&gt;") && !html.contains("<b>") && !html.contains("href=\"javascript"), "{html}");
        assert!(html.contains("Mucha | panels") && html.contains("<table>"), "{html}");
    }
}
