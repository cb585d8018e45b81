"""What a trial process may do to the service: nothing (G03, G09, and whatever else a native library can think of)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scorecard_maker import Trained

from decision_service.core.errors import ScorecardRejected
from decision_service.core.scorecards.manifest import GoldenRow
from decision_service.scorecards.trial_process import ENVIRONMENT, trial

ROWS = (GoldenRow((0.5,), 0.0, 0.5, 500), GoldenRow((1.5,), 0.0, 0.5, 500))
CONFINED = "from decision_service.scorecards.trial import confine; confine(); "


def outcome(code: str, timeout_s: float = 20.0, model: bytes = b"tree") -> str:
    """Why a trial is refused whose process runs this code."""
    with pytest.raises(ScorecardRejected) as refused:
        trial(Path("m/model.txt"), model, 1, ROWS, command=[sys.executable, "-P", "-B", "-c", code],
              timeout_s=timeout_s)  # fmt: skip
    assert refused.value.message.startswith("m/model.txt")
    return refused.value.message


@pytest.mark.fault("G03")
@pytest.mark.parametrize(("code", "told"), [
    ("import os; os.kill(os.getpid(), 11)", "trial load crashed with SIGSEGV: the model is damaged"),
    ("import os; os.abort()", "trial load crashed with SIGABRT"),
    ("raise SystemExit('cannot go on')", "trial load failed: cannot go on"),
    ("import sys; sys.exit(3)", "trial load failed: no message"),
    ("print('{\"margins\": [1.0]}')", "trial load gave no answer to what it was asked"),
    ("print('{\"margins\": [1.0, \"2\"], \"call_us\": 1}')", "trial load gave no answer"),
    ("print('{\"margins\": [1.0, NaN], \"call_us\": 1}')", "trial load gave no answer"),
    ("print('{\"margins\": [1.0, 2.0]}')", "did not say how long a score takes"),
    ("print('[' * 100000)", "trial load gave no answer"),
    ("print('no JSON')", "trial load gave no answer"),
    ("pass", "trial load gave no answer"),
    ("while True: print('x' * 65536)", "trial load answered over 262,144 bytes"),
    ("import sys\nfor _ in range(2000): sys.stderr.write('x' * 65536)\nsys.exit('\\nthe end')", "failed: the end"),
    (CONFINED + "bytearray(5 << 30)", "trial load failed: MemoryError"),
    (CONFINED + "open('/dev/shm/trial_was_here', 'wb').write(bytes(10))", "trial load "),
    (CONFINED + "[open('/dev/null') for _ in range(100)]", "trial load failed: OSError: [Errno 24]"),
])  # fmt: skip
def test_whatever_becomes_of_a_trial_is_a_message(code: str, told: str) -> None:
    """Crashes, limits, nonsense and floods are each told as such; the service lives and holds no more than it reads."""
    assert told in outcome(code)


def test_a_trial_writes_no_file() -> None:
    """Its limit on files is 0 bytes."""
    path = Path("/dev/shm") / f"trial-{os.getpid()}"
    outcome(CONFINED + f"open({str(path)!r}, 'wb').write(bytes(10))")
    try:
        assert not path.exists() or path.stat().st_size == 0
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.fault("G03")
@pytest.mark.parametrize("hang", ["time.sleep(600)", "[sys.stderr.write('x') for _ in iter(int, 1)]"])
def test_a_trial_that_hangs_is_killed_with_everything_it_started(tmp_path: Path, hang: str) -> None:
    """Quiet or talking, and a child of its own with it."""
    told = tmp_path / "pid"
    code = (
        "import subprocess, sys, time, pathlib\n"
        f"child = subprocess.Popen(['sleep', '600']); pathlib.Path({str(told)!r}).write_text(str(child.pid))\n{hang}"
    )
    assert "trial load took over 3 s" in outcome(code, timeout_s=3.0)
    grandchild = Path("/proc") / told.read_text()
    until = time.monotonic() + 10
    while grandchild.exists() and "Z" not in (grandchild / "stat").read_text().rpartition(")")[2].split()[0]:
        assert time.monotonic() < until, "it lives on"
        time.sleep(0.02)


@pytest.mark.fault("G10")
def test_a_trial_is_told_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the service's environment it gets what Python and the library need to be found."""
    monkeypatch.setenv("DECISION_SERVICE_REDIS_URL", "redis://:hunter2@store/0")
    values = outcome("import os, sys; sys.exit(' '.join(os.environ.values()))")
    assert "hunter2" not in values
    names = outcome("import os, sys; sys.exit(' '.join(os.environ))").rpartition(": ")[2].split()
    extra = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LC_CTYPE"}
    assert set(names) <= {*ENVIRONMENT, *extra}


def test_a_trial_inherits_no_open_file(tmp_path: Path) -> None:
    """Not even one that was made inheritable."""
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        code = "import os, sys; sys.exit(' '.join(os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')))"  # noqa: E501
        assert "secret" not in outcome(code).partition(": ")[2]


def test_a_model_larger_than_a_pipe_and_not_read_does_not_block(small_model: Trained) -> None:
    """A child that answers without reading: what is left of its input is dropped."""
    code = 'print(\'{"margins": [1.0, 2.0], "call_us": 1.5}\')'
    answer = trial(Path("m"), small_model.text * 50, 1, ROWS, command=[sys.executable, "-c", code])
    assert answer["margins"] == [1.0, 2.0]


@pytest.mark.slow
@pytest.mark.fault("G09")
def test_eight_workers_score_with_one_thread_each(small_model: Trained, tmp_path: Path) -> None:
    """G09: in eight processes at once, neither loading nor scoring nor explaining starts a thread: what
    threads there are began when the libraries were loaded, and are not more afterwards. LightGBM on trial has one."""
    (tmp_path / "model.txt").write_bytes(small_model.text)
    code = (
        "import os, numpy as np\n"
        "from decision_service.core.scorecards.tree_scorer import TreeScorer\n"
        f"text = open({str(tmp_path / 'model.txt')!r}, 'rb').read()\n"
        "def score(): scorer = TreeScorer(text, 5); [scorer.margin(np.zeros(5)) for _ in range(200)];"
        " scorer.contributions(np.zeros(5))\n"
        "threads = lambda: len(os.listdir('/proc/self/task'))\n"
        "score(); before = threads(); [score() for _ in range(5)]; print(before, threads())\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(8)]
    counts = [worker.communicate(timeout=300)[0].split() for worker in workers]
    assert [len(count) for count in counts] == [2] * 8
    assert all(before == after for before, after in counts), counts
    tried = (
        "import os, sys, numpy as np\n"
        "from decision_service.scorer import LightGbmScorer\n"
        f"scorer = LightGbmScorer(open({str(tmp_path / 'model.txt')!r}, 'rb').read(), 5)\n"
        "[scorer.margin(np.zeros(5)) for _ in range(200)]\n"
        "sys.exit('threads ' + str(len(os.listdir('/proc/self/task'))))\n"
    )
    assert outcome(tried).endswith("threads 1")
