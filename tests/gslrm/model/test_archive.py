"""torch's archives: what torch itself would take, and must not."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch

from gslrm.model.archive import ArchiveError, check_archive
from gslrm.model.checkpoint import CheckpointError, read_checkpoint


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    entries = {
        "model": {"w": torch.arange(50.0), "b": torch.ones(3, dtype=torch.bfloat16)},
        "plain": [1, 2.0, "x", None, b"y"],
    }
    torch.save(entries, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def _rewritten(path: Path, change: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> None:
    """The archive with members replaced or added, under right checksums."""
    with zipfile.ZipFile(path) as archive:
        members = {m.filename: archive.read(m) for m in archive.infolist()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in {**members, **change}.items():
            archive.writestr(name, content)
    path.write_bytes(file.getvalue())


def test_what_torch_saves_passes(saved: Path) -> None:
    check_archive(saved)


def test_a_flipped_bit_of_a_weight_is_found(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[data.find(torch.arange(50.0).numpy().tobytes()) + 100] ^= 1
    saved.write_bytes(data)
    assert torch.load(saved, weights_only=True)["model"]["w"].shape == (50,), "torch alone reads it"
    with pytest.raises(CheckpointError, match=r"checksum is another|CRC"):
        read_checkpoint(saved)


def test_a_storage_shorter_than_its_pickle_says_is_found(saved: Path) -> None:
    # torch takes the pickle's word, and would read past the end.
    _rewritten(saved, {"a/data/0": b"\0" * 8})
    with pytest.raises(ArchiveError, match=r"storage '0' is not as long as its data.pkl says"):
        check_archive(saved)


def test_a_compressed_member_is_refused(saved: Path) -> None:
    _rewritten(saved, {"a/data/9": b"\0" * 10_000_000}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ArchiveError, match="is compressed or encrypted"):
        check_archive(saved)


@pytest.mark.parametrize(
    ("pickle", "words"),
    [
        (b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "bytearray, so more than tensors"),
        (b"\x80\x02ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R.", "torch Tensor, so more than tensors"),
        (b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93.", "would run code"),
        (b"\x80\x02" + b"]" * 2_000_000 + b".", "more than 1048576 steps"),
        (b"\x80\x02R.", "data.pkl is damaged"),
        (b"", "data.pkl is damaged"),
    ],
)
def test_pickles_that_allocate_or_run_are_refused_unread(saved: Path, pickle: bytes, words: str) -> None:
    _rewritten(saved, {"a/data.pkl": pickle})
    with pytest.raises(ArchiveError, match=words):
        check_archive(saved)


def test_scripts_and_cut_archives_are_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    _rewritten(saved, {"a/constants.pkl": b"."})
    with pytest.raises(ArchiveError, match="other pickles beside it"):
        check_archive(saved)
    saved.write_bytes(whole[:-30])
    with pytest.raises(ArchiveError, match="no zip archive"):
        check_archive(saved)
