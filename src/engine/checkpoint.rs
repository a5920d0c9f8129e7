//! A model folder in diffusers layout: configs and (sharded) safetensors, checked key by key.

use crate::Result;
