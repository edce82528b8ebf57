"""Print where a run's model is and how it did: show_results.py results/DATASET/BACKBONE."""

import argparse
import json
from pathlib import Path

from edgetpu_retrain import evaluation, job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a folder below results/")
    results = parser.parse_args().results
    with job.run():
        print(evaluation.summary(json.loads((results / "evaluation.json").read_text())))
        print(f"Confusion matrix: {results / 'confusion_matrix.png'}")


if __name__ == "__main__":
    main()
