//! Whether an answer in XML is there to its end.

use aws_smithy_xml::decode::{Document, XmlDecodeError};

/// The text of `body`, an element that has content and ends. The decoder reads an answer that was cut as one whose lists are over.
///
/// # Errors
/// It is not UTF-8, not XML, or cut.
pub fn complete_xml(body: &[u8]) -> Result<&str, XmlDecodeError> {
    let text = std::str::from_utf8(body).map_err(|_| XmlDecodeError::custom("it is not UTF-8"))?;
    let (mut deepest, mut last) = (0, 0);
    for token in Document::new(text) {
        let (_, depth) = token?;
        deepest = depth.max(deepest);
        last = depth;
    }
    if deepest > 0 && last == 0 { Ok(text) } else { Err(XmlDecodeError::custom("it is cut")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_anywhere_is_not_complete() {
        let whole = "<?xml version=\"1.0\"?>\n<A xmlns=\"x\"><!-- c --><B b='1'>t&amp;<C/></B><B></B>\n</A>";
        assert_eq!(complete_xml(whole.as_bytes()).unwrap(), whole);
        assert!(complete_xml(format!("{whole}\n").as_bytes()).is_ok());
        for cut in 0..whole.len() {
            assert!(complete_xml(&whole.as_bytes()[..cut]).is_err(), "{}", &whole[..cut]);
        }
        for other in ["", "{}", "<A/>", "<A><B></A>", "<A></A><B></B>", "</A>", "\u{0}"] {
            assert!(complete_xml(other.as_bytes()).is_err(), "{other}");
        }
        assert!(complete_xml(b"<A>\xff</A>").is_err());
    }
}
