"""Recording, comparing, what is unused or missing, and what a golden's file says."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from harness.errors import SubjectError, UsageError
from harness.goldens.checking import check
from harness.goldens.deviation import RECORDED, Deviation, Place, deviations
from harness.goldens.folder import GoldenFolder
from harness.goldens.outcome import Outcome, Status
from harness.goldens.recording import update
from harness.goldens.terms import Array, Tolerance, sketch
from harness.reports.golden_model import GoldenModel
from harness.reports.golden_text import deviation_line, drift_lines, moved_lines, report, summary
from tests.harness.goldens.suites import make_suite, move, recorded_goldens


def _statuses(goldens: GoldenFolder, only: str | None = None) -> list[Status]:
    return [outcome.status for outcome in check(goldens, only)]


def _terms(outcome: Outcome) -> dict[str, Deviation]:
    return {d.term.partition("[")[0]: d for d in outcome.deviations}


def test_nothing_recorded_is_missing_and_recorded_passes(tmp_path: Path) -> None:
    goldens = GoldenFolder(make_suite(tmp_path))
    assert _statuses(goldens) == [Status.MISSING] * 2
    assert update(goldens, "the first").written == ("a", "b")
    outcomes = list(check(goldens))
    assert [outcome.status for outcome in outcomes] == [Status.PASSED] * 2
    assert all(d.error == 0 for outcome in outcomes for d in outcome.deviations)


def test_a_file_says_what_it_is_exactly_and_readably(tmp_path: Path) -> None:
    goldens = recorded_goldens(tmp_path)
    document = json.loads(goldens.store.path("a").read_text())
    entry = document["recorded"]["float32"]
    assert entry["terms"]["value"] == {"hex": (1.0).hex(), "decimal": 1.0}
    assert entry["terms"]["series"]["decimal"] == [0.5, "nan", "inf", 0.0]
    assert entry["terms"]["reason"] == {"words": ["none", None]}
    assert entry["terms"]["gradient"]["shape"] == [3, 4]
    assert entry["terms"]["large"]["sketched"] is True
    assert entry["tolerances"]["value"] == {"relative": 1e-3}
    provenance = entry["provenance"]
    assert set(provenance) == {"torch", "cpu_capability", "threads", "device", "date", "reason"}
    assert provenance["reason"] == "the first"


def test_a_shift_within_the_tolerance_passes_and_shows_as_drift(tmp_path: Path) -> None:
    goldens = recorded_goldens(tmp_path)
    move(tmp_path, 5e-4)
    (outcome, _) = check(goldens)
    assert outcome.status is Status.PASSED
    value = _terms(outcome)["value"]
    assert value.used == pytest.approx(0.5)
    assert value.direction == "up"
    assert value.ulps == pytest.approx(5e-4 * 2**23)
    assert drift_lines([outcome], 1)[0].split()[0] == "50.00%"


def test_a_shift_beyond_it_fails_and_says_what_moved_how_far_and_where(tmp_path: Path) -> None:
    goldens = recorded_goldens(tmp_path)
    move(tmp_path, -0.5)
    (outcome, _) = check(goldens)
    assert outcome.status is Status.FAILED
    terms = _terms(outcome)
    assert terms["value"].used == pytest.approx(500)
    assert terms["value"].direction == "down"
    exact = math.sqrt(12) * 0.5 / math.sqrt(sum(k * k for k in range(12)))
    assert terms["gradient"].relative == pytest.approx(exact)
    assert 0.99 < terms["gradient"].cosine < 1.0
    # A sketch keeps the distance to within about a tenth.
    exact = math.sqrt(4000) * 0.5 / math.sqrt(sum(k * k for k in range(4000)))
    assert terms["large"].relative == pytest.approx(exact, rel=0.25)
    assert terms["series"].term == "series[3]"
    lines = moved_lines([outcome])
    assert any("a [float32] value: 1 → 0.5, down by 0.5" in line for line in lines)
    assert any("cosine" in line for line in lines)
    json.dumps(report(GoldenModel(outcomes=[outcome])), allow_nan=False)


def test_words_have_no_tolerance(tmp_path: Path) -> None:
    goldens = recorded_goldens(tmp_path)
    subject = tmp_path / "golden_subject.py"
    subject.write_text(subject.read_text().replace('"count": 3', '"count": 4'))
    del sys.modules["golden_subject"]
    (outcome, _) = check(goldens)
    assert outcome.status is Status.FAILED
    assert "3 has become 4" in deviation_line(_terms(outcome)["count"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reshape(3, 4)", "reshape(4, 3)", "'shape [3, 4]' has become 'shape [4, 3]'"),
        ('"count": 3', '"count": [3, 3]', "'1 entries' has become '2 entries'"),
        ('"count": 3,', "", "'a value' has become 'nothing'"),
        ('"count": 3', '"count": 3, "more": 1', "'nothing' has become 'a value'"),
        ('"count": 3', '"count": 3.0', "'words' has become 'numbers'"),
    ],
)
def test_a_term_of_another_form_fails(tmp_path: Path, old: str, new: str, message: str) -> None:
    goldens = recorded_goldens(tmp_path, names=("a",))
    subject = tmp_path / "golden_subject.py"
    assert old in subject.read_text()
    subject.write_text(subject.read_text().replace(old, new) + "# another length, so that it is read anew\n")
    del sys.modules["golden_subject"]
    (outcome,) = check(goldens)
    assert outcome.status is Status.FAILED
    assert any(message in deviation_line(d) for d in outcome.deviations if not d.within)


def test_an_update_needs_a_reason(tmp_path: Path) -> None:
    goldens = GoldenFolder(make_suite(tmp_path))
    with pytest.raises(UsageError, match="needs a reason"):
        update(goldens, "  ")
    assert goldens.store.names() == ()


def test_an_update_touches_only_what_moved_and_what_is_named(tmp_path: Path) -> None:
    goldens = recorded_goldens(tmp_path)
    assert update(goldens, "again").written == (), "the same numbers keep their files and their reason"
    move(tmp_path, 0.25)
    assert update(goldens, "shifted", only="b").written == ("b",)
    reasons = [goldens.store.read(name).recorded["float32"].provenance["reason"] for name in ("a", "b")]  # type: ignore[union-attr]
    assert reasons == ["the first", "shifted"]
    assert _statuses(goldens) == [Status.FAILED, Status.PASSED]


def test_unused_goldens_and_stray_files_are_reported_and_a_full_update_removes_them(tmp_path: Path) -> None:
    recorded_goldens(tmp_path, names=("a", "b", "c"))
    goldens = GoldenFolder(make_suite(tmp_path, ("a", "b")))
    goldens.store.path("b").with_name("left.safetensors").write_bytes(b"")
    unused = [outcome.golden for outcome in check(goldens) if outcome.status is Status.UNUSED]
    assert unused == ["c", "left.safetensors"]
    assert "2 unused" in summary(list(check(goldens)))
    assert update(goldens, "tidied").removed == ("c",)
    assert goldens.store.names() == ("a", "b")


def test_a_precision_that_the_suite_no_longer_names_is_unused(tmp_path: Path) -> None:
    recorded_goldens(tmp_path, precisions='["float32", "cpu-autocast-bfloat16"]')
    goldens = GoldenFolder(make_suite(tmp_path))
    unused = [outcome for outcome in check(goldens) if outcome.status is Status.UNUSED]
    assert [(o.golden, o.precision) for o in unused] == [(n, "cpu-autocast-bfloat16") for n in ("a", "b")]


def test_cuda_entries_are_skipped_with_the_reason_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precisions = '["float32", "cuda-float32"]'
    goldens = recorded_goldens(tmp_path, names=("a",), precisions=precisions)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    skipped = [outcome for outcome in check(goldens) if outcome.status is Status.SKIPPED]
    assert [outcome.reason for outcome in skipped] == ["no CUDA GPU"]
    # As if a GPU had recorded it: an update elsewhere leaves it alone.
    golden = goldens.store.read("a")
    assert golden is not None
    golden.recorded["cuda-float32"] = golden.recorded["float32"]  # type: ignore[index]
    goldens.store.replace({"a": golden})
    move(tmp_path, 0.25)
    update(goldens, "shifted")
    kept = goldens.store.read("a")
    assert kept is not None
    assert kept.recorded["cuda-float32"].provenance["reason"] == "the first"
    assert kept.recorded["float32"].provenance["reason"] == "shifted"


def test_what_needs_a_package_is_skipped_without_it_and_kept(tmp_path: Path) -> None:
    goldens = recorded_goldens(tmp_path, names=("a",))
    suite = tmp_path / "golden" / "suite.toml"
    plain = suite.read_text()
    suite.write_text(plain.replace('kind = "function"', 'kind = "function"\nrequires = ["json", "no_such_package"]'))
    (tmp_path / "golden_subject.py").write_text("import no_such_package\n")
    without = GoldenFolder(tmp_path / "golden")
    (outcome,) = check(without)
    assert (outcome.status, outcome.reason) == (
        Status.SKIPPED,
        "needs the package no_such_package, which is not installed",
    )
    before = goldens.store.read("a")
    assert before is not None
    assert update(without, "elsewhere").written == ()
    after = goldens.store.read("a")
    assert after is not None
    assert after.encode() == before.encode()


def test_what_needs_a_package_may_never_have_been_recorded(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, ("a",)) / "suite.toml"
    suite.write_text(suite.read_text().replace('kind = "function"', 'kind = "function"\nrequires = ["json"]'))
    (outcome,) = check(GoldenFolder(tmp_path / "golden"))
    assert outcome.status is Status.SKIPPED
    assert "never recorded where json is installed" in outcome.reason


def test_another_case_than_the_recorded_is_no_match(tmp_path: Path) -> None:
    recorded_goldens(tmp_path, names=("a",))
    suite = tmp_path / "golden" / "suite.toml"
    suite.write_text(suite.read_text().replace('name = "a"', 'name = "other"'))
    (outcome,) = check(GoldenFolder(tmp_path / "golden"))
    assert outcome.status is Status.FAILED
    assert "another case" in outcome.reason


def test_a_value_outside_the_truth_is_never_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    folder.mkdir()
    text = """
        [case.near]
        pair.picture = { kind = "smooth" }
        pair.perturbation = { kind = "noise", magnitude = 1e-5 }
        [group.x]
        kind = "loss"
        subject = "harness.subjects.known_bad.losses:LossBeforeFix"
        truth = "masked-ssim"
        cases = ["near"]
        precisions = ["float32"]
    """
    (folder / "suite.toml").write_text(text)
    goldens = GoldenFolder(folder)
    done = update(goldens, "wrong")
    assert done.written == ()
    assert "outside the truth" in done.refused[0].reason
    assert goldens.store.names() == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[group.a]", "[grup.a]", "unknown key 'grup'"),
        ('kind = "function"', 'kind = "mesure"', "kind must be one of"),
        ('"float32"', '"float31"', "no precision 'float31'"),
        ("relative = 1e-3", "relative = -1", "from 0 up"),
        ("[group.a]", "[group.a", "not valid TOML"),
        ('subject = "', 'subjects = "', "unknown key 'subjects'"),
        ('kind = "function"', 'kind = "function"\nrequires = "lpips"', "requires must be a list"),
        ('kind = "function"', 'kind = "loss"\ncases = ["nothing"]', "there is no .case.nothing."),
    ],
)
def test_a_malformed_suite_is_one_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = make_suite(tmp_path, ("a",))
    suite = folder / "suite.toml"
    assert old in suite.read_text()
    suite.write_text(suite.read_text().replace(old, new))
    with pytest.raises(UsageError, match=message):
        GoldenFolder(folder)


def test_a_pattern_that_fits_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no golden's name fits 'zebra'"):
        list(check(GoldenFolder(make_suite(tmp_path)), "zebra"))


def test_a_sketch_keeps_norms_and_distances() -> None:
    a = torch.linspace(-1.0, 2.0, 5000, dtype=torch.float64)
    b = a + 1e-3 * torch.linspace(0.0, 1.0, 5000, dtype=torch.float64).square()
    for tensor in (a, b - a):
        assert float(sketch(tensor).norm()) == pytest.approx(float(tensor.norm()), rel=0.2)
    assert torch.allclose(sketch(b) - sketch(a), sketch(b - a))


def _moved(then: torch.Tensor, now: torch.Tensor, relative: float) -> Deviation:
    (found,) = deviations(
        Place("a", "float32", RECORDED), {"x": Array.of(then)}, {"x": Array.of(now)}, {"x": Tolerance(relative)}
    )
    return found


def test_what_is_nan_or_infinite_alike_hides_no_drift_and_is_none() -> None:
    then = torch.tensor([math.nan, math.inf, 3.0, 4.0])
    assert _moved(then, then.clone(), 1e-3).used == 0.0
    near, far = then + torch.tensor([0.0, 0.0, 0.0, 1e-3]), then + torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert _moved(then, near, 1e-3).used == pytest.approx(0.2, rel=1e-3)
    assert _moved(then, far, 1e-3).used == pytest.approx(200)
    assert not _moved(then, torch.tensor([1.0, math.inf, 3.0, 4.0]), 1e-3).within


def test_what_is_just_beyond_its_tolerance_looks_like_it() -> None:
    then = torch.tensor([1.0])
    assert "1.001 times its tolerance" in deviation_line(_moved(then, then + 1.001 * 2.0**-4, 2.0**-4))
    assert "99.99% of its tolerance" in deviation_line(_moved(then, then + 0.9999 * 2.0**-4, 2.0**-4))


_VNNI = "pack_vnni2 is only supported when avx512 is supported"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (f"RuntimeError('{_VNNI}')", Status.SKIPPED, f"torch can't run it here: {_VNNI}"),
        ("RuntimeError('mkldnn_matmul: needs a cpu with avx512; this one is unsupported')", Status.SKIPPED, "avx512"),
        ("RuntimeError('shapes are not supported')", Status.FAILED, "raises RuntimeError: shapes"),
        (f"ValueError('{_VNNI}')", Status.FAILED, "raises ValueError"),
        ("SystemExit(0)", Status.FAILED, "raises SystemExit: 0"),
    ],
)
def test_what_torch_can_not_run_on_this_processor_is_skipped_in_its_own_words(
    tmp_path: Path, error: str, status: Status, reason: str
) -> None:
    goldens = recorded_goldens(tmp_path)
    subject = tmp_path / "golden_subject.py"
    subject.write_text(f"def measured(device, name):\n    raise {error}\n")
    sys.modules.pop("golden_subject", None)
    outcomes = list(check(goldens))
    assert [outcome.status for outcome in outcomes] == [status] * 2
    assert reason in outcomes[0].reason
    kept = {name: goldens.store.path(name).read_bytes() for name in ("a", "b")}
    if status is Status.SKIPPED:
        # Nor is anything recorded of it anew: what another processor gave stays.
        assert update(goldens, "again").written == ()
    else:
        with pytest.raises(SubjectError, match=r"a can't be recorded under float32: .* raises"):
            update(goldens, "again")
    assert kept == {name: goldens.store.path(name).read_bytes() for name in ("a", "b")}
