//! The file that is published: in the layout that diffusers reads, whatever layout it came in.

use super::super::error::{Error, Result, blocking};
use bytes::Bytes;
use engine::{Adapter, Device};
use safetensors::SafeTensors;

/// The same bytes when they are in that layout already.
pub async fn for_diffusers(name: String, bytes: Vec<u8>) -> Result<Bytes> {
    blocking(move || {
        if is_diffusers(&bytes)? {
            return Ok(bytes.into());
        }
        Ok(Adapter::from_bytes(&name, &bytes, &Device::Cpu)?.to_bytes()?.into())
    })
    .await
}

fn is_diffusers(bytes: &[u8]) -> Result<bool> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| Error::Refused(format!("The adapter's file cannot be read: {error}.")))?;
    let ours = |key: &&str| {
        (key.starts_with("transformer.") || key.starts_with("text_encoder."))
            && (key.ends_with(".lora_A.weight") || key.ends_with(".lora_B.weight"))
    };
    let names = file.names();
    Ok(!names.is_empty() && names.iter().all(|name| ours(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;

    #[tokio::test]
    async fn a_kohya_file_becomes_one_of_diffusers_and_one_of_diffusers_stays() {
        let tensor = |rows: usize, columns: usize| Tensor::ones((rows, columns), candle_core::DType::F32, &Device::Cpu).unwrap();
        let pairs = [("lora_down.weight", tensor(2, 8)), ("lora_up.weight", tensor(8, 2))];
        let named = pairs.map(|(end, tensor)| (format!("lora_unet_double_blocks_0_img_attn_proj.{end}"), tensor));
        let kohya = safetensors::serialize(named.iter().map(|(name, tensor)| (name, tensor)), None).unwrap();
        let converted = for_diffusers("x".into(), kohya).await.unwrap();
        let names: Vec<String> = SafeTensors::deserialize(&converted).unwrap().names().into_iter().map(str::to_owned).collect();
        assert!(names.iter().any(|name| name == "transformer.transformer_blocks.0.attn.to_out.0.lora_A.weight"), "{names:?}");
        assert_eq!(for_diffusers("x".into(), converted.to_vec()).await.unwrap(), converted);
        assert!(for_diffusers("x".into(), b"nonsense".to_vec()).await.is_err());
    }
}
