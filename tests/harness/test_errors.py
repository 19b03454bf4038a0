"""Exceptions put in words."""

from __future__ import annotations

from harness.errors import MESSAGE_LIMIT, describe_exception, printable


class _Silent(Exception):
    def __str__(self) -> str:
        raise SystemExit(0)


def test_an_exception_is_its_type_and_first_line() -> None:
    assert describe_exception(ValueError("one\ntwo")) == "ValueError: one"
    assert describe_exception(SystemExit(0)) == "SystemExit: 0"
    assert describe_exception(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert describe_exception(ValueError("\n\nthird")) == "ValueError: third"


def test_an_exception_whose_message_raises_is_still_named() -> None:
    assert "SystemExit" in describe_exception(_Silent())
    assert describe_exception(_Silent()).startswith("_Silent")


def test_a_huge_message_is_cut_and_control_characters_are_replaced() -> None:
    text = describe_exception(ValueError("\x1b[31m" + "x" * 5_000_000))
    assert len(text) < MESSAGE_LIMIT + 100
    assert "\x1b" not in text
    assert "more characters" in text
    assert printable("a\ud800b\tc") == "a�b\tc"
