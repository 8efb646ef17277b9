"""Writing an ONNX file by torch's exporter."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nlpft.errors import ModelError


def export(module: nn.Module, given: Mapping[str, Tensor], file: Path, longest: int | None) -> None:
    """Write `module`, a function of the token ids and masks `given` by name, each [rows, time], to logits.

    Rows and time are free, the latter up to `longest` tokens; the weights lie beside the file. Raises ModelError where torch
    cannot take its forward pass apart.
    """
    rows, time = torch.export.Dim("rows"), torch.export.Dim("time", **({"max": longest} if longest else {}))
    try:
        with torch.no_grad():
            made: Any = torch.onnx.export(
                module.eval(),
                tuple(given.values()),
                input_names=list(given),
                output_names=["logits"],
                dynamic_shapes=tuple({0: rows, 1: time} for _ in given),
                dynamo=True,
                verbose=False,
            )
        for node in made.model.graph.all_nodes():
            node.metadata_props.clear()  # where in the files of this machine each operation was called
        made.save(file, external_data=True)
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"torch cannot export this model to ONNX: {json.dumps(reason[0][:300] if reason else '')}"
        ) from error
