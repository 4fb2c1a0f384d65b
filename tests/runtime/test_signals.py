"""Signals: SIGTERM waits for the work where it is asked to, and ends the process with 143."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pkgutil import resolve_name

import pytest

from distill.cli.commands import COMMANDS
from distill.runtime.signals import (
    CONTINUES,
    LAUNCHED,
    TERMINATED,
    exit_on_signals,
    interrupted,
    set_next,
    signals_deferred,
)


@pytest.fixture(autouse=True)
def _own_handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("sentence", ["", CONTINUES])
def test_sigterm_exits_with_143_and_says_so_and_what_the_next_call_does(caplog, sentence):
    set_next(sentence)
    exit_on_signals()
    with pytest.raises(SystemExit) as leaving:
        os.kill(os.getpid(), signal.SIGTERM)
    assert leaving.value.code == TERMINATED == 143
    assert caplog.messages == [f"terminated; {sentence}" if sentence else "terminated"]


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_that_go_on_promise_it_and_no_others_do(name):
    goes_on = ("run", "extract", "train", "evaluate", "publish", "compare", "predict")
    assert resolve_name(COMMANDS[name][0]).continues == (name in goes_on)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_deferred_signal_is_told_and_delivered_at_the_end(number, error):
    exit_on_signals()
    done = []
    with pytest.raises(error), signals_deferred() as stopping:
        assert not stopping()
        os.kill(os.getpid(), number)
        assert stopping()
        done.append("the work")
    assert done


def test_a_second_interruption_stops_at_once(caplog):
    exit_on_signals()
    with pytest.raises(KeyboardInterrupt), signals_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        assert "interrupted: saving what is done; interrupt again to stop at once" in caplog.text
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError


def test_without_a_signal_nothing_happens():
    exit_on_signals()
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with signals_deferred() as stopping:
        assert not stopping()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_sigint_is_130_whatever_error_a_library_made_of_it():
    exit_on_signals()
    assert interrupted() == 0
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert interrupted() == 130


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_line_exits_with_the_status_of_the_signal(number, status):
    code = (
        "import os, distill.cli.doctor as doctor\nfrom distill.run import main\n"
        f"doctor.COMMAND = lambda words, *, dry: os.kill(os.getpid(), {int(number)})\n"
        "raise SystemExit(main(['doctor', 'x=1']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == status, ended.stderr
    assert ("terminated" if number == signal.SIGTERM else "interrupted") in ended.stderr
    assert CONTINUES not in ended.stderr, "doctor begins anew"
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", ["LOCAL_RANK", LAUNCHED])
def test_a_process_ends_with_its_launcher(name, tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from distill.runtime.signals import leave_with_launcher\n"
        "rank = os.fork()\n"
        "if rank == 0:\n"
        "    leave_with_launcher(); Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)\n"
        "while not Path(sys.argv[1]).exists(): time.sleep(0.01)\n"
        "os._exit(0)"
    )
    note = tmp_path / "rank"
    environment = {**os.environ, name: "0"}
    subprocess.run([sys.executable, "-c", code, str(note)], env=environment, check=True, capture_output=True)
    rank, limit = int(note.read_text()), time.monotonic() + 30
    while time.monotonic() < limit:
        try:
            os.kill(rank, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(rank, signal.SIGKILL)
    pytest.fail("it outlived its launcher")
