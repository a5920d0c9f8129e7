//! Text embeddings in a Parquet file, a row an image, with the columns of the reference's `compute_embeddings.py` and what its reader lacks:
//! shapes, the caption, and the encoder that made them.

use crate::{Error, Result, atomic};
use engine::text_encoder::Conditioning;
use engine::{DType, Device, Tensor};
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// `image_hash` is the SHA-256 of the file; prompt_embeds are [sequence_length, width] and text_ids [sequence_length, 3], flattened.
const SCHEMA: &str = "
    message embeddings {
        REQUIRED BINARY image_hash (STRING);
        REQUIRED BINARY caption (STRING);
        REQUIRED BINARY encoder (STRING);
        REQUIRED INT32 sequence_length;
        REQUIRED INT32 width;
        REQUIRED group prompt_embeds (LIST) { REPEATED group list { REQUIRED FLOAT element; } }
        REQUIRED group pooled_prompt_embeds (LIST) { REPEATED group list { REQUIRED FLOAT element; } }
        REQUIRED group text_ids (LIST) { REPEATED group list { REQUIRED FLOAT element; } }
    }";

/// What makes embeddings of the same caption differ.
pub struct Key {
    /// Fingerprint of both text encoders and their tokenizers.
    pub encoder: String,
    pub max_sequence_length: usize,
}

#[derive(Clone)]
pub struct Encoded {
    pub caption: String,
    pub conditioning: Conditioning,
}

/// The rows made with this key, by image hash. A file that is damaged or of another encoder yields nothing and is made again.
pub fn read(path: &Path, key: &Key, device: &Device) -> HashMap<String, Encoded> {
    if !path.exists() {
        return HashMap::new();
    }
    rows(path)
        .and_then(|rows| {
            let fitting = rows.into_iter().filter(|row| row.encoder == key.encoder && row.sequence_length == key.max_sequence_length);
            fitting.map(|row| row.encoded(device)).collect::<Result<_>>()
        })
        .inspect_err(|error| tracing::warn!("{}: {error}; encoding the captions again", path.display()))
        .unwrap_or_default()
}

/// Image hash → caption, as the file has them.
pub fn captions(path: &Path) -> Result<HashMap<String, String>> {
    Ok(rows(path)?.into_iter().map(|row| (row.image_hash, row.caption)).collect())
}

/// Writes all rows, in the order of their hashes, whole or not at all.
pub fn write(path: &Path, key: &Key, embeddings: &HashMap<String, Encoded>) -> Result<()> {
    let mut rows = embeddings.iter().map(|(hash, encoded)| Row::new(hash, encoded, key)).collect::<Result<Vec<_>>>()?;
    rows.sort_by(|a, b| a.image_hash.cmp(&b.image_hash));
    let file = atomic::temporary(path.parent().unwrap_or(Path::new(".")))?;
    write_rows(file.reopen()?, &rows).map_err(unusable)?;
    atomic::persist(file, path)
}

struct Row {
    image_hash: String,
    caption: String,
    encoder: String,
    sequence_length: usize,
    width: usize,
    prompt_embeds: Vec<f32>,
    pooled_prompt_embeds: Vec<f32>,
}

impl Row {
    fn new(image_hash: &str, encoded: &Encoded, key: &Key) -> Result<Self> {
        let Conditioning { pooled, tokens } = &encoded.conditioning;
        let flat = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let (_, sequence_length, width) = tokens.dims3()?;
        Ok(Self {
            image_hash: image_hash.to_owned(),
            caption: encoded.caption.clone(),
            encoder: key.encoder.clone(),
            sequence_length,
            width,
            prompt_embeds: flat(tokens)?,
            pooled_prompt_embeds: flat(pooled)?,
        })
    }

    fn encoded(self, device: &Device) -> Result<(String, Encoded)> {
        let pooled_width = self.pooled_prompt_embeds.len();
        let tokens = Tensor::from_vec(self.prompt_embeds, (1, self.sequence_length, self.width), device)?;
        let pooled = Tensor::from_vec(self.pooled_prompt_embeds, (1, pooled_width), device)?;
        Ok((self.image_hash, Encoded { caption: self.caption, conditioning: Conditioning { pooled, tokens } }))
    }
}

fn write_rows(file: File, rows: &[Row]) -> Result<(), ParquetError> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    write_texts(&mut group, rows.iter().map(|row| row.image_hash.as_str()))?;
    write_texts(&mut group, rows.iter().map(|row| row.caption.as_str()))?;
    write_texts(&mut group, rows.iter().map(|row| row.encoder.as_str()))?;
    write_numbers(&mut group, rows.iter().map(|row| row.sequence_length as i32))?;
    write_numbers(&mut group, rows.iter().map(|row| row.width as i32))?;
    write_lists(&mut group, rows.iter().map(|row| row.prompt_embeds.clone()))?;
    write_lists(&mut group, rows.iter().map(|row| row.pooled_prompt_embeds.clone()))?;
    write_lists(&mut group, rows.iter().map(|row| vec![0.0; row.sequence_length * 3]))?;
    group.close()?;
    writer.close()?;
    Ok(())
}

type Group<'a> = SerializedRowGroupWriter<'a, File>;

fn write_texts<'a>(group: &mut Group, texts: impl Iterator<Item = &'a str>) -> Result<(), ParquetError> {
    write_column::<ByteArrayType>(group, &texts.map(ByteArray::from).collect::<Vec<_>>(), None)
}

fn write_numbers(group: &mut Group, numbers: impl Iterator<Item = i32>) -> Result<(), ParquetError> {
    write_column::<Int32Type>(group, &numbers.collect::<Vec<_>>(), None)
}

