"""What runs in a fork of the tests' server runs as in a new process: exit, output, arguments, environment."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from hf_free.cli.main import main

BEGIN = "import atexit, os, signal, sys, threading, time\n"

PROGRAMS = {
    "both outputs": "print('out', __name__); print('err', file=sys.stderr)",
    "exit 3": "sys.exit(3)",
    "exit -1": "sys.exit(-1)",
    "exit with words": "print('unflushed', end=''); sys.exit('words')",
    "exit at once": "os._exit(7)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "ended by SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(10)",
    "an error": "def fails():\n    return 1 / 0\nfails()",
    "an error from another": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise OSError('x') from error",
    "no Python": "1 +",
    "at exit": "atexit.register(print, 'last'); print('first'); sys.exit(4)",
    "a thread that goes on": "threading.Thread(target=lambda: (time.sleep(0.1), print('later'))).start()",
    "a closed output": "sys.stdout.close(); sys.exit(5)",
    "a file left open": "file = open('left', 'w'); file.write('x'); atexit.register(print, os.path.exists('left'))",
    "arguments": "print(sys.argv, sys.path[0], sys.path[-1], sys.stdin.read(), os.getcwd())",
    "environment": "print(sorted(os.environ.items()), os.popen('echo $HF_HOME').read())",
    "signals": "print([str(signal.getsignal(n)) for n in signal.valid_signals()], signal.pthread_sigmask(0, ()))",
    "streams": "print([(s.encoding, s.errors, s.line_buffering, s.isatty()) for s in (sys.stdout, sys.stderr)])",
    "descriptors": "print(sorted(map(int, os.listdir('/proc/self/fd')))[:3], len(os.listdir('/proc/self/task')))",
    "warnings": "import warnings; warnings.warn('old', DeprecationWarning)",
}  # fmt: skip


@pytest.fixture
def both(forks, hub, tmp_path, monkeypatch):
    """A command in a fork and in a new process: exit code, stdout and stderr of each."""
    environment = {**hub.environment("hf_token", tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    monkeypatch.chdir(tmp_path)  # after the server was begun

    def run(*words):
        argv = [sys.executable, *words]
        if not forks.can_fork(argv, environment):
            pytest.skip("no forks on this system")
        new = subprocess.run(
            argv, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        made = forks.run(argv, env=environment)
        return tuple((done.returncode, done.stdout, done.stderr) for done in (made, new))

    return run


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_fork_ends_like_a_new_process(both, program):
    made, new = both("-c", BEGIN + program, "a word", "-x")
    code, told, complained = made
    if (
        "warnings" in program
    ):  # whether the line is quoted differs: Python 3.13 does so in a new process, 3.14 in a fork
        new = (*new[:2], new[2].replace(f"  {program}\n", ""))
        complained = complained.replace(f"  {program}\n", "")
    assert (code, told, complained) == new


def test_modules_and_files_are_run_alike(both, tmp_path):
    shows = "import sys; print(sys.argv, sys.path[0], __name__, __file__); sys.exit(len(sys.argv))"
    (tmp_path / "folder").mkdir()
    for name in ("shows.py", "folder/__main__.py"):
        (tmp_path / name).write_text(shows)
    for words in (["-m", "shows", "x"], [str(tmp_path / "shows.py"), "x"], [str(tmp_path / "folder")]):
        made, new = both(*words)
        assert made == new
        assert new[0] == len(words) - words.count("-m")


def test_an_interrupt_ends_both_by_its_signal(both):
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # in the background it is ignored
    made, new = both("-c", BEGIN + heard + "os.kill(os.getpid(), signal.SIGINT); time.sleep(10)")
    assert made[0] == new[0] == -2
    assert made[2].splitlines()[-1] == new[2].splitlines()[-1] == "KeyboardInterrupt"


def test_forks_are_forks_and_draw_other_random_numbers(forks, hub):
    """Of torch's generator a new process starts with the same seed too."""
    code = "import os, random, sys; print(os.getppid(), 'torch' in sys.modules); import numpy; "
    code += "print(random.random(), numpy.random.random())"
    argv, environment = [sys.executable, "-c", code], {**hub.environment(), "OMP_NUM_THREADS": "1"}
    if not forks.can_fork(argv, environment):
        pytest.skip("no forks on this system")
    one, other = (forks.run(argv, env=environment).stdout.splitlines() for _ in range(2))
    assert one[0] == other[0]
    assert one[0].endswith(" True")
    assert not set(one[1].split()) & set(other[1].split())


