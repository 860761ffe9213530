//! The simulator, seed by seed.
//!
//! `HEADWATER_VIEWS_SEEDS=1000` plays so many histories; `HEADWATER_VIEWS_SEED=7` plays what seed 7 says and nothing else.

use crate::simulator::{QUERIES, play};

#[test]
fn every_version_is_what_datafusion_computes() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    if let Some(seed) = number("HEADWATER_VIEWS_SEED") {
        return play(seed, QUERIES);
    }
    for seed in 0..number("HEADWATER_VIEWS_SEEDS").unwrap_or(2) {
        println!("seed {seed}");
        play(seed, QUERIES);
    }
}
