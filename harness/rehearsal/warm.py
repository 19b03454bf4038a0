"""A process that has learned what a window is, and is forked for each program of faults from there.

It speaks with who gives the orders itself, in place of the process that it was forked from, which waits for its end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.rehearsal.fork_safety import Offsets

AGAIN = "warm"
"""What it says when a fork has ended and it waits for the next order."""


@dataclass(frozen=True)
class Channel:
    """Where orders come from, a line of JSON each, and where the answers go.

    Attributes:
        orders, answers: open files.
    """

    orders: int
    answers: int

    @classmethod
    def kept(cls) -> Channel:
        """That of this process' standard streams, which are then free for others."""
        return cls(os.dup(0), os.dup(1))

    def say(self, word: str) -> None:
        """A line."""
        os.write(self.answers, f"{word}\n".encode())

    def next_order(self) -> dict[str, Any]:
        """The next line.

        Raises:
            EOFError: nobody is there any more.
        """
        # Byte for byte: what is read too much would be missed by the process that waits.
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = os.read(self.orders, 1)
            if not byte:
                raise EOFError
            line += byte
        order: dict[str, Any] = json.loads(line)
        return order

    def close(self) -> None:
        """No more of it in this process."""
        os.close(self.orders)
        os.close(self.answers)


def fork_for_each_order(order: Mapping[str, Any], channel: Channel) -> Mapping[str, Any]:
    """Fork this process for the order, and for each that comes; it never returns but in the forks.

    Each is in a process group of its own. Where no process can be made, this one goes on with the order itself.

    Returns:
        In a fork, its order.
    """
    try:
        # Python gives each fork random numbers of its own.
        offsets, numbers = Offsets(), random.getstate()
        while True:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):  # it may be the script's own
                    stream.flush()
            # Whoever gives the orders knows of a fork before it begins, and so can always end it.
            waits, begins = os.pipe()
            try:
                process = os.fork()
            except OSError:
                os.close(waits)
                os.close(begins)
                channel.close()
                return order
            if not process:
                os.setpgid(0, 0)
                os.close(begins)
                channel.close()
                if not os.read(waits, 1):
                    os._exit(1)
                os.close(waits)
                random.setstate(numbers)
                print_to(order["printed"])
                return order
            os.close(waits)
            with suppress(OSError):
                os.setpgid(process, process)
            channel.say(str(process))
            os.write(begins, b".")
            os.close(begins)
            with suppress(ChildProcessError):
                os.waitpid(process, 0)
            # First whatever it left running, which would read on.
            end_group(process)
            offsets.restore()
            channel.say(AGAIN)
            order = channel.next_order()
    except BaseException:
        # Nothing of the script is to run here any more.
        os._exit(0)


def print_to(path: str) -> None:
    """What is printed goes there from now on, behind what is there."""
    with open(path, "ab") as printed:
        for stream in (1, 2):
            os.dup2(printed.fileno(), stream)


def end_group(process: int) -> None:
    """End a process that leads its group, and whatever it started in it."""
    with suppress(OSError):
        os.killpg(process, signal.SIGKILL)
