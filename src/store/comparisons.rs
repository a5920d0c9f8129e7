//! Comparisons: a grid of cells that fill as they are drawn, and the votes of blind rounds.

use super::{Claim, Error, Owner, Result, Store, now, runs::NewRun};
use app::api::{AdapterId, Comparison, ComparisonCell, ComparisonId, PictureId, Tally, Vote};
use serde::Serialize;
use sqlx::{FromRow, QueryBuilder, Sqlite};

#[derive(FromRow)]
struct Row {
    id: String,
    run: String,
    adapter_name: String,
    request: String,
    seed: i64,
    created_at: i64,
}

impl Store {
    /// The run, the row and its empty cells.
    pub async fn insert_comparison(
        &self,
        owner: &Owner,
        id: &ComparisonId,
        run: NewRun<'_, impl Serialize>,
        comparison: NewComparison<'_>,
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let run_id = run.id;
        run.insert(owner, &mut tx).await?;
        let sql =
            "INSERT INTO comparisons (id, owner, run, adapter, adapter_name, request, seed, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(&id.0)
            .bind(owner.id())
            .bind(&run_id.0)
            .bind(&comparison.request.adapter.0)
            .bind(comparison.adapter_name)
            .bind(serde_json::to_string(comparison.request)?)
            .bind(comparison.seed as i64)
            .bind(now())
            .execute(&mut *tx)
            .await?;
        for (position, (seed, scale)) in comparison.cells.iter().enumerate() {
            sqlx::query("INSERT INTO comparison_cells (comparison, position, seed, scale) VALUES (?, ?, ?, ?)")
                .bind(&id.0)
                .bind(position as i64)
                .bind(*seed as i64)
                .bind(scale)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    pub async fn comparison(&self, owner: &Owner, id: &ComparisonId) -> Result<Comparison> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM comparisons WHERE id = ? AND (owner = ? OR ?)")
            .bind(&id.0)
            .bind(owner.id())
            .bind(owner.reaches_all())
            .fetch_optional(&self.db)
            .await?;
        self.with_cells(owner, row.ok_or_else(|| Error::not_found("comparison", id))?).await
    }

    /// Newest first.
    pub async fn comparisons(&self, owner: &Owner, limit: usize) -> Result<Vec<Comparison>> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM comparisons ");
        owner.push_listed(&mut query);
        query.push(" ORDER BY id DESC LIMIT ").push_bind(limit.min(200) as i64);
        let rows: Vec<Row> = query.build_query_as().fetch_all(&self.db).await?;
        let mut comparisons = Vec::with_capacity(rows.len());
        for row in rows {
            comparisons.push(self.with_cells(owner, row).await?);
        }
        Ok(comparisons)
    }

    async fn with_cells(&self, owner: &Owner, row: Row) -> Result<Comparison> {
        let sql = "SELECT seed, scale, picture FROM comparison_cells WHERE comparison = ? ORDER BY position";
        let cells: Vec<(i64, f64, Option<String>)> = sqlx::query_as(sql).bind(&row.id).fetch_all(&self.db).await?;
        let cell = |(seed, scale, picture): (i64, f64, Option<String>)| ComparisonCell {
            seed: seed as u64,
            scale,
            picture: picture.map(PictureId::from),
        };
        Ok(Comparison {
            run: self.run(owner, &row.run.into()).await?,
            id: row.id.into(),
            request: serde_json::from_str(&row.request)?,
            adapter_name: row.adapter_name,
            seed: row.seed as u64,
            cells: cells.into_iter().map(cell).collect(),
            created_at: row.created_at,
        })
    }

    /// Puts a finished picture into its cell.
    pub async fn fill_cell(&self, claim: &Claim, position: usize, picture: &PictureId) -> Result<()> {
        let sql = "UPDATE comparison_cells SET picture = ? WHERE position = ? AND comparison = (SELECT id FROM comparisons WHERE run = ?)";
        sqlx::query(sql).bind(&picture.0).bind(position as i64).bind(&claim.run.0).execute(&self.db).await?;
        Ok(())
    }

    pub async fn save_vote(&self, owner: &Owner, vote: &Vote) -> Result<AdapterId> {
        let comparison = self.comparison(owner, &vote.comparison).await?;
        let drawn = |cell: &ComparisonCell| cell.seed == vote.seed && cell.scale == vote.scale && cell.picture.is_some();
        if vote.scale == 0.0 || !comparison.cells.iter().any(drawn) {
            return Err(Error::not_found("pair of pictures in this comparison for seed", vote.seed));
        }
        sqlx::query("INSERT OR REPLACE INTO votes (owner, comparison, seed, scale, adapter_won) VALUES (?, ?, ?, ?, ?)")
            .bind(owner.id())
            .bind(&vote.comparison.0)
            .bind(vote.seed as i64)
            .bind(vote.scale)
            .bind(vote.adapter_won)
            .execute(&self.db)
            .await?;
        Ok(comparison.request.adapter)
    }

    pub async fn tally(&self, owner: &Owner, adapter: &AdapterId) -> Result<Tally> {
        let sql = "SELECT count(*) FILTER (WHERE adapter_won = 1), count(*) FILTER (WHERE adapter_won = 0), count(*) FILTER (WHERE adapter_won IS NULL)
            FROM votes JOIN comparisons ON comparisons.id = comparison WHERE (comparisons.owner = ? OR ?) AND adapter = ?";
        let query = sqlx::query_as(sql).bind(owner.id()).bind(owner.reaches_all()).bind(&adapter.0);
        let (wins, losses, ties) = query.fetch_one(&self.db).await?;
        Ok(tally(wins, losses, ties))
    }
}

/// What [`Store::insert_comparison`] writes.
pub struct NewComparison<'a> {
    pub request: &'a app::api::CompareRequest,
    pub adapter_name: &'a str,
    pub seed: u64,
    /// (seed, scale) in the order they are drawn.
    pub cells: &'a [(u64, f64)],
}

/// Wilson's score interval at 95 %, a tie counting half a win. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
fn tally(wins: u32, losses: u32, ties: u32) -> Tally {
    const Z: f64 = 1.959_963_985;
    let n = f64::from(wins + losses + ties);
    if n == 0.0 {
        return Tally::default();
    }
    let rate = (f64::from(wins) + f64::from(ties) / 2.0) / n;
    let centre = (rate + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
    Tally { wins, losses, ties, win_rate: Some(rate), low: Some((centre - half).max(0.0)), high: Some((centre + half).min(1.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against statsmodels.stats.proportion.proportion_confint(8, 10, method="wilson").
    #[test]
    fn the_interval_is_wilsons() {
        let tally = tally(8, 2, 0);
        assert!((tally.low.unwrap() - 0.490_16).abs() < 1e-4 && (tally.high.unwrap() - 0.943_31).abs() < 1e-4, "{tally:?}");
        assert_eq!(super::tally(0, 0, 0), Tally::default());
        assert_eq!(super::tally(1, 1, 2).win_rate, Some(0.5));
    }
}
