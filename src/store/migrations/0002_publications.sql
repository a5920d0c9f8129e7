-- Where an adapter was published: one row a repository, of its newest version there.
CREATE TABLE publications (
    adapter TEXT NOT NULL REFERENCES adapters (id) ON DELETE CASCADE,
    owner TEXT NOT NULL,
    repo TEXT NOT NULL,
    url TEXT NOT NULL,
    "commit" TEXT NOT NULL,
    private INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    PRIMARY KEY (adapter, repo)
) STRICT;
