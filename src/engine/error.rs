//! What can go wrong in the engine: each sentence says what was given and what is allowed.

use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value the caller can mend: a size, a step count, a scale.
    #[error("{0}")]
    Invalid(String),
    /// A model folder or file that is missing, truncated or not FLUX.1.
    #[error("{path}: {problem}")]
    Model { path: PathBuf, problem: String },
    /// An adapter that cannot be used with this model.
    #[error("adapter {name}: {problem}")]
    Adapter { name: String, problem: String },
    #[error("stopped")]
    Cancelled,
    /// A GPU's memory. The device goes on: whoever asked for too much has failed alone.
    #[error("the GPU's memory ran out; choose a smaller size or batch, a smaller precision such as nf4, or full checkpointing")]
    OutOfMemory,
    #[error(transparent)]
    Tensor(candle_core::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Error {
    pub fn invalid(sentence: impl Into<String>) -> Self {
        Self::Invalid(sentence.into())
    }

    pub fn model(path: impl Into<PathBuf>, problem: impl ToString) -> Self {
        Self::Model { path: path.into(), problem: problem.to_string() }
    }

    pub fn adapter(name: impl Into<String>, problem: impl ToString) -> Self {
        Self::Adapter { name: name.into(), problem: problem.to_string() }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        if says(&error, &OUT_OF_MEMORY) { Self::OutOfMemory } else { Self::Tensor(error) }
    }
}

impl Error {
    /// Whether the GPU can do nothing more for this process: its context is lost, and only a new process gets a new one.
    pub fn is_loss_of_device(&self) -> bool {
        matches!(self, Self::Tensor(error) if says(error, &LOST))
    }
}

/// What the driver, cuBLAS and cuDNN call it; candle wraps their errors, and keeps their words.
const OUT_OF_MEMORY: [&str; 3] = ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"];

/// Errors after which every further call of the driver fails.
const LOST: [&str; 7] = [
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_MISALIGNED_ADDRESS",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_ASSERT",
    "CUDA_ERROR_ECC_UNCORRECTABLE",
];

fn says(error: &candle_core::Error, words: &[&str]) -> bool {
    let text = error.to_string();
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_ran_out_and_a_lost_device_are_told_apart() {
        let wrapped = |text: &str| Error::from(candle_core::Error::Cuda(text.into()).bt().context("layer 3"));
        assert!(matches!(wrapped("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"), Error::OutOfMemory));
        assert!(!wrapped("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")").is_loss_of_device());
        assert!(wrapped("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access\")").is_loss_of_device());
        assert!(matches!(wrapped("shape mismatch"), Error::Tensor(_)));
    }
}
