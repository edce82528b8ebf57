"""Extract the last layer of a classifier, to run it on embeddings."""

from edgetpu_retrain.tflite.append_head import LOGITS
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import drop_unused


def last_layer(classifier: Model) -> Model:
    """Returns the layer that `append_head` added, and all operators after it, as a separate model.

    In a file without its name, that is the last FULLY_CONNECTED. An L2_NORMALIZATION directly
    before it is included.

    The input of the model is the quantized embedding. It contains no operators for the Edge TPU,
    so it runs on any CPU. For the embedding of a photo, it gives exactly the scores that the whole
    classifier gives for the photo.

    Args:
        classifier: result of `append_head`; it is not changed.

    Raises:
        UserError: the model has no fully connected layer.
    """
    names = [operator.name for operator in classifier.operators]
    if "FULLY_CONNECTED" not in names:
        raise classifier.error(f"has no fully connected layer.\n{classifier.tail()}")
    outputs = [classifier.tensor(operator.outputs[0]).name for operator in classifier.operators]
    first = (
        outputs.index(LOGITS)
        if LOGITS in outputs
        else len(names) - 1 - names[::-1].index("FULLY_CONNECTED")
    )
    if "L2_NORMALIZATION" in names[first - 1 : first]:
        first -= 1
    layer = classifier.copy()
    subgraph = layer.subgraph
    subgraph.operators = subgraph.operators[first:]
    subgraph.inputs = [int(subgraph.operators[0].inputs[0])]
    # The signatures refer to the original input, which is removed.
    layer.unpacked.signatureDefs = []
    drop_unused(layer)
    return layer
