//! Runs: state, attempt, progress, stop. What a worker writes is fenced by `(run, attempt)`.

use super::{Error, Owner, Result, Store, now};
use app::api::{ComparisonId, PictureId, Progress, Run, RunId, RunKind, RunState};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::{FromRow, QueryBuilder, Sqlite, SqliteConnection};

/// The right to work on a run: void as soon as somebody else takes the run, or it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub run: RunId,
    pub attempt: i64,
}

/// A run with what a worker needs of it.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub claim: Claim,
    pub owner: Owner,
    pub run: Run,
    request: String,
    /// Newest checkpoint of a training.
    pub checkpoint: Option<u32>,
}

impl Claimed {
    pub fn request<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(&self.request)?)
    }
}

/// A process that died this often with a run, without lasting progress between, is not lost a third time.
pub const MOST_CRASHES: i64 = 2;

const COLUMNS: &str = "SELECT runs.*,
    (SELECT json_group_array(id) FROM (SELECT id FROM pictures WHERE run = runs.id ORDER BY id)) AS pictures,
    (SELECT id FROM comparisons WHERE run = runs.id) AS comparison FROM runs ";

#[derive(FromRow)]
struct Row {
    id: String,
    owner: String,
    kind: String,
    state: String,
    title: String,
    request: String,
    attempt: i64,
    checkpoint: Option<u32>,
    phase: String,
    done: u32,
    total: u32,
    elapsed_s: f64,
    remaining_s: Option<f64>,
    error: Option<String>,
    created_at: i64,
    finished_at: Option<i64>,
    pictures: String,
    comparison: Option<String>,
}

impl Store {
    pub async fn insert_run(&self, owner: &Owner, run: NewRun<'_, impl Serialize>) -> Result<()> {
        run.insert(owner, &mut *self.db.acquire().await?).await
    }

    pub async fn run(&self, owner: &Owner, id: &RunId) -> Result<Run> {
        self.run_row(owner, id).await?.try_into()
    }

    /// The run with what was asked for.
    pub async fn run_with_request<T: DeserializeOwned>(&self, owner: &Owner, id: &RunId) -> Result<(Run, T, Option<u32>)> {
        let row = self.run_row(owner, id).await?;
        let (request, checkpoint) = (serde_json::from_str(&row.request)?, row.checkpoint);
        Ok((row.try_into()?, request, checkpoint))
    }

