-- People who signed in, by the id that the provider never changes; the username may change.
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- Last sign-in.
    seen_at INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    -- SHA-256 of what the browser holds: who reads this table cannot open a session with it.
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Sessions of one sign-in end together: a Space's frame has one of its own.
    sign_in TEXT NOT NULL,
    -- The host looks at everybody's work.
    everyone INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_sign_in ON sessions (sign_in);
CREATE INDEX sessions_by_user ON sessions (user);

-- What a user's limit of storage counts; 0 for what is older than the limit.
ALTER TABLE pictures ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dataset_items ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
