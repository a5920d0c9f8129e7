-- Runs are the source of truth of every job; the queue only carries their names.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('generate', 'compare', 'train')),
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'stopped')),
    title TEXT NOT NULL,
    -- What was asked for, as JSON of its kind.
    request TEXT NOT NULL,
    -- How often a worker took it; what it writes carries this number.
    attempt INTEGER NOT NULL DEFAULT 0,
    -- How often the process died with it since its last lasting progress.
    crashes INTEGER NOT NULL DEFAULT 0,
    stop_requested INTEGER NOT NULL DEFAULT 0,
    -- Optimiser step of the newest checkpoint of a training.
    checkpoint INTEGER,
    phase TEXT NOT NULL DEFAULT 'waiting',
    done INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    elapsed_s REAL NOT NULL DEFAULT 0,
    remaining_s REAL,
    error TEXT,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
CREATE INDEX runs_by_owner ON runs (owner, id DESC);
CREATE INDEX runs_by_state ON runs (state);

CREATE TABLE datasets (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    "trigger" TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX datasets_by_owner ON datasets (owner, id DESC);

CREATE TABLE dataset_items (
    dataset TEXT NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
    -- SHA-256 of the file.
    id TEXT NOT NULL,
    extension TEXT NOT NULL CHECK (extension IN ('png', 'jpg', 'webp')),
    file_name TEXT NOT NULL,
    caption TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    PRIMARY KEY (dataset, id)
) STRICT;

CREATE TABLE adapters (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    "trigger" TEXT,
    rank INTEGER NOT NULL,
    alpha REAL NOT NULL,
    steps INTEGER NOT NULL,
    loss REAL,
    bytes INTEGER NOT NULL,
    -- Names the file; grows with every checkpoint.
    version INTEGER NOT NULL,
    run TEXT UNIQUE REFERENCES runs (id),
    dataset TEXT,
    base_model TEXT NOT NULL,
    -- adapter.json: recipe, dataset hashes, versions.
    recipe TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX adapters_by_owner ON adapters (owner, id DESC);

CREATE TABLE pictures (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    run TEXT NOT NULL REFERENCES runs (id),
    prompt TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    guidance REAL NOT NULL,
    seed INTEGER NOT NULL,
    adapters TEXT NOT NULL,
    model TEXT NOT NULL,
    seconds REAL NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX pictures_by_owner ON pictures (owner, id DESC);
CREATE INDEX pictures_by_run ON pictures (run, id);

CREATE TABLE comparisons (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    run TEXT NOT NULL UNIQUE REFERENCES runs (id),
    adapter TEXT NOT NULL,
    adapter_name TEXT NOT NULL,
    request TEXT NOT NULL,
    seed INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX comparisons_by_owner ON comparisons (owner, id DESC);

CREATE TABLE comparison_cells (
    comparison TEXT NOT NULL REFERENCES comparisons (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    scale REAL NOT NULL,
    picture TEXT REFERENCES pictures (id) ON DELETE SET NULL,
    PRIMARY KEY (comparison, position)
) STRICT;
CREATE INDEX comparison_cells_by_picture ON comparison_cells (picture);

-- One opinion of one visitor on one pair; voting again changes it. NULL is a tie.
CREATE TABLE votes (
    owner TEXT NOT NULL,
    comparison TEXT NOT NULL REFERENCES comparisons (id) ON DELETE CASCADE,
    seed INTEGER NOT NULL,
    scale REAL NOT NULL,
    adapter_won INTEGER,
    PRIMARY KEY (owner, comparison, seed, scale)
) STRICT;

CREATE TABLE losses (
    run TEXT NOT NULL REFERENCES runs (id),
    step INTEGER NOT NULL,
    loss REAL,
    learning_rate REAL NOT NULL,
    gradient_norm REAL,
    PRIMARY KEY (run, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE samples (
    run TEXT NOT NULL REFERENCES runs (id),
    -- Below the training's folder.
    file TEXT NOT NULL,
    step INTEGER NOT NULL,
    prompt TEXT NOT NULL,
    PRIMARY KEY (run, file)
) STRICT, WITHOUT ROWID;
