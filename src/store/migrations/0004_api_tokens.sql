-- Keys to the HTTP API. The token itself is told once, when it is made, and kept nowhere.
CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    -- What its owner calls it.
    name TEXT NOT NULL UNIQUE,
    -- SHA-256, hex.
    hash TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    -- To the minute.
    used_at INTEGER
) STRICT;
