"""The core: features, targets, walk-forward, models, intervals and the proof of skill. No I/O."""
