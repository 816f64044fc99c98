"""An IPython kernel that ends with the process that started it, and when it cannot start.

ipykernel watches its parent only from when it serves: a kernel whose parent is killed before may never end. Where it
cannot bind one of its ports, it waits at its end for sockets that nobody closes, and whoever started it waits too.
"""

from __future__ import annotations

import os
import sys
import traceback

from ipykernel.kernelapp import launch_new_instance
from ipykernel.parentpoller import ParentPollerUnix
from jupyter_client.kernelspec import KernelSpec


def kernel_spec(*arguments: str) -> KernelSpec:
    """Specification of a kernel of the running interpreter, with more arguments of its command line."""
    command = [sys.executable, "-m", __name__, "-f", "{connection_file}", *arguments]
    return KernelSpec(argv=command, display_name="Python 3", language="python")


if __name__ == "__main__":
    ParentPollerUnix(int(os.environ["JPY_PARENT_PID"])).start()  # type: ignore[no-untyped-call]
    try:
        launch_new_instance()
    except Exception:  # noqa: BLE001 - whatever it is, the kernel does not serve
        traceback.print_exc()
        os._exit(1)  # without the cleanup of ipykernel, in which it would wait
