"""SimOTA on a CPU by a compiled function (simota.cpp), some ten times as fast as the same by tensors of all priors."""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facetrain.config.schema import AssignConfig
from facetrain.core.errors import DeviceError
from facetrain.data.batch import Batch
from facetrain.model.kernels.build import build_library
from facetrain.model.yunet import Predictions
from facetrain.train.assign import Assigner, penalty, score_costs

SOURCE = Path(__file__).with_name("simota.cpp")


class _Shape(ctypes.Structure):
    """As in simota.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("images", "priors", "rows", "best")),
        *((name, ctypes.c_float) for name in ("radius", "iou_weight", "penalty")),
    ]


def compiled_simota(folder: Path) -> Assigner:
    """The assigner `simota` for batches on a CPU, compiled into `folder`.

    Raises DeviceError where it cannot be compiled, OutputError if the folder cannot be written.
    """
    path = build_library(folder, SOURCE, flags=("-ffp-contract=off",))
    try:
        function: Any = ctypes.CDLL(str(path)).simota
    except (OSError, AttributeError) as error:
        raise DeviceError(f"{path}: cannot be loaded: {error}", "remove it: it is compiled anew") from error
    function.restype = None

    def simota(predictions: Predictions, decoded: Tensor, batch: Batch, config: AssignConfig) -> tuple[Tensor, Tensor]:
        images, priors = predictions.cls.shape
        shape = _Shape(
            *(images, priors, len(batch.boxes), config.candidates),
            *(config.center_radius, config.iou_weight, penalty(config)),
        )
        matched = torch.full((images, priors), -1, dtype=torch.int64)
        quality = torch.zeros((images, priors))
        tensors = [
            *(predictions.priors, decoded, score_costs(predictions)),
            *(batch.boxes, batch.image, batch.kind),
        ]
        tensors = [tensor.contiguous() for tensor in tensors]  # named, so that they live as long as the call
        pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (*tensors, matched, quality))
        function(ctypes.byref(shape), *pointers)
        return matched, quality

    return simota
