"""The core: features, targets, walk-forward, models, intervals and the verdict; the only I/O is files of models."""
