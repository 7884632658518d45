"""ONNX Runtime, told to keep to itself.

From 1.32 on it collects telemetry on Linux too: it writes a device's identity into the home folder as soon as
it is imported, and sends what it was used for over the network.
"""

from __future__ import annotations

import os
from typing import Any


def onnx_runtime() -> Any:
    """The package, with its telemetry off unless `ORT_DISABLE_TELEMETRY` is set to something else.

    What has imported it before has decided that for the process. Raises ImportError.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
