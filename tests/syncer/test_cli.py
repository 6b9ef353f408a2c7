"""The help of ``syncer``."""

import argparse

import pytest

from syncer.cli import COMMANDS, EXIT_STATUS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_its_exit_status(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["syncer", command, "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    printed = capsys.readouterr().out
    assert EXIT_STATUS.strip() in printed
    assert "--json" in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_has_a_help_text(command: str) -> None:
    parser = argparse.ArgumentParser()
    COMMANDS[command].add_arguments(parser)
    assert [action.dest for action in parser._actions if not action.help] == []
