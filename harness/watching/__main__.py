"""``python -m harness.watching ORDER``: what ``harness watch`` becomes; the order is JSON."""

from __future__ import annotations

import contextlib
import json
import sys

from harness.errors import HarnessError
from harness.rehearsal.places import Script
from harness.watching.options import WatchOptions
from harness.watching.watch import run_watched


def main(words: str) -> None:
    """Run the ordered script. Its exit code, its exceptions and its signals are this process' own."""
    order = json.loads(words)
    script = Script(order["path"], order["module"], tuple(order["arguments"]))
    with contextlib.ExitStack() as stack:
        if order["pretend_cuda"]:
            from harness.pretence.ending import ending

            stack.enter_context(ending())
        try:
            run_watched(script, WatchOptions.from_json(order["options"]), order["pretend_cuda"])
        except HarnessError as error:
            # What can't be pretended, or emulated, says its line itself.
            print(f"harness: {error}", file=sys.stderr)
            sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main(sys.argv[1])
