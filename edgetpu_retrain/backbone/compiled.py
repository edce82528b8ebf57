"""Use an extractor that was compiled elsewhere."""

import logging
from pathlib import Path

log = logging.getLogger(__name__)


def take_compiled(
    compiled: str | Path,
    extractor: str | Path,
    output: str | Path,
    mean: float | None,
    std: float | None,
    allow_cpu_operators: bool,
) -> None:
    """Checks an extractor that was compiled elsewhere, and makes it take raw RGB bytes.

    Args:
        compiled: path of the compiled extractor.
        extractor: path of the extractor for the CPU, which takes raw RGB bytes; input and output
            of the two must match.
        output: path of the result.
        mean: as in `Backbone`.
        std: as in `Backbone`.
        allow_cpu_operators: accept a partly compiled extractor.

    Raises:
        UserError: the file is not compiled, was made from a different network, or has other
            weights.
    """
    from edgetpu_retrain.tflite.checks import (
        check_compiled,
        check_extractor,
        check_same_interface,
        check_weights,
    )
    from edgetpu_retrain.tflite.image_input import accept_rgb
    from edgetpu_retrain.tflite.model import Model
    from edgetpu_retrain.tflite.raw_input import take_raw_rgb

    model = Model.load(compiled)
    check_compiled(model, allow_cpu_operators)
    model = accept_rgb(model)
    check_extractor(model)
    model = take_raw_rgb(model, mean, std)
    cpu_model = Model.load(extractor)
    check_same_interface(cpu_model, model)
    log.info("%s %s", compiled, check_weights(cpu_model, model))
    model.save(output)
