"""``python -m gslrm.testing.train_with_faults``: the training of ``gslrm.train``, a share of its batches spoilt."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gslrm.testing.batch_faults import FaultInjector
from gslrm.train import main as train


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as ``gslrm.train`` does, with its options and exit codes."""
    parser = argparse.ArgumentParser(
        prog="python -m gslrm.testing.train_with_faults",
        description="Train a GS-LRM while batches are spoilt on purpose. All options of python -m gslrm.train apply.",
    )
    parser.add_argument("--fault-rate", type=float, default=0.05, metavar="P", help="share of passes to spoil (0.05)")
    parser.add_argument("--fault-seed", type=int, default=0, metavar="N", help="which passes, and how (0)")
    options, rest = parser.parse_known_args(arguments)
    try:
        spoil = FaultInjector(options.fault_rate, options.fault_seed)
    except ValueError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return train(rest, spoil)


if __name__ == "__main__":
    sys.exit(main())