def test_a_command_that_takes_too_long_is_killed(forks, hub):
    """Whose output has then an end."""
    begun, argv = time.monotonic(), [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"]
    with pytest.raises(subprocess.TimeoutExpired):
        forks.run(argv, env={**hub.environment(), "OMP_NUM_THREADS": "1"}, timeout=0.5)
    assert time.monotonic() - begun < 500


def test_what_a_fork_would_read_too_late_runs_as_a_new_process(forks, hub, tmp_path):
    environment = {**hub.environment(), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-c", "import os, sys; print(os.getppid(), 'torch' in sys.modules)"]
    (tmp_path / "sitecustomize.py").write_text("")
    for changes in ({"MPLBACKEND": "pdf"}, {"OMP_NUM_THREADS": "2"}, {"PYTHONPATH": str(tmp_path)}, {"LANG": "x"}):
        assert not forks.can_fork(argv, environment | changes)
        assert forks.run(argv, env=environment | changes).stdout == f"{os.getpid()} False\n"
    for words in (["-V"], ["-X", "utf8", "-c", "1"], ["x.py"]):
        assert not forks.can_fork([sys.executable, *words], environment)
    assert not forks.can_fork(["git", "-c", "x"], environment)


SETTINGS = """
import sys
import huggingface_hub.hf_api, timm, hf_free.cli.main, hf_free.training.trainer
from huggingface_hub import constants, hf_api
plain = (str, bool, int, float, type(None))
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] in ("huggingface_hub", "timm", "hf_free"):
        found = {key: value for key, value in vars(module).items() if type(value) in plain and key[:2] != "__"}
        kinds = [value for value in vars(module).values() if callable(value)]
        given = [getattr(kind, "__defaults__", None) for kind in kinds]
        print(name, found, [tuple(value for value in some if type(value) in plain) for some in given if some])
print(hf_api.HfApi().endpoint, hf_api.api.endpoint, constants.ENDPOINT)
"""


def test_a_fork_reads_its_environment_as_a_new_process_does(forks, hub, tmp_path):
    """Each value that these libraries and hf_free keep after their import, and each default of a function.

    accelerate keeps where the configuration of its command line lies, which nothing here reads.
    """
    others = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "0"}
    others |= {"HF_HUB_DOWNLOAD_TIMEOUT": "7", "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_XET_CACHE": "x"}
    environment = {**hub.environment("hf_token", tmp_path / "home"), "OMP_NUM_THREADS": "1", **others}
    argv = [sys.executable, "-c", SETTINGS]
    if not forks.can_fork(argv, environment):
        pytest.skip("no forks on this system")
    new = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    made = set(forks.run(argv, env=environment, check=True, cwd=tmp_path).stdout.splitlines())
    assert [line for line in new.splitlines() if line not in made] == []
    assert new.count("http://127.0.0.1:9") > 3
    assert str(tmp_path / "cache") in new


def test_a_command_in_the_tests_process_leaves_an_environment_that_can_be_forked(forks):
    """Else each command afterwards is a process of its own, and the suite takes twice as long."""
    assert main(["--version"]) == 0
    assert forks.can_fork([sys.executable, "-c", ""], os.environ)


def test_a_run_draws_its_figures_where_it_is_asked_to(run_client):
    shows = "from hf_free.reporting.heterogeneity import draw_heterogeneity as draw; print(draw.__name__)"
    assert run_client(shows).stdout == "<lambda>\n"
    assert run_client(shows, draws=True).stdout == "draw_heterogeneity\n"
