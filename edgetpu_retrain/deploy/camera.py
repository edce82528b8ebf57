"""Take the pictures of a class with a camera."""

import io
import itertools
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files

# Pictures per second that are kept; of more, too many look the same.
_RATE = 5
_QUALITY = 95


def collect(camera: str, folder: Path, count: int) -> None:
    """Saves pictures from a camera as photos of one class, after the user has pressed Enter.

    Args:
        camera: number of a camera, or address of a stream or video.
        folder: the folder of the class.
        count: number of pictures.

    Raises:
        UserError: OpenCV is not installed, or the camera cannot be opened or gives no picture.
    """
    try:
        import cv2
    except ImportError:
        raise UserError("A camera needs OpenCV. Run: pip install opencv-python-headless") from None
    capture = cv2.VideoCapture(int(camera) if camera.isdecimal() else camera)
    if not capture.isOpened():
        raise UserError(
            f"The camera {camera!r} cannot be opened. `ls /dev/video*` lists the cameras. OpenCV "
            "cannot use the Raspberry Pi's own camera modules: take pictures with rpicam-still, "
            "and learn from their folder."
        )
    try:
        if sys.stdin.isatty():
            input(
                f"Hold {folder.name} in front of the camera, press Enter, and turn it slowly "
                f"while {count} pictures are taken. "
            )
        taken = _take(cv2, capture, folder, count)
    finally:
        capture.release()
    if not taken:
        raise UserError(f"The camera {camera!r} gives no pictures.")
    print(f"Took {taken} of {count} pictures: {folder}")


def _take(cv2: Any, capture: Any, folder: Path, count: int) -> int:
    """Saves up to `count` pictures, fewer if a video ends; returns how many."""
    step = max(round(capture.get(cv2.CAP_PROP_FPS) / _RATE), 1)
    taken = 0
    for number in itertools.count():
        success, frame = capture.read()
        if not success or taken == count:
            break
        if number % step:
            continue
        file = io.BytesIO()
        picture = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        picture.save(file, "JPEG", quality=_QUALITY)
        content = file.getvalue()
        with files.replacing(folder / f"{files.sha256_of(content)[:16]}.jpg") as temporary:
            temporary.write_bytes(content)
        taken += 1
    return taken
