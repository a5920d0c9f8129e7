//! An access token: passed along, sent, and never shown.

use super::{Error, Result};
use std::fmt;

#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Without the white space that a copied or stored token has around it. The sentence of a refusal does not repeat it.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::refused("The token is empty; paste one with write access, such as hf_…."));
        }
        if text.len() > 4096 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::refused("This is no token: a token is one word of letters and digits, such as hf_…."));
        }
        Ok(Self(text.to_owned()))
    }

    /// For the `Authorization` header alone.
    pub(super) fn secret(&self) -> &str {
        &self.0
    }

    /// A text of somebody else's without this token in it.
    pub(super) fn removed_from(&self, text: &str) -> String {
        text.replace(&self.0, "…")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_stays_unseen() {
        let token = Token::new(" hf_abcdef\n").unwrap();
        assert_eq!(token.secret(), "hf_abcdef");
        assert_eq!(format!("{token:?} {:?}", Some(&token)), "Token(…) Some(Token(…))");
        assert_eq!(token.removed_from("no such token: hf_abcdef!"), "no such token: …!");
        for bad in ["", " \n", "hf_abc def", "hf_äöü", "a\r\nX-Evil: 1"] {
            let said = Token::new(bad).unwrap_err().to_string();
            assert!(bad.trim().is_empty() || !said.contains(bad.trim()), "{said}");
        }
    }
}
