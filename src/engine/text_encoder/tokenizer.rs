//! Prompt → token ids of one length, with the normalisation of transformers' `CLIPTokenizer` and `T5Tokenizer`.

use crate::{Error, Model, Result, checkpoint::read_json};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokenizers::{
    AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior,
    models::bpe::BPE,
    normalizers::{Lowercase, NFC, NormalizerWrapper, Replace, Sequence as Normalizers, replace::ReplacePattern},
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence as PreTokenizers,
        split::{Split, SplitPattern},
    },
    processors::roberta::RobertaProcessing,
};

/// Words, single digits, and runs of anything else (`CLIPTokenizer`).
const CLIP_WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

pub struct Tokenizer {
    words: Words,
    pad: u32,
    /// What it was read from, for the fingerprint.
    pub files: Vec<PathBuf>,
}

/// How a prompt is divided.
enum Words {
    Trained(tokenizers::Tokenizer),
    /// A token a byte, then the end token: for synthetic models, which have learnt no words.
    Bytes {
        end: u32,
    },
}

/// The first of a synthetic model's 256 tokens; T5 has padding and end below them.
const FIRST_BYTE: u32 = 3;

impl Tokenizer {
    /// `vocab.json` + `merges.txt`, or else `tokenizer.json`; padded with the pad token of `tokenizer_config.json`.
    pub fn clip(model: &Model) -> Result<Self> {
        match model.tokenizer("tokenizer") {
            Some(folder) => Self::clip_folder(&folder),
            None => {
                let config: super::ClipConfig = model.config("text_encoder")?;
                Ok(Self::bytes(config.eos_token_id, config.eos_token_id))
            }
        }
    }

    /// `tokenizer.json`, padded with `<pad>`.
    pub fn t5(model: &Model) -> Result<Self> {
        match model.tokenizer("tokenizer_2") {
            Some(folder) => Self::t5_folder(&folder),
            None => Ok(Self::bytes(1, 0)),
        }
    }

    fn clip_folder(folder: &Path) -> Result<Self> {
        let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        if !vocab.is_file() && folder.join("tokenizer.json").is_file() {
            return Self::from_tokenizer_json(folder, &SpecialTokens::read(folder, "<|endoftext|>")?.pad);
        }
        let special = SpecialTokens::read(folder, "<|endoftext|>")?;
        let missing = [&vocab, &merges].into_iter().find(|path| !path.is_file());
        if let Some(path) = missing {
            return Err(Error::model(path, "this file of the model is missing"));
        }
        let inner = clip(&vocab, &merges, &special).map_err(|e| Error::model(folder, format!("the tokenizer cannot be read: {e}")))?;
        Self::new(inner, folder, &special.pad, vec![vocab, merges])
    }

    fn t5_folder(folder: &Path) -> Result<Self> {
        Self::from_tokenizer_json(folder, &SpecialTokens::read(folder, "<pad>")?.pad)
    }

    fn bytes(end: u32, pad: u32) -> Self {
        Self { words: Words::Bytes { end }, pad, files: Vec::new() }
    }

    fn from_tokenizer_json(folder: &Path, pad: &str) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(Error::model(path, "this file of the model is missing"));
        }
        let mut inner =
            tokenizers::Tokenizer::from_file(&path).map_err(|e| Error::model(&path, format!("the tokenizer cannot be read: {e}")))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::model(&path, e))?;
        Self::new(inner, folder, pad, vec![path])
    }

    fn new(inner: tokenizers::Tokenizer, folder: &Path, pad: &str, files: Vec<PathBuf>) -> Result<Self> {
        let pad = inner.token_to_id(pad).ok_or_else(|| Error::model(folder, format!("the tokenizer has no {pad} token")))?;
        Ok(Self { words: Words::Trained(inner), pad, files })
    }

    /// Ids with the end token last before the padding, each row exactly `length` long.
    pub fn encode(&self, prompts: &[&str], length: usize) -> Result<Vec<Vec<u32>>> {
        prompts.iter().map(|prompt| self.encode_one(prompt, length)).collect()
    }

    fn encode_one(&self, prompt: &str, length: usize) -> Result<Vec<u32>> {
        let mut ids = self.words.ids(prompt)?;
        if ids.len() > length {
            // Truncation keeps the end token.
            let end = ids[ids.len() - 1];
            ids.truncate(length);
            ids[length - 1] = end;
        }
        ids.resize(length, self.pad);
        Ok(ids)
    }
}

impl Words {
    /// The end token last.
    fn ids(&self, prompt: &str) -> Result<Vec<u32>> {
        match self {
            Self::Trained(words) => {
                let encoding = words.encode_fast(prompt, true);
                Ok(encoding.map_err(|e| Error::invalid(format!("the prompt cannot be read as text: {e}")))?.get_ids().to_vec())
            }
            Self::Bytes { end } => Ok(prompt.bytes().map(|byte| FIRST_BYTE + u32::from(byte)).chain([*end]).collect()),
        }
    }
}

/// The tokens that `tokenizer_config.json` names.
struct SpecialTokens {
    start: String,
    end: String,
    pad: String,
}

impl SpecialTokens {
    fn read(folder: &Path, default_pad: &str) -> Result<Self> {
        let path = folder.join("tokenizer_config.json");
        let config: Value = if path.is_file() { read_json(&path)? } else { Value::Null };
        // A token is written as a string or as an object with its `content`.
        let token = |name: &str, default: &str| {
            let value = &config[name];
            value.as_str().or(value["content"].as_str()).unwrap_or(default).to_owned()
        };
        Ok(Self {
            start: token("bos_token", "<|startoftext|>"),
            end: token("eos_token", "<|endoftext|>"),
            pad: token("pad_token", default_pad),
        })
    }
}

/// The pipeline of transformers' `models/clip/tokenization_clip.py`.
fn clip(vocab: &Path, merges: &Path, special: &SpecialTokens) -> tokenizers::Result<tokenizers::Tokenizer> {
    let model = BPE::from_file(&vocab.to_string_lossy(), &merges.to_string_lossy())
        .unk_token(special.end.clone())
        .end_of_word_suffix("</w>".into())
        .build()?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    let one_space = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ")?;
    let normalizers = vec![NormalizerWrapper::NFC(NFC), NormalizerWrapper::Replace(one_space), NormalizerWrapper::Lowercase(Lowercase)];
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)))?;
    let words = Split::new(SplitPattern::Regex(CLIP_WORDS.into()), SplitDelimiterBehavior::Removed, true)?;
    let bytes = ByteLevel::new(false, true, true);
    let pre_tokenizers = vec![PreTokenizerWrapper::Split(words), PreTokenizerWrapper::ByteLevel(bytes)];
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(pre_tokenizers)));
    let tokens = [&special.start, &special.end].map(|token| AddedToken::from(token.clone(), true));
    tokenizer.add_special_tokens(tokens)?;
    let id = |token: &String| tokenizer.token_to_id(token).map(|id| (token.clone(), id)).ok_or(format!("no {token} token"));
    let roberta = RobertaProcessing::new(id(&special.end)?, id(&special.start)?).trim_offsets(false).add_prefix_space(false);
    tokenizer.with_post_processor(Some(roberta));
    Ok(tokenizer)
}
