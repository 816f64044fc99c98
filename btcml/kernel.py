"""An IPython kernel that ends with the process that started it, also while it still starts or already ends.

ipykernel watches its parent only from when it serves: a kernel whose parent is killed before may never end.
"""

from __future__ import annotations

import os
import sys

from ipykernel.kernelapp import launch_new_instance
from ipykernel.parentpoller import ParentPollerUnix
from jupyter_client.kernelspec import KernelSpec


def kernel_spec(*arguments: str) -> KernelSpec:
    """Specification of a kernel of the running interpreter, with more arguments of its command line."""
    command = [sys.executable, "-m", __name__, "-f", "{connection_file}", *arguments]
    return KernelSpec(argv=command, display_name="Python 3", language="python")


if __name__ == "__main__":
    ParentPollerUnix(int(os.environ["JPY_PARENT_PID"])).start()  # type: ignore[no-untyped-call]
    launch_new_instance()