fn write_lists(group: &mut Group, lists: impl Iterator<Item = Vec<f32>>) -> Result<(), ParquetError> {
    let (mut values, mut starts) = (Vec::new(), Vec::new());
    for list in lists {
        // Repetition level 0 begins a row.
        starts.extend((0..list.len()).map(|index| i16::from(index > 0)));
        values.extend(list);
    }
    write_column::<FloatType>(group, &values, Some(&starts))
}

fn write_column<T: DataType>(group: &mut Group, values: &[T::T], repetitions: Option<&[i16]>) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("the schema has too few columns".into()))?;
    let definitions = repetitions.map(|repetitions| vec![1; repetitions.len()]);
    column.typed::<T>().write_batch(values, definitions.as_deref(), repetitions)?;
    column.close()
}

fn rows(path: &Path) -> Result<Vec<Row>> {
    let reader = SerializedFileReader::new(File::open(path)?).map_err(unusable)?;
    let mut rows = Vec::new();
    for index in 0..reader.num_row_groups() {
        rows.extend(group_rows(reader.get_row_group(index).map_err(unusable)?.as_ref()).map_err(unusable)?);
    }
    Ok(rows)
}

fn group_rows(group: &dyn RowGroupReader) -> Result<Vec<Row>, ParquetError> {
    let (hashes, captions, encoders) = (texts(group, 0)?, texts(group, 1)?, texts(group, 2)?);
    let (lengths, widths) = (numbers(group, 3)?, numbers(group, 4)?);
    let (prompts, pooled) = (lists(group, 5)?, lists(group, 6)?);
    let rows = group.metadata().num_rows() as usize;
    let columns = [hashes.len(), captions.len(), encoders.len(), lengths.len(), widths.len(), prompts.len(), pooled.len()];
    if columns.iter().any(|&length| length != rows) {
        return Err(ParquetError::General("its columns have different lengths".into()));
    }
    let texts = hashes.into_iter().zip(captions).zip(encoders);
    let shapes = lengths.into_iter().zip(widths);
    let rows = texts.zip(shapes).zip(prompts.into_iter().zip(pooled));
    rows.map(|((((image_hash, caption), encoder), (length, width)), (prompt_embeds, pooled_prompt_embeds))| {
        let (sequence_length, width) = (length.max(0) as usize, width.max(0) as usize);
        if prompt_embeds.len() != sequence_length * width {
            return Err(ParquetError::General("a row's shape does not fit its values".into()));
        }
        Ok(Row { image_hash, caption, encoder, sequence_length, width, prompt_embeds, pooled_prompt_embeds })
    })
    .collect()
}

fn texts(group: &dyn RowGroupReader, index: usize) -> Result<Vec<String>, ParquetError> {
    let (values, _) = column::<ByteArrayType>(group, index)?;
    values.iter().map(|value| Ok(value.as_utf8()?.to_owned())).collect()
}

fn numbers(group: &dyn RowGroupReader, index: usize) -> Result<Vec<i32>, ParquetError> {
    Ok(column::<Int32Type>(group, index)?.0)
}

fn lists(group: &dyn RowGroupReader, index: usize) -> Result<Vec<Vec<f32>>, ParquetError> {
    let (values, repetitions) = column::<FloatType>(group, index)?;
    let mut lists: Vec<Vec<f32>> = Vec::new();
    for (value, repetition) in values.into_iter().zip(repetitions) {
        if repetition == 0 {
            lists.push(Vec::new());
        }
        lists.last_mut().ok_or_else(|| ParquetError::General("a list has no beginning".into()))?.push(value);
    }
    Ok(lists)
}

/// All values of a column and their repetition levels.
fn column<T: DataType>(group: &dyn RowGroupReader, index: usize) -> Result<(Vec<T::T>, Vec<i16>), ParquetError> {
    let rows = group.metadata().num_rows() as usize;
    let mut reader = get_typed_column_reader::<T>(group.get_column_reader(index)?);
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, _, _) = reader.read_records(rows - read, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    Ok((values, repetitions))
}

fn unusable(error: ParquetError) -> Error {
    Error::State(format!("the file of text embeddings cannot be used ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(caption: &str, value: f32) -> Encoded {
        let tensor = |shape: &[usize]| (Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap() * f64::from(value)).unwrap();
        Encoded { caption: caption.into(), conditioning: Conditioning { pooled: tensor(&[1, 5]), tokens: tensor(&[1, 4, 3]) } }
    }

    #[test]
    fn rows_come_back_by_hash_and_other_encoders_rows_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("embeddings.parquet");
        let key = Key { encoder: "e1".into(), max_sequence_length: 4 };
        let rows = HashMap::from([
            ("bb".into(), encoded("a lake", 2.0)),
            ("aa".into(), encoded("naïve café", 1.0)),
            (String::new(), encoded("", 0.5)),
        ]);
        write(&path, &key, &rows).unwrap();
        let read_back = read(&path, &key, &Device::Cpu);
        assert_eq!(read_back.len(), 3);
        assert_eq!(read_back["bb"].caption, "a lake");
        assert_eq!(read_back["bb"].conditioning.tokens.dims(), [1, 4, 3]);
        assert_eq!(read_back["aa"].conditioning.pooled.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0; 5]);
        assert_eq!(captions(&path).unwrap()["aa"], "naïve café");

        let other = |encoder: &str, max_sequence_length| read(&path, &Key { encoder: encoder.into(), max_sequence_length }, &Device::Cpu);
        assert!(other("e2", 4).is_empty() && other("e1", 5).is_empty());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(other("e1", 4).is_empty());
    }
}
