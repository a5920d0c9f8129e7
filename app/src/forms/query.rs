//! A form in the address of a page: `?prompt=…&adapters[0][id]=…`.

use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// The values that the query string holds; what is absent or unreadable is as in an empty form.
pub fn read_query<T: DeserializeOwned + Default>(query: &str) -> T {
    let depth = 5;
    // Not strict: browsers and the router escape the brackets.
    serde_qs::Config::new(depth, false).deserialize_str(query.trim_start_matches('?')).unwrap_or_default()
}

/// Single values, in the order of their names.
pub fn write_pairs(pairs: &[(&str, &str)]) -> String {
    write_query(&pairs.iter().copied().collect::<BTreeMap<_, _>>())
}

/// The other way; empty values are left out by the forms themselves.
pub fn write_query<T: Serialize>(form: &T) -> String {
    serde_qs::to_string(form).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_escaped() {
        assert_eq!(write_pairs(&[("error", "no & never"), ("dataset", "d1")]), "dataset=d1&error=no+%26+never");
    }
}
