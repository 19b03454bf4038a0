"""The terminal that reports are printed on."""

from __future__ import annotations

from rich.console import Console

# Where nothing says how wide the reader's screen is.
_WIDTH = 110


class ReportConsole(Console):
    """rich's, which leaves the exit code to the command where the reader of the output is gone."""

    def on_broken_pipe(self) -> None:
        raise

    def plain(self, text: str) -> None:
        """Print text as it is, on one line however long it gets."""
        self.print(text, markup=False, highlight=False, soft_wrap=True)


def report_console() -> ReportConsole:
    """One for the standard output."""
    # A subject's ":x:" is no emoji.
    return ReportConsole(width=None if ReportConsole().is_terminal else _WIDTH, emoji=False)
