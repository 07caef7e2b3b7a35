"""Does bfloat16 cost accuracy? Trains the sample recipe in both number formats, several seeds, and compares the AP.

python tests/benchmarks/bf16_against_fp32.py --seeds 3
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from facetrain.config.load import load_config
from facetrain.core.machine import cpu_name
from facetrain.train.loop import train_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=24)
    args = parser.parse_args()
    ap: dict[str, list[float]] = {"fp32": [], "bf16": []}
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    with tempfile.TemporaryDirectory() as runs:
        for seed in range(args.seeds):
            for precision, found in ap.items():
                settings = [f"train.precision={precision}", f"train.seed={seed}", f"train.epochs={args.epochs}"]
                config = load_config("yunet_n", ["data.root=sample", *settings], "sample")
                began = time.perf_counter()
                result = train_model(config, runs=Path(runs), config_name=f"{precision}-{seed}")
                seconds[precision].append(time.perf_counter() - began)
                found.append(result.ap or 0.0)
                print(f"seed {seed} {precision}: AP {found[-1]:.4f}, {seconds[precision][-1]:.0f} s", file=sys.stderr)
    document = {
        "processor": cpu_name(),
        "ap": ap,
        "mean": {name: round(statistics.mean(values), 4) for name, values in ap.items()},
        "seconds": {name: [round(v, 1) for v in values] for name, values in seconds.items()},
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