    async fn run_row(&self, owner: &Owner, id: &RunId) -> Result<Row> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push("WHERE id = ").push_bind(id.0.clone());
        owner.push_reached(&mut query);
        query.build_query_as().fetch_optional(&self.db).await?.ok_or_else(|| Error::not_found("run", id))
    }

    /// For workers, whoever it belongs to.
    pub async fn run_of(&self, claim: &Claim) -> Result<Run> {
        self.row_of(claim).await?.try_into()
    }

    async fn row_of(&self, claim: &Claim) -> Result<Row> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push("WHERE id = ").push_bind(claim.run.0.clone());
        Ok(query.build_query_as().fetch_one(&self.db).await?)
    }

    /// Newest first.
    pub async fn runs(&self, owner: &Owner, active: bool, limit: usize) -> Result<Vec<Run>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        owner.push_listed(&mut query);
        if active {
            query.push(" AND state IN ('queued', 'running')");
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(limit.min(1000) as i64);
        let rows: Vec<Row> = query.build_query_as().fetch_all(&self.db).await?;
        rows.into_iter().map(Run::try_from).collect()
    }

    pub async fn count_waiting(&self, kind: RunKind) -> Result<i64> {
        let query = sqlx::query_scalar("SELECT count(*) FROM runs WHERE state = 'queued' AND kind = ?");
        Ok(query.bind(kind_name(kind)).fetch_one(&self.db).await?)
    }

    /// How many there are of each kind in each state.
    pub async fn count_runs(&self) -> Result<Vec<(String, String, i64)>> {
        Ok(sqlx::query_as("SELECT kind, state, count(*) FROM runs GROUP BY kind, state").fetch_all(&self.db).await?)
    }

    /// Runs of one owner that wait or run.
    pub async fn count_active(&self, owner: &Owner) -> Result<i64> {
        let query = sqlx::query_scalar("SELECT count(*) FROM runs WHERE owner = ? AND state IN ('queued', 'running')");
        Ok(query.bind(owner.id()).fetch_one(&self.db).await?)
    }

    /// Takes a queued run, once: a second worker with the same message, or one from before, gets `None`.
    pub async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>> {
        let sql = "UPDATE runs SET state = 'running', attempt = attempt + 1, error = NULL, finished_at = NULL
            WHERE id = ? AND attempt = ? AND state = 'queued'";
        if sqlx::query(sql).bind(&claim.run.0).bind(claim.attempt).execute(&self.db).await?.rows_affected() == 0 {
            return Ok(None);
        }
        let row = self.row_of(claim).await?;
        let claim = Claim { run: claim.run.clone(), attempt: row.attempt };
        let (owner, request, checkpoint) = (Owner::of_run(row.owner.clone()), row.request.clone(), row.checkpoint);
        Ok(Some(Claimed { claim, owner, request, checkpoint, run: row.try_into()? }))
    }

    pub async fn save_progress(&self, claim: &Claim, progress: &Progress) -> Result<()> {
        let sql = "UPDATE runs SET phase = ?, done = ?, total = ?, elapsed_s = ?, remaining_s = ? WHERE id = ? AND attempt = ? AND state = 'running'";
        let query = sqlx::query(sql).bind(&progress.phase).bind(progress.done).bind(progress.total).bind(progress.elapsed_s);
        self.fenced(query.bind(progress.remaining_s), claim).await
    }

    /// A checkpoint is lasting progress: crashes are counted anew.
    pub async fn save_checkpoint(&self, claim: &Claim, step: u32) -> Result<()> {
        let sql = "UPDATE runs SET checkpoint = ?, crashes = 0 WHERE id = ? AND attempt = ? AND state = 'running'";
        self.fenced(sqlx::query(sql).bind(step), claim).await
    }

    /// The last word of an attempt.
    pub async fn finish_run(&self, claim: &Claim, state: RunState, error: Option<&str>) -> Result<()> {
        let sql =
            "UPDATE runs SET state = ?, error = ?, remaining_s = NULL, finished_at = ? WHERE id = ? AND attempt = ? AND state = 'running'";
        self.fenced(sqlx::query(sql).bind(state_name(state)).bind(error).bind(now()), claim).await
    }

    /// Back to the queue: this process ends, the next one goes on.
    pub async fn release_run(&self, claim: &Claim) -> Result<()> {
        let sql =
            "UPDATE runs SET state = 'queued', phase = 'waiting', remaining_s = NULL WHERE id = ? AND attempt = ? AND state = 'running'";
        self.fenced(sqlx::query(sql), claim).await
    }

    /// True while this attempt may still write.
    pub async fn holds(&self, claim: &Claim) -> Result<bool> {
        let sql = "SELECT count(*) FROM runs WHERE id = ? AND attempt = ? AND state = 'running'";
        Ok(sqlx::query_scalar::<_, i64>(sql).bind(&claim.run.0).bind(claim.attempt).fetch_one(&self.db).await? == 1)
    }

    async fn fenced<'q>(&self, query: sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>, claim: &'q Claim) -> Result<()> {
        match query.bind(&claim.run.0).bind(claim.attempt).execute(&self.db).await?.rows_affected() {
            0 => Err(Error::Fenced),
            _ => Ok(()),
        }
    }

    /// Asks a run to stop. A queued one is stopped there and then; a running one at its next step. Returns the state it has now.
    pub async fn request_stop(&self, owner: &Owner, id: &RunId) -> Result<RunState> {
        let sql = "UPDATE runs SET stop_requested = 1,
                finished_at = CASE state WHEN 'queued' THEN ? ELSE finished_at END,
                state = CASE state WHEN 'queued' THEN 'stopped' ELSE state END
            WHERE id = ? AND (owner = ? OR ?) AND state IN ('queued', 'running')";
        sqlx::query(sql).bind(now()).bind(&id.0).bind(owner.id()).bind(owner.reaches_all()).execute(&self.db).await?;
        Ok(self.run(owner, id).await?.state)
    }

    /// Queues a training again that was stopped or failed.
    pub async fn reopen_run(&self, owner: &Owner, id: &RunId) -> Result<Claim> {
        let run = self.run(owner, id).await?;
        if run.kind != RunKind::Train {
            return Err(Error::Conflict("Only a training can be resumed; ask for the picture again instead.".into()));
        }
        if matches!(run.state, RunState::Stopped | RunState::Failed) && self.adapter_of(id).await?.is_none() {
            return Err(Error::Conflict("This training left no adapter to go on from, or it was deleted; start a new training.".into()));
        }
        let sql = "UPDATE runs SET state = 'queued', phase = 'waiting', stop_requested = 0, crashes = 0, error = NULL, finished_at = NULL
            WHERE id = ? AND (owner = ? OR ?) AND state IN ('stopped', 'failed') RETURNING attempt";
        let query = sqlx::query_scalar(sql).bind(&id.0).bind(owner.id()).bind(owner.reaches_all());
        let attempt = query.fetch_optional(&self.db).await?;
        match attempt {
            Some(attempt) => Ok(Claim { run: id.clone(), attempt }),
            None if run.state == RunState::Done => Err(Error::Conflict("This training is complete; start a new one to go further.".into())),
            None => Err(Error::Conflict("This training is already waiting or running.".into())),
        }
    }

    /// After a start: what a dead process left running is queued again, oldest first, unless it keeps killing its process.
    pub async fn recover_runs(&self) -> Result<Vec<(RunKind, Claim)>> {
        let mut tx = self.db.begin().await?;
        sqlx::query(
            "UPDATE runs SET state = 'queued', phase = 'waiting', remaining_s = NULL, crashes = crashes + 1 WHERE state = 'running'",
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query("UPDATE runs SET state = 'stopped', finished_at = ? WHERE state = 'queued' AND stop_requested = 1")
            .bind(now())
            .execute(&mut *tx)
            .await?;
        let gave_up = "Atelier ended unexpectedly twice while it worked on this, so it was not tried a third time. \
            There may be too little memory: try a smaller size or fewer steps.";
        sqlx::query("UPDATE runs SET state = 'failed', error = ?, finished_at = ? WHERE state = 'queued' AND crashes >= ?")
            .bind(gave_up)
            .bind(now())
            .bind(MOST_CRASHES)
            .execute(&mut *tx)
            .await?;
        let waiting: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT kind, id, attempt FROM runs WHERE state = 'queued' ORDER BY id").fetch_all(&mut *tx).await?;
        tx.commit().await?;
        waiting.into_iter().map(|(kind, id, attempt)| Ok((parse(&kind)?, Claim { run: id.into(), attempt }))).collect()
    }
}

