//! One-time codes that bring a sign-in from a tab into the frame it was opened from, whose cookies are kept apart.
//!
//! The tab shows the code and tells it to the frame that opened it, if that is still known; else the person types it in. It goes this way
//! round only: a code that the frame made could come from somebody else's frame, in a link that signs its reader in over there.

use rand::Rng;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

#[derive(Default)]
pub struct Codes(Mutex<Vec<Code>>);

struct Code {
    text: String,
    sign_in: String,
    user: String,
    made: Instant,
}

const LIFE: Duration = Duration::from_secs(180);
/// Without letters that look like others. 8 of them are 40 bits, guessed at a few times a minute.
const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

impl Codes {
    /// Takes the place of the one that the sign-in had.
    pub fn make(&self, sign_in: &str, user: &str) -> String {
        let mut rng = rand::rng();
        let text: String = (0..8).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect();
        let mut codes = self.fresh();
        codes.retain(|code| code.sign_in != sign_in);
        codes.push(Code { text: text.clone(), sign_in: sign_in.to_owned(), user: user.to_owned(), made: Instant::now() });
        format!("{}-{}", &text[..4], &text[4..])
    }

    /// Sign-in and user of a code, which is worth nothing from then on.
    pub fn redeem(&self, typed: &str) -> Option<(String, String)> {
        let typed: String = typed.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
        let mut codes = self.fresh();
        let index = codes.iter().position(|code| code.text == typed)?;
        let Code { sign_in, user, .. } = codes.swap_remove(index);
        Some((sign_in, user))
    }

    pub fn forget(&self, sign_in: &str) {
        self.fresh().retain(|code| code.sign_in != sign_in);
    }

    fn fresh(&self) -> MutexGuard<'_, Vec<Code>> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|code| code.made.elapsed() < LIFE);
        codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_opens_once_and_however_it_is_typed() {
        let codes = Codes::default();
        let first = codes.make("one", "ada");
        let code = codes.make("one", "ada");
        assert_eq!(codes.redeem(&first), None, "a newer one took its place");
        assert_eq!(codes.redeem(&code.to_lowercase().replace('-', " ")), Some(("one".into(), "ada".into())));
        assert_eq!(codes.redeem(&code), None);
        let code = codes.make("two", "ada");
        codes.forget("two");
        assert!(codes.redeem(&code).is_none() && codes.redeem("").is_none());
    }
}
