"""Measures what the autoencoders are good for on your corpus and prints Markdown.

python scripts/figures --speech corpus/speech --noise corpus/noise            # everything
python scripts/figures --speech corpus/speech --noise corpus/noise anomalies  # one part
"""

import argparse
import importlib
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from audiodae.errors import AudiodaeError

PLAIN = ["vanilla-16k", "convolutional-16k"]
ALL = [*PLAIN, "denoising-16k", "variational-16k"]
PARTS = {
    "reconstruction": ("reduction", "reconstruction", ALL),
    "probe": ("reduction", "probe", ALL),
    "compression": ("compression", "run", PLAIN),
    "anomalies": ("anomalies", "run", [*PLAIN, "variational-16k"]),
    "generation": ("generation", "run", ["variational-16k"]),
    "ablation": ("ablation", "run", ["variational-16k"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none is given")
    parser.add_argument(
        "--speech", required=True, help="folder of speech, with its table beside it"
    )
    parser.add_argument("--noise", required=True, help="folder of noise, a sub-folder a category")
    parser.add_argument("--cache", default=".cache", help="folder for decoded audio")
    parser.add_argument("--models", nargs="+", help="instead of those each part takes")
    parser.add_argument("--judge", default="vanilla-16k", help="in whose latents noise is compared")
    parser.add_argument("--steps", type=int, default=2000, help="of each training of the ablation")
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps {args.steps}: give 1 or more")
    chosen = args.models
    for part in args.parts or PARTS:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}: choose from {', '.join(PARTS)}.")
        module, function, models = PARTS[part]
        args.models = chosen or models
        began = time.perf_counter()
        try:
            getattr(importlib.import_module(module), function)(args)
        except AudiodaeError as error:
            sys.exit(f"Error: {error}")
        print(f"\n<!-- {part}: {time.perf_counter() - began:.0f} s -->", flush=True)


if __name__ == "__main__":
    main()
