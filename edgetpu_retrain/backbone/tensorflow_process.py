"""Run TensorFlow in separate processes, and extract its errors."""

import os
import re
import subprocess

_SHOWN_LINES = 5
_SHOWN_COLUMNS = 300
_LOG_LINE = re.compile(r"WARNING: All log messages before|[IWE]\d{4} |\d{4}-\d\d-\d\d .*: [IWE] ")
# Lines such as "... error: 'tf.X' op is neither a custom op nor a flex op", and exceptions.
_ERROR_LINE = re.compile(r"(^|\s)error: |^(\w+\.)*\w*(Error|Exception): ")


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command with little of TensorFlow's log and without a GPU."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True)


def error_excerpt(output: str) -> str:
    """Returns the last error lines of a program, or its last lines; without TensorFlow's log."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    lines = [line for line in lines if not _LOG_LINE.match(line)]
    errors = [line for line in lines if _ERROR_LINE.search(line)]
    shown = list(dict.fromkeys(errors or lines))[-_SHOWN_LINES:]
    return "\n".join(f"  {line[:_SHOWN_COLUMNS]}" for line in shown)
