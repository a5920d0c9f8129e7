//! What every operation shares on one device.
