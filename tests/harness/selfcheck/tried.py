"""Subjects of a small catalogue: squared errors, right or wrong in one way each. They are imported by path."""

import os
import time

import torch


def right(x, y):
    return (x.float() - y.float()).square().mean()


def negative(x, y):
    return right(x, y) - 1.0


def another_rounding(x, y):
    """Wrong by what rounding may do, and no more."""
    return right(x, y) * (1.0 + 1e-5) if x.shape[-1] > 12 else right(x, y)


def ends(x, y):
    """Its process, once it is called with a gradient."""
    if x.requires_grad:
        os._exit(7)
    return right(x, y)


def hangs(x, y):
    if x.requires_grad:
        time.sleep(600.0)
    return right(x, y)


def negative_at_random(x, y):
    """Wrong in one case of some."""
    return right(x, y) - float(torch.round(1e4 * x.flatten()[0].float()) % 7 == 0)
