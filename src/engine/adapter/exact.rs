//! LoHa and LoKr as the LoRA pairs that they equal, for readers that know nothing else.

use super::{Delta, Factor, Form, LoraPair, Product, Update};
use crate::Result;
use candle_core::Tensor;

impl Delta {
    /// The pair whose product is this change's, or why there is none.
    pub fn exact_pair(&self) -> Result<std::result::Result<LoraPair, String>> {
        if self.magnitude.is_some() {
            return Ok(Err("it is DoRA, which no LoRA file can say exactly; `atelier merge` bakes it into a base model".into()));
        }
        let product = match &self.update {
            Update::Pair(pair) => return Ok(Ok(pair.clone())),
            Update::Product(product) => product,
        };
        let whole = || format!("its {} is whole, of full rank; `atelier merge` bakes it into a base model", self.kind());
        let Some(rank) = product.form.factored_rank() else { return Ok(Err(whole())) };
        // Before they are made: factors of a rank beyond the layer's own can be larger than any memory.
        let (outputs, inputs) = self.update.shape();
        if rank >= outputs.min(inputs) {
            return Ok(Err(format!(
                "as LoRA it would have rank {rank} in a layer of {inputs} to {outputs}; `atelier merge` bakes it into a base model"
            )));
        }
        let Some((b, a)) = product.form.factored()? else { return Ok(Err(whole())) };
        let Product { rows, scale, .. } = product;
        let rows = rows.iter().map(|range| b.narrow(0, range.start, range.len())).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Ok(LoraPair { a, b: Tensor::cat(&rows, 0)?, scale: *scale }))
    }
}

impl Form {
    /// The rank of [`Self::factored`].
    fn factored_rank(&self) -> Option<usize> {
        let (one, other) = match self {
            Self::Hadamard([Factor::Low(_, first), Factor::Low(_, second)]) => (first.dims()[0], second.dims()[0]),
            Self::Kronecker([first, Factor::Low(_, second)]) => (first.shape().1, second.dims()[0]),
            Self::Kronecker([Factor::Low(_, first), Factor::Whole(second)]) => (first.dims()[0], second.dims()[0]),
            _ => return None,
        };
        Some(one.saturating_mul(other))
    }

    /// B and A; none where both factors are whole.
    fn factored(&self) -> Result<Option<(Tensor, Tensor)>> {
        match self {
            // (B₁·A₁)⊙(B₂·A₂): every column of B₁ times every one of B₂, every row of A₁ times every one of A₂.
            Self::Hadamard([Factor::Low(b1, a1), Factor::Low(b2, a2)]) => {
                let ((outputs, r1), (r2, inputs)) = (b1.dims2()?, a2.dims2()?);
                let b = b1.unsqueeze(2)?.broadcast_mul(&b2.unsqueeze(1)?)?.reshape((outputs, r1 * r2))?;
                let a = a1.unsqueeze(1)?.broadcast_mul(&a2.unsqueeze(0)?)?.reshape((r1 * r2, inputs))?;
                Ok(Some((b, a)))
            }
            // K⊗(B·A) = (K⊗B)·(1⊗A)
            Self::Kronecker([first, Factor::Low(b, a)]) => {
                let first = first.matrix()?;
                let one = Tensor::eye(first.dims()[1], first.dtype(), first.device())?;
                Ok(Some((kronecker(&first, b)?, kronecker(&one, a)?)))
            }
            // (B·A)⊗K = (B⊗1)·(A⊗K)
            Self::Kronecker([Factor::Low(b, a), Factor::Whole(second)]) => {
                let one = Tensor::eye(second.dims()[0], second.dtype(), second.device())?;
                Ok(Some((kronecker(b, &one)?, kronecker(a, second)?)))
            }
            _ => Ok(None),
        }
    }
}

fn kronecker(first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let whole = |tensor: &Tensor| Factor::Whole(tensor.clone());
    Form::Kronecker([whole(first), whole(second)]).matrix()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn factors_make_the_same_matrix() {
        let tensor = |shape| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        let low = |n, r, m| Factor::Low(tensor((n, r)), tensor((r, m)));
        let whole = |n, m| Factor::Whole(tensor((n, m)));
        for form in [
            Form::Hadamard([low(7, 2, 9), low(7, 3, 9)]),
            Form::Kronecker([whole(3, 2), low(5, 2, 4)]),
            Form::Kronecker([low(6, 1, 4), low(5, 2, 4)]),
            Form::Kronecker([low(6, 2, 4), whole(3, 5)]),
        ] {
            let (b, a) = form.factored().unwrap().unwrap();
            let difference = (b.matmul(&a).unwrap() - form.matrix().unwrap()).unwrap().abs().unwrap().max_all().unwrap();
            assert!(difference.to_scalar::<f32>().unwrap() < 1e-5, "{form:?}");
            assert_eq!(form.factored_rank(), Some(a.dims()[0]), "{form:?}");
        }
        assert!(Form::Kronecker([whole(2, 2), whole(3, 3)]).factored().unwrap().is_none());
    }

    /// 131 kB that would be 4·10¹² numbers as a factor.
    #[test]
    fn factors_beyond_any_memory_are_never_made() {
        let ones = |shape: (usize, usize)| Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        let form = Form::Kronecker([Factor::Whole(ones((1, 16384))), Factor::Low(ones((1, 16384)), ones((16384, 1)))]);
        let delta = Delta { update: Update::Product(Product::new(form, 1.0)), magnitude: None };
        assert!(delta.exact_pair().unwrap().unwrap_err().contains("rank 268435456"));
    }
}
