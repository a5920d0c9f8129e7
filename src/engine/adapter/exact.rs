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
        let (Some((b, a)), (outputs, inputs)) = (product.form.factored()?, self.update.shape()) else {
            return Ok(Err(format!("its {} is whole, of full rank; `atelier merge` bakes it into a base model", self.kind())));
        };
        if a.dims()[0] >= outputs.min(inputs) {
            let rank = a.dims()[0];
            return Ok(Err(format!(
                "as LoRA it would have rank {rank} in a layer of {inputs} to {outputs}; `atelier merge` bakes it into a base model"
            )));
        }
        let Product { rows, scale, .. } = product;
        let rows = rows.iter().map(|range| b.narrow(0, range.start, range.len())).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Ok(LoraPair { a, b: Tensor::cat(&rows, 0)?, scale: *scale }))
    }
}

impl Form {
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
        }
        assert!(Form::Kronecker([whole(2, 2), whole(3, 3)]).factored().unwrap().is_none());
    }
}
