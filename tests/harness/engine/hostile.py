"""Losses that misbehave in one precision each, so that what they do to the other cells is seen.

Each is a right mean squared error otherwise. They are imported by path, by workers of their own.
"""

import ctypes
import os
import sys
import threading
import time

import torch

_SLEEP = 600.0


def _precision(x):
    if x.dtype != torch.float32:
        return f"{str(x.dtype).removeprefix('torch.')}-inputs"
    if torch.is_autocast_enabled("cpu"):
        return f"cpu-autocast-{str(torch.get_autocast_dtype('cpu')).removeprefix('torch.')}"
    return "float32"


class _UnspeakableError(Exception):
    def __str__(self):
        raise ValueError("no words")


def _raises(error):
    raise error


def _leave_child():
    if os.fork() == 0:
        time.sleep(_SLEEP)
        os._exit(0)


def _leave_thread():
    if threading.active_count() < 8:
        threading.Thread(target=time.sleep, args=(_SLEEP,)).start()


def _hostile(deeds):
    def loss(x, y):
        deeds.get(_precision(x), lambda: None)()
        return (x.float() - y.float()).square().mean()

    return loss


ends = _hostile(
    {
        "float16-inputs": lambda: ctypes.string_at(0),
        "bfloat16-inputs": lambda: os._exit(7),
        "cpu-autocast-float16": lambda: time.sleep(_SLEEP),
        "cpu-autocast-bfloat16": lambda: sys.exit(0),
    }
)
raises = _hostile(
    {
        "float16-inputs": lambda: sys.exit(1),
        "bfloat16-inputs": lambda: _raises(KeyboardInterrupt()),
        "cpu-autocast-float16": lambda: _raises(_UnspeakableError()),
        "cpu-autocast-bfloat16": lambda: _raises(ValueError("\x1b[31m" + "long " * 1_000_000)),
    }
)
changes = _hostile(
    {
        "float16-inputs": lambda: os.chdir("/"),
        "bfloat16-inputs": lambda: torch.set_default_dtype(torch.float64),
        "cpu-autocast-float16": lambda: torch.set_num_threads(3),
    }
)
leaves = _hostile({"float16-inputs": _leave_child, "bfloat16-inputs": _leave_thread})


def flaky(x, y):
    """Wrong at every fiftieth float16 call, whichever process makes it."""
    loss = (x.float() - y.float()).square().mean()
    if _precision(x) != "float16-inputs":
        return loss
    with open("calls", "ab") as calls:
        calls.write(b".")
        return loss - (1.0 if calls.tell() % 50 == 0 else 0.0)


_seen = []


def needs_an_earlier_call(x, y):
    """Wrong in float32 once it has seen float16 images."""
    _seen.append(_precision(x))
    loss = (x.float() - y.float()).square().mean()
    return loss - (1.0 if "float16-inputs" in _seen and _seen[-1] == "float32" else 0.0)


_large = []


def worst_by_itself(x, y):
    """Wrong for large images, and once it has seen one less so for small ones."""
    loss = (x.float() - y.float()).square().mean()
    if x.shape[-1] > 40:
        _large.append(x.shape)
        return loss - 9.0
    return loss - (1.0 if _large else 0.0)
