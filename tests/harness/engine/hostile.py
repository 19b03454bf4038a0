"""Subjects that misbehave in half precision only, so that what they do to the other cells is seen.

Each is right as a mean squared error otherwise. They are imported by path, by workers of their own.
"""

import ctypes
import os
import random
import sys
import threading
import time

import torch

_SLEEP = 600.0


def _half(x):
    return x.dtype == torch.float16


def _plain(x):
    """The input that the harness tries a loss out on."""
    return x.shape[-1] == 16 and len(x) == 1


def _mse(x, y):
    return (x.float() - y.float()).square().mean()


def segfault(x, y):
    if _half(x):
        ctypes.string_at(0)
    return _mse(x, y)


def os_exit(x, y):
    if _half(x):
        os._exit(7)
    return _mse(x, y)


def exit_zero(x, y):
    if _half(x):
        sys.exit(0)
    return _mse(x, y)


def exit_one(x, y):
    if _half(x):
        sys.exit(1)
    return _mse(x, y)


def interrupts(x, y):
    if _half(x):
        raise KeyboardInterrupt
    return _mse(x, y)


class _UnspeakableError(Exception):
    def __str__(self):
        raise ValueError("no words")


def unspeakable(x, y):
    if _half(x):
        raise _UnspeakableError
    return _mse(x, y)


def long_message(x, y):
    if _half(x):
        raise ValueError("\x1b[31m" + "long " * 1_000_000)
    return _mse(x, y)


def hangs(x, y):
    if _half(x):
        time.sleep(_SLEEP)
    return _mse(x, y)


def changes_folder(x, y):
    if _half(x):
        os.chdir("/")
    return _mse(x, y)


def leaves_a_child(x, y):
    if _half(x) and os.fork() == 0:
        time.sleep(_SLEEP)
        os._exit(0)
    return _mse(x, y)


def leaves_a_thread(x, y):
    if _half(x) and threading.active_count() < 8:
        threading.Thread(target=time.sleep, args=(_SLEEP,)).start()
    return _mse(x, y)


def changes_dtype(x, y):
    if _half(x):
        torch.set_default_dtype(torch.float64)
    return _mse(x, y)


def changes_threads(x, y):
    if _half(x):
        torch.set_num_threads(3)
    return _mse(x, y)


_flakiness = random.Random(5)


def flaky(x, y):
    if _half(x) and _flakiness.random() < 0.02:
        return _mse(x, y) - 1.0
    return _mse(x, y)


_seen = []


def needs_an_earlier_call(x, y):
    """Right until it has seen float16 images, and never again after."""
    _seen.append(x.dtype)
    return _mse(x, y) - (1.0 if torch.float16 in _seen[:-1] and not _half(x) else 0.0)
