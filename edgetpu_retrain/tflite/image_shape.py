"""Which input shapes are one image."""

from collections.abc import Sequence


def explain_shape(shape: Sequence[int | None]) -> str | None:
    """Returns what is wrong with an input shape; None for [1, H, W, 3] and [1, H, W, 1].

    The text continues a sentence that begins with the name of the network.

    >>> explain_shape([1, 224, 224, 3])
    """
    if len(shape) == 4 and shape[3] in (1, 3, None):
        return None
    text = (
        f"has an input of shape {list(shape)}; expected one RGB image, [1, height, width, 3], or "
        "one grey image, [1, height, width, 1]"
    )
    if len(shape) != 4 or shape[1] not in (1, 3):
        return text
    return (
        f"{text}. Its channels come first, as in PyTorch. Convert the network again with the "
        "channels last: onnx2tf does so by itself; with ai_edge_torch (litert_torch), convert "
        "to_channel_last_io(network, args=[0])"
    )
