"""Speed as ratios within one run: ``make bench``.

Each measurement is repeated in turn with what it is compared with, and medians are divided, so that
a slow or busy machine slows both sides.
"""

from __future__ import annotations

import sys

import store_speed

if __name__ == "__main__":
    failed = store_speed.run()
    sys.exit(1 if failed else 0)
