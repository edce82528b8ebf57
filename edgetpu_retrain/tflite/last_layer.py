"""Cut the last layer out of a classifier, to run it on embeddings."""

from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import drop_unused


def last_layer(classifier: Model) -> Model:
    """Returns the last FULLY_CONNECTED and what follows it, as a model of its own.

    A L2_NORMALIZATION in front of it belongs to it.

    Its input is the embedding that the layer takes. What stands in front, operators for the Edge
    TPU included, is left out, so it runs on any CPU, and gives for an embedding the bytes that the
    whole classifier gives for the photo.

    Args:
        classifier: as `append_head` makes them; it stays as it is.

    Raises:
        UserError: the model has no such layer.
    """
    names = [operator.name for operator in classifier.operators]
    if "FULLY_CONNECTED" not in names:
        raise classifier.error(f"has no fully connected layer.\n{classifier.tail()}")
    first = len(names) - 1 - names[::-1].index("FULLY_CONNECTED")
    if "L2_NORMALIZATION" in names[first - 1 : first]:
        first -= 1
    layer = classifier.copy()
    subgraph = layer.subgraph
    subgraph.operators = subgraph.operators[first:]
    subgraph.inputs = [int(subgraph.operators[0].inputs[0])]
    # They name the photo as input.
    layer.unpacked.signatureDefs = []
    drop_unused(layer)
    return layer
