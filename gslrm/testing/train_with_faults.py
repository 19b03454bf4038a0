"""``python -m gslrm.testing.train_with_faults``: train as ``gslrm.train`` does, on batches some of which are spoilt."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from gslrm.data.views import ViewBatch
from gslrm.testing.batch_faults import FaultInjector
from gslrm.train import make_parser, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Train with faults as the command line says, and return :func:`gslrm.train.train`'s exit code.

    Each spoilt pass's line of the log names its ``fault``.
    """
    parser = make_parser()
    parser.prog = "python -m gslrm.testing.train_with_faults"
    parser.description = "Train a GS-LRM on batches some of which are spoilt on purpose."
    parser.add_argument("--fault-rate", type=float, default=0.05, metavar="P", help="share of passes to spoil")
    parser.add_argument("--fault-seed", type=int, default=0, metavar="N", help="which passes, and how")
    options = parser.parse_args(arguments)
    try:
        inject = FaultInjector(options.fault_rate, options.fault_seed)
    except ValueError as error:
        parser.error(str(error))

    def spoilt(batch: ViewBatch, pass_step: int) -> tuple[ViewBatch, Mapping[str, str]]:
        batch, fault = inject(batch, pass_step)
        return batch, {} if fault is None else {"fault": fault.value}

    return train(options, spoilt)


if __name__ == "__main__":
    sys.exit(main())
