//! Measurements, each as ratios to a base in the same run. A missed goal is printed; a measurement that could not be made fails.

pub mod guard;
pub mod proxy;
pub mod report;
