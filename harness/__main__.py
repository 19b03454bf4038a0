"""``python -m harness`` is the ``harness`` command."""

from harness.cli.main import command

if __name__ == "__main__":
    command()
