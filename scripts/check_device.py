"""Check that an Edge TPU is attached to this machine and can be used."""

import argparse

from edgetpu_retrain.io import program
from edgetpu_retrain.runtime import interpreter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, usb, pci, usb:N or pci:N")
    arguments = parser.parse_args()
    with program.printing():
        print(f"{interpreter.check_edge_tpu(arguments.device)} is ready.")


if __name__ == "__main__":
    main()
