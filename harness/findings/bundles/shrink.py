"""A bundle's loss on a smaller piece of its inputs, which still goes wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from harness.errors import SubjectError, UsageError
from harness.findings.bundles.bundle import Bundle
from harness.findings.bundles.replay import Replayer

TARGET = 32
"""Pixels: both sides are to be fewer."""
_MOST_RUNS = 3000
_SCANNED = (31, 24, 16, 12, 11, 8)
_SMALLEST = 2


@dataclass(frozen=True)
class Piece:
    """A part of a batch of images: which of them (``None``: all), and the rectangle."""

    image: int | None
    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Shrunk:
    """The smaller bundle.

    Attributes:
        piece: what is left.
        value: the loss of it.
        runs: of the loss, that it took.
    """

    bundle: Bundle
    piece: Piece
    value: float
    runs: int

    @property
    def is_small(self) -> bool:
        """Whether both sides are under :data:`TARGET`."""
        return max(self.piece.height, self.piece.width) < TARGET


def shrink(bundle: Bundle, replayer: Replayer, name: str) -> Shrunk:
    """Crop all images of the loss' arguments alike, and take one of a batch, as long as it still goes wrong.

    Where float64 shows nothing wrong with the whole, it must show nothing wrong with the piece either.

    Args:
        replayer: of this bundle.
        name: of the bundle, for the smaller one.

    Raises:
        UsageError: the loss doesn't go wrong here, or takes no images.
        SubjectError: as :meth:`Replayer.run`.
    """
    return _Search(bundle, replayer).shrunk(name)


class _Search:
    def __init__(self, bundle: Bundle, replayer: Replayer) -> None:
        self._bundle, self._replayer = bundle, replayer
        self._runs = 0
        with warnings.catch_warnings(record=True) as said_of_whole:
            warnings.simplefilter("always")
            self._first = self._replayer.run()
        # Of too small a piece a loss may compute something else, and say so.
        self._warned = bool(said_of_whole)
        loss = replayer.loss
        keys = sorted(set(_keys([*loss.inputs, *loss.named.values()])))
        images = [bundle.tensors[key] for key in keys if key in bundle.tensors and bundle.tensors[key].ndim >= 3]
        if not images:
            raise UsageError(f"{loss.name} takes no images, and nothing else is shrunk.")
        largest = max(images, key=lambda tensor: tensor.shape[-1] * tensor.shape[-2])
        self._height, self._width = largest.shape[-2:]
        self._cropped = {
            key for key in keys
            if bundle.tensors[key].ndim >= 2 and bundle.tensors[key].shape[-2:] == largest.shape[-2:]
        }  # fmt: skip
        self._images = largest.shape[0] if largest.ndim == 4 else 1
        self._batched = {key for key in self._cropped if bundle.tensors[key].ndim == largest.ndim == 4}
        if any(bundle.tensors[key].shape[0] != self._images for key in self._batched):
            self._images = 1

    def shrunk(self, name: str) -> Shrunk:
        whole = Piece(None, 0, 0, self._height, self._width)
        first = self._first
        if first.violation is None:
            raise UsageError(
                f"{name}: its loss gives {first.value:.6g} under {first.precision}, which is right: nothing to shrink."
            )
        self._exactly_right = first.exact is not None and self._replayer.loss.violation(first.exact) is None
        best = whole
        if self._images > 1:
            best = self._worst(Piece(image, 0, 0, self._height, self._width) for image in range(self._images)) or best
        best = self._halved(best)
        if max(best.height, best.width) >= TARGET:
            best = self._scanned(best) or best
        best = self._trimmed(best)
        tensors = self._tensors(best)
        again = self._replayer.run(tensors)
        value = again.value
        loss = replace(self._replayer.loss, value=value, conditions=again.conditions)
        said = f"{loss.name} gives {value:.6g} of {best.height}×{best.width} pixels, which {loss.violation(value)}"
        small = Bundle(
            rule=self._bundle.rule,
            sentence=said,
            where=self._bundle.where,
            rank=self._bundle.rank,
            loss=loss,
            tensors=tensors,
            from_bundle=name,
        )
        return Shrunk(small, best, value, self._runs)

    def _halved(self, best: Piece) -> Piece:
        """Halves and quarters, of which the worst is taken, as long as one goes wrong."""
        while True:
            worse = self._worst(_parts(best))
            if worse is None:
                return best
            best = worse

    def _scanned(self, best: Piece) -> Piece | None:
        """Small pieces all over."""
        for side in _SCANNED:
            height, width = min(side, best.height), min(side, best.width)
            found = self._worst(
                Piece(best.image, top, left, height, width)
                for top in _starts(best.top, best.height, height, max(1, side // 3))
                for left in _starts(best.left, best.width, width, max(1, side // 3))
            )
            if found is not None:
                return found
        return None

    def _trimmed(self, best: Piece) -> Piece:
        """Rows and columns off each edge, fewer and fewer at a time."""
        by = max(best.height, best.width) // 4
        while by:
            found = next((piece for piece in _trims(best, by) if self._badness(piece) is not None), None)
            if found is None:
                by //= 2
            else:
                best = found
        return best

    def _worst(self, pieces: Iterator[Piece]) -> Piece | None:
        found = [(badness, piece) for piece in pieces if (badness := self._badness(piece)) is not None]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def _badness(self, piece: Piece) -> float | None:
        """By how much the loss of a piece is wrong; ``None`` for not at all."""
        if self._runs >= _MOST_RUNS:
            return None
        self._runs += 1
        tensors, loss = self._tensors(piece), self._replayer.loss
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if self._warned else "error")
            try:
                value = self._replayer.value(tensors)
            except SubjectError:  # too small for it
                return None
        if loss.violation(value) is None:
            return None
        if self._exactly_right:
            exact = self._replayer.exact(tensors)
            if exact is None or loss.violation(exact) is not None:
                return None
        if not math.isfinite(value):
            return math.inf
        under = 0.0 if loss.low is None else loss.low - value
        return max(under, 0.0 if loss.high is None else value - loss.high)

    def _tensors(self, piece: Piece) -> Mapping[str, Tensor]:
        found = dict(self._bundle.tensors)
        for key in self._cropped:
            tensor = found[key]
            if piece.image is not None and key in self._batched:
                tensor = tensor[piece.image : piece.image + 1]
            rows = slice(piece.top, piece.top + piece.height)
            found[key] = tensor[..., rows, piece.left : piece.left + piece.width].contiguous()
        return found


def _keys(nodes: Any) -> Iterator[str]:
    """The tensors that are named in JSON of values."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(node.get("tensor"), str):
                yield node["tensor"]
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _starts(start: int, length: int, side: int, stride: int) -> list[int]:
    """Where pieces of a side begin, the last at the end."""
    last = start + length - side
    return sorted({*range(start, last + 1, stride), last})


def _parts(piece: Piece) -> Iterator[Piece]:
    sizes = {
        (height, width)
        for height in {piece.height, max(_SMALLEST, (piece.height + 1) // 2)}
        for width in {piece.width, max(_SMALLEST, (piece.width + 1) // 2)}
    } - {(piece.height, piece.width)}
    # The smallest first: of equally wrong ones the first is taken.
    for height, width in sorted(sizes, key=lambda size: (size[0] * size[1], size)):
        for top in _starts(piece.top, piece.height, height, max(1, height // 2)):
            for left in _starts(piece.left, piece.width, width, max(1, width // 2)):
                yield Piece(piece.image, top, left, height, width)


def _trims(piece: Piece, by: int) -> Iterator[Piece]:
    if piece.height - by >= _SMALLEST:
        yield replace(piece, top=piece.top + by, height=piece.height - by)
        yield replace(piece, height=piece.height - by)
    if piece.width - by >= _SMALLEST:
        yield replace(piece, left=piece.left + by, width=piece.width - by)
        yield replace(piece, width=piece.width - by)
