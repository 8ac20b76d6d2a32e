"""`python -m training.predict MODEL [--image-number N]`: predict the class of one test image.

MODEL is a directory with a version's files, as `Registry.fetch` and the step train write them. The
output is that of the original notebook's predict step. TensorFlow is imported only if LiteRT cannot
predict.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fashion_mnist import data
from fashion_mnist.model import prediction


def main(arguments: list[str] | None = None) -> int:
    """Print the prediction.

    Args:
        arguments: command line, None for that of the process.

    Returns:
        exit status: 1 if there is no prediction.
    """
    parser = argparse.ArgumentParser(prog="python -m training.predict", description=__doc__)
    parser.add_argument("model", type=Path, help="directory with a version's files")
    parser.add_argument(
        "--data", default="", help="directory, address or s3://; empty for the default"
    )
    parser.add_argument("--image-number", type=int, default=0)
    parser.add_argument("--runtime", default="", choices=prediction.RUNTIMES)
    options = parser.parse_args(arguments)
    try:
        image, label = data.load_test_image(options.data, options.image_number)
        print(prediction.predict(options.model, image, label, runtime=options.runtime))
    except (ValueError, OSError) as error:
        print(f"training.predict: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
