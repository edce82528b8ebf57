"""Take an extractor that was compiled elsewhere."""

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
    """Checks an extractor that was compiled elsewhere, and lets it take raw bytes.

    Args:
        compiled: path of the compiled extractor.
        extractor: path of the one for the CPU that it must agree with, taking raw bytes.
        output: where it goes.
        mean: as in `Backbone`.
        std: likewise.
        allow_cpu_operators: let it hold operators for the CPU as well.

    Raises:
        UserError: it is not compiled, or of another network, or holds other weights.
    """
    from edgetpu_retrain.tflite.checks import (
        check_compiled,
        check_extractor,
        check_twin,
        check_weights,
    )
    from edgetpu_retrain.tflite.model import Model
    from edgetpu_retrain.tflite.raw_input import take_raw_rgb

    model = Model.load(compiled)
    check_compiled(model, allow_cpu_operators)
    check_extractor(model)
    model = take_raw_rgb(model, mean, std)
    twin = Model.load(extractor)
    check_twin(twin, model)
    log.info("%s %s", compiled, check_weights(twin, model))
    model.save(output)
