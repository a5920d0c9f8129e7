//! Who asks for rows, and which rows there are for them. Every query asks; nobody else's row is ever told apart from one that is not there.

use sqlx::{QueryBuilder, Sqlite};

/// Whose a row becomes when it is made, and which rows may be seen and changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    id: String,
    reach: Reach,
    /// One of several people, who share the machine fairly.
    limited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reach {
    Own,
    /// Anybody's row by its id; lists hold own ones.
    ById,
    Everything,
}

impl Owner {
    /// The person at this machine, where nobody signs in.
    pub fn local() -> Self {
        Self { id: "local".into(), reach: Reach::Own, limited: false }
    }

    /// Somebody who has not signed in: nothing is theirs.
    pub fn nobody() -> Self {
        Self { id: String::new(), reach: Reach::Own, limited: true }
    }

    /// Somebody who signed in; `user` is the lasting id that the provider gave.
    pub fn user(user: &str) -> Self {
        Self { id: user_id(user), reach: Reach::Own, limited: true }
    }

    /// Whose studio it is: reaches every row by its id, and sees all of them in lists too when `everyone`.
    pub fn host(user: &str, everyone: bool) -> Self {
        let reach = if everyone { Reach::Everything } else { Reach::ById };
        Self { id: user_id(user), reach, limited: false }
    }

    /// For a worker: what a run uses was checked when it was asked for.
    pub(super) fn of_run(id: String) -> Self {
        Self { id, reach: Reach::ById, limited: true }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// For `AND (owner = ? OR ?)` beside an id.
    pub(super) fn reaches_all(&self) -> bool {
        self.reach != Reach::Own
    }

    /// The same, where a query is put together.
    pub(super) fn push_reached(&self, query: &mut QueryBuilder<Sqlite>) {
        if !self.reaches_all() {
            query.push(" AND owner = ").push_bind(self.id.clone());
        }
    }

    /// `WHERE …`, which other conditions may follow. Apart from `OR`, so that the index by owner serves.
    pub(super) fn push_listed(&self, query: &mut QueryBuilder<Sqlite>) {
        match self.reach {
            Reach::Everything => query.push("WHERE TRUE"),
            Reach::Own | Reach::ById => query.push("WHERE owner = ").push_bind(self.id.clone()),
        };
    }

    /// Limits for users hold.
    pub fn is_limited(&self) -> bool {
        self.limited
    }
}

/// Apart from `local`, whatever a provider calls its users.
fn user_id(user: &str) -> String {
    format!("user:{user}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_is_the_local_one_or_nobody() {
        for name in ["local", "", "user:local"] {
            let user = Owner::user(name);
            assert!(user.id() != Owner::local().id() && user.id() != Owner::nobody().id(), "{name:?}");
        }
    }
}
