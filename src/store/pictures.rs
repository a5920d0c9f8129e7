//! Finished pictures: a row, a PNG with its recipe inside, a thumbnail.

use super::{BlobKey, Claim, Error, Owner, Result, Store, png, thumbnail};
use app::api::{AdapterUse, Picture, PictureFilter, PictureId};
use image::RgbImage;
use sqlx::{FromRow, QueryBuilder, Sqlite};

/// Pictures in one answer, at most.
const MOST: u32 = 200;
const USUAL: u32 = 48;

#[derive(FromRow)]
struct Row {
    id: String,
    run: String,
    prompt: String,
    width: u32,
    height: u32,
    steps: u32,
    guidance: f64,
    seed: i64,
    adapters: String,
    model: String,
    seconds: f64,
    created_at: i64,
}

impl Store {
    /// Files first, then the row, so that a row never points at nothing. Refused once the attempt is no longer the run's own.
    pub async fn add_picture(&self, claim: &Claim, owner: &Owner, picture: &Picture, pixels: RgbImage) -> Result<()> {
        let recipe = recipe(picture);
        let encoded = tokio::task::spawn_blocking(move || Ok::<_, Error>((png::encode(&pixels, &recipe)?, thumbnail::encode(&pixels)?)));
        let (png, thumb) = encoded.await.map_err(|error| Error::Picture(error.to_string()))??;
        let bytes = png.len() + thumb.len();
        self.blobs.put(&BlobKey::picture(&picture.id), png).await?;
        self.blobs.put(&BlobKey::picture_thumb(&picture.id), thumb).await?;
        match self.insert_picture(claim, owner, picture, bytes).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.delete_picture_files(&picture.id).await.ok();
                Err(error)
            }
        }
    }

    async fn insert_picture(&self, claim: &Claim, owner: &Owner, picture: &Picture, bytes: usize) -> Result<()> {
        let sql =
            "INSERT INTO pictures (id, owner, run, prompt, width, height, steps, guidance, seed, adapters, model, seconds, created_at, bytes)
            SELECT ?, ?, id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM runs WHERE id = ? AND attempt = ? AND state = 'running'";
        let inserted = sqlx::query(sql)
            .bind(&picture.id.0)
            .bind(owner.id())
            .bind(&picture.prompt)
            .bind(picture.width)
            .bind(picture.height)
            .bind(picture.steps)
            .bind(picture.guidance)
            .bind(picture.seed as i64)
            .bind(serde_json::to_string(&picture.adapters)?)
            .bind(&picture.model)
            .bind(picture.seconds)
            .bind(picture.created_at)
            .bind(bytes as i64)
            .bind(&claim.run.0)
            .bind(claim.attempt)
            .execute(&self.db)
            .await?;
        if inserted.rows_affected() == 0 { Err(Error::Fenced) } else { Ok(()) }
    }

    pub async fn picture(&self, owner: &Owner, id: &PictureId) -> Result<Picture> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM pictures WHERE id = ");
        query.push_bind(id.0.clone());
        owner.push_reached(&mut query);
        let row: Option<Row> = query.build_query_as().fetch_optional(&self.db).await?;
        row.ok_or_else(|| Error::not_found("picture", id))?.try_into()
    }

    /// Newest first.
    pub async fn pictures(&self, owner: &Owner, filter: &PictureFilter) -> Result<Vec<Picture>> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM pictures ");
        owner.push_listed(&mut query);
        for word in filter.search.iter().flat_map(|search| search.split_whitespace()).take(20) {
            query.push(" AND instr(lower(prompt), lower(").push_bind(word.to_owned()).push(")) > 0");
        }
        if let Some(adapter) = &filter.adapter {
            query.push(" AND EXISTS (SELECT 1 FROM json_each(adapters) WHERE value ->> 'id' = ").push_bind(adapter.0.clone()).push(")");
        }
        if let Some(before) = &filter.before {
            query.push(" AND id < ").push_bind(before.0.clone());
        }
        let limit = if filter.limit == 0 { USUAL } else { filter.limit.min(MOST) };
        query.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
        let rows: Vec<Row> = query.build_query_as().fetch_all(&self.db).await?;
        rows.into_iter().map(Picture::try_from).collect()
    }

    /// Pictures that a run has finished, oldest first.
    pub async fn pictures_of(&self, claim: &Claim) -> Result<Vec<Picture>> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT * FROM pictures WHERE run = ? ORDER BY id").bind(&claim.run.0).fetch_all(&self.db).await?;
        rows.into_iter().map(Picture::try_from).collect()
    }

    pub async fn delete_picture(&self, owner: &Owner, id: &PictureId) -> Result<()> {
        let query = sqlx::query("DELETE FROM pictures WHERE id = ? AND (owner = ? OR ?)").bind(&id.0);
        let deleted = query.bind(owner.id()).bind(owner.reaches_all()).execute(&self.db).await?;
        if deleted.rows_affected() == 0 {
            return Err(Error::not_found("picture", id));
        }
        self.delete_picture_files(id).await
    }

    async fn delete_picture_files(&self, id: &PictureId) -> Result<()> {
        self.blobs.delete(&BlobKey::picture(id)).await?;
        self.blobs.delete(&BlobKey::picture_thumb(id)).await
    }
}

impl TryFrom<Row> for Picture {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let adapters: Vec<AdapterUse> = serde_json::from_str(&row.adapters)?;
        let Row { prompt, width, height, steps, guidance, model, seconds, created_at, .. } = row;
        let (id, run, seed) = (row.id.into(), row.run.into(), row.seed as u64);
        Ok(Self { id, run, prompt, width, height, steps, guidance, seed, adapters, model, seconds, created_at })
    }
}

/// What the PNG says about itself.
fn recipe(picture: &Picture) -> serde_json::Value {
    let adapters: Vec<_> = picture.adapters.iter().map(|used| serde_json::json!({"name": used.name, "scale": used.scale})).collect();
    serde_json::json!({
        "prompt": picture.prompt,
        "model": picture.model,
        "width": picture.width,
        "height": picture.height,
        "steps": picture.steps,
        "guidance": picture.guidance,
        "seed": picture.seed,
        "adapters": adapters,
        "software": concat!("Atelier ", env!("CARGO_PKG_VERSION")),
    })
}
