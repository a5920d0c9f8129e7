//! The file that is published: in the layout that diffusers reads, whatever layout it came in.

use super::super::error::{Error, Result, blocking};
use bytes::Bytes;
use engine::{Adapter, Device, adapter::Target};
use safetensors::SafeTensors;

/// The same bytes when they are in that layout already.
pub async fn for_diffusers(name: String, bytes: Vec<u8>) -> Result<Bytes> {
    blocking(move || {
        if is_diffusers(&bytes)? {
            return Ok(bytes.into());
        }
        Ok(Adapter::from_bytes(&name, &bytes, &Device::Cpu)?.export(Target::Diffusers)?.bytes.into())
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
    async fn an_alpha_is_baked_in_and_a_file_of_diffusers_stays() {
        let tensor = |shape: &[usize]| Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        let module = "transformer.transformer_blocks.0.attn.to_q";
        let tensors = [("lora_A.weight", tensor(&[2, 8])), ("lora_B.weight", tensor(&[8, 2])), ("alpha", tensor(&[]))];
        let named = tensors.map(|(end, tensor)| (format!("{module}.{end}"), tensor));
        let with_alpha = safetensors::serialize(named.iter().map(|(name, tensor)| (name, tensor)), None).unwrap();
        let converted = for_diffusers("x".into(), with_alpha).await.unwrap();
        let file = SafeTensors::deserialize(&converted).unwrap();
        assert_eq!(file.names().len(), 2, "{:?}", file.names());
        // Alpha 1 over rank 2.
        assert_eq!(file.tensor(&format!("{module}.lora_B.weight")).unwrap().data()[..4], 0.5_f32.to_le_bytes());
        assert_eq!(for_diffusers("x".into(), converted.to_vec()).await.unwrap(), converted);
        assert!(for_diffusers("x".into(), b"nonsense".to_vec()).await.is_err());
    }
}
