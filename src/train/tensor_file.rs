//! A safetensors file of our own: f32 and byte tensors, a word about them, and a checksum, written whole or not at all.

use crate::dataset::sha256;
use crate::{Error, Result, atomic};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The one metadata key, so that the header's bytes do not depend on the order of a hash map.
const ABOUT: &str = "about";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorFile {
    pub about: BTreeMap<String, String>,
    tensors: BTreeMap<String, (Vec<usize>, Values)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Floats(Vec<f32>),
    Bytes(Vec<u8>),
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self::Floats(values)
    }
}

impl From<Vec<u8>> for Values {
    fn from(values: Vec<u8>) -> Self {
        Self::Bytes(values)
    }
}

impl TensorFile {
    pub fn put(&mut self, name: &str, shape: &[usize], values: impl Into<Values>) {
        self.tensors.insert(name.to_owned(), (shape.to_vec(), values.into()));
    }

    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        self.tensors.get(name).map(|(shape, _)| shape.as_slice()).ok_or_else(|| damaged(format!("{name} is missing")))
    }

    /// The f32 tensor of that name, which must have `length` elements.
    pub fn floats(&self, name: &str, length: usize) -> Result<&[f32]> {
        match self.tensors.get(name) {
            Some((_, Values::Floats(values))) if values.len() == length => Ok(values),
            _ => Err(damaged(format!("{name} is missing or has another shape"))),
        }
    }

    /// Fills `values` from the tensor of that name.
    pub fn read_floats(&self, name: &str, values: &mut [f32]) -> Result<()> {
        values.copy_from_slice(self.floats(name, values.len())?);
        Ok(())
    }

    /// Fills `values` from the byte tensor of that name.
    pub fn read_bytes(&self, name: &str, values: &mut [u8]) -> Result<()> {
        match self.tensors.get(name) {
            Some((_, Values::Bytes(saved))) if saved.len() == values.len() => values.copy_from_slice(saved),
            _ => return Err(damaged(format!("{name} is missing or has another shape"))),
        }
        Ok(())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let raw: Vec<_> = self.tensors.iter().map(|(name, (shape, values))| (name, shape, values.dtype(), values.to_bytes())).collect();
        let mut about = self.about.clone();
        about.insert("sha256".into(), checksum(raw.iter().map(|(_, _, _, bytes)| bytes.as_slice())));
        let views = raw.iter().map(|(name, shape, dtype, bytes)| Ok((name.as_str(), TensorView::new(*dtype, shape.to_vec(), bytes)?)));
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>().map_err(damaged)?;
        let header = HashMap::from([(ABOUT.to_owned(), serde_json::to_string(&about).map_err(damaged)?)]);
        atomic::write(path, &safetensors::serialize(views, Some(header)).map_err(damaged)?)
    }

    /// Refuses a file that is cut short, altered or not ours.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let about = header.metadata().as_ref().and_then(|metadata| metadata.get(ABOUT)).ok_or_else(|| damaged("it has no description"))?;
        let mut about: BTreeMap<String, String> = serde_json::from_str(about).map_err(damaged)?;
        let parsed = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let views: BTreeMap<String, TensorView> = parsed.tensors().into_iter().collect();
        if about.remove("sha256") != Some(checksum(views.values().map(|view| view.data()))) {
            return Err(damaged("its checksum is wrong"));
        }
        let tensors =
            views.into_iter().map(|(name, view)| Ok((name, (view.shape().to_vec(), Values::of(&view)?)))).collect::<Result<_>>()?;
        Ok(Self { about, tensors })
    }
}

impl Values {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Floats(_) => Dtype::F32,
            Self::Bytes(_) => Dtype::U8,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Floats(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bytes(values) => values.clone(),
        }
    }

    fn of(view: &TensorView) -> Result<Self> {
        match view.dtype() {
            Dtype::F32 => Ok(Self::Floats(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())),
            Dtype::U8 => Ok(Self::Bytes(view.data().to_vec())),
            other => Err(damaged(format!("{other:?} does not belong in it"))),
        }
    }
}

fn checksum<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    sha256(parts.map(sha256).collect::<Vec<_>>().concat().as_bytes())
}

fn damaged(problem: impl std::fmt::Display) -> Error {
    Error::State(format!("a file of this run is damaged: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let mut file = TensorFile::default();
        file.about.insert("image".into(), "abc".into());
        file.put("a", &[2, 2], vec![1.0f32, f32::MIN_POSITIVE, -0.0, 3.5]);
        file.put("b", &[3], vec![1u8, 2, 255]);
        file.write(&path).unwrap();
        assert_eq!(TensorFile::read(&path).unwrap(), file);

        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(TensorFile::read(&path).unwrap_err().to_string().contains("checksum"));
        std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
        assert!(TensorFile::read(&path).is_err());
    }
}
