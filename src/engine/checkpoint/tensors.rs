//! The tensors of one part of a model, by the engine's names, wherever and in whatever form they are.

use super::{
    contents::Found,
    file::{Entry, TensorFile},
    names::{Names, Part, Place},
    stored::Stored,
};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

pub struct Tensors {
    files: Vec<TensorFile>,
    /// Key without the prefix → file.
    keys: HashMap<String, usize>,
    prefix: String,
    names: Names,
    taken: Mutex<BTreeSet<String>>,
    /// The last quantised layer of which a part was taken: its other parts are asked for next.
    last: Mutex<Option<(String, Tensor)>>,
}

impl Tensors {
    /// Of one file or several.
    pub fn open(paths: &[PathBuf], found: Option<Found>) -> Result<Self> {
        let files = paths.iter().map(|path| TensorFile::open(path)).collect::<Result<Vec<_>>>()?;
        let Found { prefix, names } = found.unwrap_or(Found { prefix: String::new(), names: Names::Own });
        let keys = files.iter().enumerate().flat_map(|(index, file)| {
            let inner = |key: &String| key.strip_prefix(&prefix).map(|key| (key.to_owned(), index));
            file.entries().keys().filter_map(inner).collect::<Vec<_>>()
        });
        Ok(Self { keys: keys.collect(), files, prefix, names, taken: Mutex::default(), last: Mutex::default() })
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    pub fn has(&self, key: &str) -> bool {
        self.names.place(key).is_some_and(|place| self.keys.contains_key(&place.key))
    }

    /// How many there are of what `key` names by number: one more than the highest number in the part's keys, so that a gap is missed when it
    /// is asked for.
    pub fn count(&self, key: impl Fn(usize) -> String) -> usize {
        let [first, second] = [0, 1].map(|number| self.names.place(&key(number)).map(|place| place.key).unwrap_or_default());
        let before = first.bytes().zip(second.bytes()).take_while(|(one, other)| one == other).count();
        count_after(self.keys.keys(), &first[..before])
    }

    /// Of the whole layer that holds the tensor.
    pub fn shape(&self, key: &str) -> Result<Vec<usize>> {
        self.stored(&self.place(key)?, |stored| stored.shape())
    }

    /// bf16, f16 or f32: as it is stored, or what its quantised form stands for.
    pub fn take(&self, key: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
        let place = self.place(key)?;
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(place.key.clone());
        self.stored(&place, |stored| {
            let whole = stored.shape()?;
            let rows = rows(place.part, &whole, shape).ok_or_else(|| self.refuse(wrong_shape(key, &place, &whole, shape)))?;
            if !stored.is_quantised() {
                let parts = rows.iter().map(|&(first, count)| stored.rows(first, count, device)).collect::<Result<Vec<_>>>()?;
                return Ok(Tensor::cat(&parts, 0)?.reshape(shape)?);
            }
            let values = self.values(stored, place.part)?;
            let parts = rows.iter().map(|&(first, count)| values.narrow(0, first, count)).collect::<candle_core::Result<Vec<_>>>()?;
            Ok(Tensor::cat(&parts, 0)?.reshape(shape)?.to_device(device)?)
        })
    }

    /// What a quantised tensor stands for; kept for a while if only a part of it was asked for.
    fn values(&self, stored: &Stored, part: Part) -> Result<Tensor> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((key, values)) = last.as_ref()
            && key == stored.key
        {
            return Ok(values.clone());
        }
        // Before the next one is made: one of them fills a gigabyte in a large model.
        *last = None;
        let values = stored.values()?;
        if matches!(part, Part::Nth { .. } | Part::Last) {
            *last = Some((stored.key.to_owned(), values.clone()));
        }
        Ok(values)
    }

    /// What nothing asked for, less the companions of what was.
    pub fn unused(&self) -> Vec<&String> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let companion = |key: &str| taken.iter().any(|taken| key.starts_with(taken.trim_end_matches("weight")));
        self.keys.keys().filter(|key| !taken.contains(*key) && !companion(key)).collect()
    }

    pub fn refuse(&self, problem: impl std::fmt::Display) -> Error {
        let path = self.files.first().map_or_else(PathBuf::new, |file| file.path.clone());
        Error::model(path, problem.to_string())
    }

    fn place(&self, key: &str) -> Result<Place> {
        let place = self.names.place(key).filter(|place| self.keys.contains_key(&place.key));
        place.ok_or_else(|| {
            let called = self.names.place(key).map_or_else(|| key.to_owned(), |place| format!("{}{}", self.prefix, place.key));
            self.refuse(format!("tensor {called} is missing"))
        })
    }

    fn stored<T>(&self, place: &Place, read: impl FnOnce(&Stored) -> Result<T>) -> Result<T> {
        let (file, entry) = self.find(&place.key).expect("a place that was found");
        read(&Stored { key: &place.key, file, entry, find: &|key| self.find(key) })
    }

    /// A tensor by its name in the file, less the prefix.
    fn find(&self, key: &str) -> Option<(&TensorFile, &Entry)> {
        let file = &self.files[*self.keys.get(key)?];
        Some((file, file.entries().get(&format!("{}{key}", self.prefix))?))
    }
}

/// One more than the highest number that follows `before` in these keys.
pub fn count_after<'a>(keys: impl Iterator<Item = &'a String>, before: &str) -> usize {
    // Four digits are no block's: a made-up number must not make a configuration of millions.
    let number = |key: &String| key.strip_prefix(before)?.split('.').next().filter(|digits| digits.len() < 4)?.parse::<usize>().ok();
    keys.filter_map(number).max().map_or(0, |highest| highest + 1)
}

/// First row and count of what makes up a tensor of `shape` out of one of shape `whole`; none if they do not belong together.
fn rows(part: Part, whole: &[usize], shape: &[usize]) -> Option<Vec<(usize, usize)>> {
    let [all, inner @ ..] = whole else { return shape.is_empty().then(Vec::new) };
    let [count, asked @ ..] = shape else { return None };
    // BFL's VAE has its attention's layers as convolutions of one pixel.
    let same = inner == asked || (inner.iter().product::<usize>() == asked.iter().product::<usize>() && inner.ends_with(&[1, 1]));
    let fits = match part {
        Part::Whole | Part::Turned => all == count,
        Part::Nth { of: 4, .. } => *all > 3 * count,
        Part::Nth { of, .. } => *all == of * count,
        Part::Last => all > count,
    };
    (same && fits).then(|| match part {
        Part::Whole => vec![(0, *count)],
        Part::Turned => vec![(all / 2, all - all / 2), (0, all / 2)],
        Part::Nth { index, .. } => vec![(index * count, *count)],
        Part::Last => vec![(all - count, *count)],
    })
}

fn wrong_shape(key: &str, place: &Place, whole: &[usize], shape: &[usize]) -> String {
    match place.part {
        Part::Whole | Part::Turned => format!("tensor {} has shape {whole:?}, but the config asks for {shape:?}", place.key),
        Part::Nth { .. } | Part::Last => {
            format!("tensor {} has shape {whole:?}, which cannot hold {key} of shape {shape:?} beside its other parts", place.key)
        }
    }
}
