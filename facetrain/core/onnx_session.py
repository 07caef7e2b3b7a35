"""onnxruntime on the CPU, quiet: the one way in which a file is opened that is looked at, and not used to detect."""

from pathlib import Path
from typing import Any

from facetrain.core.files import as_native


def cpu_session(model: Path | bytes, threads: int = 0) -> Any:
    """An InferenceSession of a file or its content. threads: of one operator, 0 for onnxruntime's choice.

    Raises whatever onnxruntime does, whose errors have no common class.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    content = as_native(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
