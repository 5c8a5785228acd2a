use super::{audit, domain, domains, done, failure, fleet, import, in_time, overview, setup, sign_in};

/// Each page, with `text` wherever something of others stands.
fn pages(text: &str) -> Vec<String> {
    let mut pages = vec![
        failure::tests::sample(text),
        done::tests::sample(text),
        sign_in::tests::sample(text),
        audit::tests::sample(text),
        overview::tests::sample(text),
        fleet::tests::sample(text),
    ];
    pages.extend(domains::tests::samples(text));
    pages.extend(domain::tests::samples(text));
    pages.extend(import::tests::samples(text));
    pages.extend(setup::tests::samples(text));
    pages
}

/// A page without its texts and its attributes' values: what a browser takes for elements and attributes.
fn skeleton(page: &str) -> Vec<String> {
    let (mut tags, mut rest) = (Vec::new(), page);
    while let Some((_, behind)) = rest.split_once('<') {
        let (mut tag, mut quoted, mut end) = (String::new(), false, behind.len());
        for (at, character) in behind.char_indices() {
            match character {
                '"' => quoted = !quoted,
                '>' if !quoted => {
                    end = at;
                    break;
                }
                _ if quoted => {}
                character => tag.push(character),
            }
        }
        tags.push(tag);
        rest = &behind[end..];
    }
    tags
}

#[test]
fn whatever_others_wrote_is_text() {
    let plain = pages("plain");
    for text in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "\" onfocus=\"alert(1)",
        "' onfocus='alert(1)",
        "&lt;b&gt;",
        "</textarea></title><svg/onload=alert(1)>",
        "javascript:alert(1)",
        "\u{202e}moc.elpmaxe",
        &"a".repeat(253),
        "<!-- {{ layout.csrf_token }} {% raw %}",
    ] {
        for (page, plain) in pages(text).iter().zip(&plain) {
            assert_eq!(skeleton(page), skeleton(plain), "{text}");
        }
    }
}

/// The policy lets nothing of this run, and this test tells before a browser does.
#[test]
fn no_page_has_a_style_script_or_handler_of_its_own() {
    for page in pages("plain") {
        for tag in skeleton(&page) {
            let mut words = tag.split_ascii_whitespace();
            let name = words.next().unwrap_or_default();
            assert_ne!(name, "style", "{page}");
            assert!(name != "script" || tag.contains("src="), "{page}");
            assert!(!words.any(|word| word.starts_with("on") || word.starts_with("style=")), "{tag}: {page}");
        }
        assert!(!page.contains("href=\"javascript:"), "{page}");
    }
}

#[test]
fn forms_that_change_say_whose_they_are() {
    for page in pages("plain") {
        for form in page.split("<form ").skip(1).filter(|form| form.starts_with("method=\"post\"")) {
            let form = form.split("</form>").next().unwrap_or_default();
            let is_sign_in = form.contains("action=\"/console/sign-in\"");
            assert_eq!(form.contains("name=\"csrf_token\""), !is_sign_in, "{form}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_takes_too_long_is_a_page() {
    let response = in_time(std::future::pending()).await;
    assert_eq!(response.status(), hyper::StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[hyper::header::CONTENT_TYPE], "text/html; charset=utf-8");
}
