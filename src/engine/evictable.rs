//! A part of a model that leaves the device while memory is short, and is loaded again by whoever needs it next.

use crate::Result;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub struct Evictable<T> {
    load: Box<dyn Fn() -> Result<T> + Send + Sync>,
    held: Mutex<Option<Arc<T>>>,
}

impl<T> Evictable<T> {
    /// Not loaded before its first use.
    pub fn new(load: impl Fn() -> Result<T> + Send + Sync + 'static) -> Self {
        Self { load: Box::new(load), held: Mutex::new(None) }
    }

    pub fn get(&self) -> Result<Arc<T>> {
        let mut held = self.held();
        match &*held {
            Some(part) => Ok(part.clone()),
            None => Ok(held.insert(Arc::new((self.load)()?)).clone()),
        }
    }

    /// Frees the part's memory as soon as nobody uses it.
    pub fn evict(&self) {
        *self.held() = None;
    }

    pub fn is_resident(&self) -> bool {
        self.held().is_some()
    }

    fn held(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn is_loaded_at_use_kept_and_loaded_again() {
        static LOADS: AtomicUsize = AtomicUsize::new(0);
        let part = Evictable::new(|| Ok(LOADS.fetch_add(1, Ordering::Relaxed)));
        assert!(!part.is_resident());
        assert_eq!((*part.get().unwrap(), *part.get().unwrap()), (0, 0));
        let in_use = part.get().unwrap();
        part.evict();
        assert!(!part.is_resident());
        assert_eq!((*part.get().unwrap(), *in_use), (1, 0));
    }
}