/// A run as it enters the queue.
pub struct NewRun<'a, T> {
    pub id: &'a RunId,
    pub kind: RunKind,
    pub title: &'a str,
    pub request: &'a T,
}

impl<T: Serialize> NewRun<'_, T> {
    pub async fn insert(self, owner: &Owner, connection: &mut SqliteConnection) -> Result<()> {
        sqlx::query("INSERT INTO runs (id, owner, kind, state, title, request, created_at) VALUES (?, ?, ?, 'queued', ?, ?, ?)")
            .bind(&self.id.0)
            .bind(owner.id())
            .bind(kind_name(self.kind))
            .bind(self.title)
            .bind(serde_json::to_string(self.request)?)
            .bind(now())
            .execute(connection)
            .await?;
        Ok(())
    }
}

impl TryFrom<Row> for Run {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let Row { phase, done, total, elapsed_s, remaining_s, .. } = row;
        let pictures: Vec<String> = serde_json::from_str(&row.pictures)?;
        Ok(Self {
            id: row.id.into(),
            kind: parse(&row.kind)?,
            state: parse(&row.state)?,
            title: row.title,
            progress: Progress { phase, done, total, elapsed_s, remaining_s },
            error: row.error,
            pictures: pictures.into_iter().map(PictureId::from).collect(),
            comparison: row.comparison.map(ComparisonId::from),
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }
}

/// The wire's word for a variant, which is the column's too.
fn parse<T: DeserializeOwned>(word: &str) -> Result<T> {
    Ok(serde_json::from_value(word.into())?)
}

fn kind_name(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Generate => "generate",
        RunKind::Compare => "compare",
        RunKind::Train => "train",
    }
}

fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Queued => "queued",
        RunState::Running => "running",
        RunState::Done => "done",
        RunState::Failed => "failed",
        RunState::Stopped => "stopped",
    }
}
