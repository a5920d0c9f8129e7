//! What a run tells its watchers, as server-sent events on `/events/{run}`.

use super::{LossPoint, Picture, Run, Sample};
use serde::{Deserialize, Serialize};

/// Every connection hears `Snapshot` first, so that a reload or a lost connection loses nothing; then changes as they come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The run as it is now (state, progress); sent on every change of them too.
    Snapshot {
        run: Run,
    },
    /// The picture so far, a few KB, as a `data:` URL; `index` within the batch.
    Preview {
        index: u32,
        data_url: String,
        step: u32,
        steps: u32,
    },
    Picture {
        picture: Box<Picture>,
    },
    Loss {
        point: LossPoint,
    },
    Sample {
        sample: Sample,
    },
}
