"""Rule files that are lost, moved or made unreadable while serving: the last good policy decides on, and it is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from conftest_service import LINE, Run, Started, ask, decide, write_policy

Harm = Callable[[Path], object]


def _deleted(rules: Path) -> None:
    (rules / "drawdown.yaml").unlink()


def _emptied(rules: Path) -> None:
    (rules / "drawdown.yaml").write_text("")


def _leads_to_itself(rules: Path) -> None:
    (rules / "drawdown.yaml").unlink()
    (rules / "drawdown.yaml").symlink_to(rules / "drawdown.yaml")


def _leads_out(rules: Path) -> None:
    outside = rules.parent / "elsewhere.yaml"
    shutil.move(rules / "drawdown.yaml", outside)
    (rules / "drawdown.yaml").symlink_to(outside)


def _pipe(rules: Path) -> None:
    (rules / "drawdown.yaml").unlink()
    os.mkfifo(rules / "drawdown.yaml")


def put_back(rules: Path) -> None:
    """The policy as it was."""
    rules.mkdir(exist_ok=True)
    (rules / "drawdown.yaml").unlink(missing_ok=True)
    write_policy(rules)


@pytest.mark.fault("F03", "F15")
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_deleted, "no rule set for the scene `drawdown`"),
        (shutil.rmtree, "there is no such rules directory"),
        (lambda rules: rules.rename(rules.parent / "gone"), "there is no such rules directory"),
        (_emptied, "the file is empty"),
        (_leads_to_itself, "a symbolic link that leads to itself"),
        (_leads_out, "a symbolic link that leads out of the rules directory"),
        (_pipe, "not a regular file"),
    ],
    ids=["deleted", "directory_deleted", "directory_moved", "emptied", "link_to_itself", "link_out", "pipe"],
)
def test_the_last_good_policy_stays_and_the_problem_is_told(rules: Path, run: Run, harm: Harm, said: str) -> None:
    """A reload answers no, decisions go on under the same policy, the diagnostics say what is wrong; put back, it is
    taken up again."""

    async def test(service: Started) -> None:
        before = service.active.current.id
        await service.customers.put_facility(LINE)
        harm(rules)
        assert not await service.active.reload()
        assert service.active.current.id == before
        assert any(said in diagnostic.message for diagnostic in service.active.diagnostics), service.active.diagnostics
        assert (await service.customers.policy_status())["problem"]
        answer = await decide(service, ask("r-1"))
        assert orjson.loads(answer.body)["policy"]["id"] == before
        put_back(rules)
        assert await service.active.reload()
        assert (service.active.problem, service.active.current.id) == ("", before)

    run(test)


@pytest.mark.fault("F15")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_no_longer_be_read_changes_nothing(rules: Path, run: Run) -> None:
    """The permission is lost; the finding names the file."""

    async def test(service: Started) -> None:
        before = service.active.current.id
        (rules / "drawdown.yaml").chmod(0)
        assert not await service.active.reload()
        assert service.active.current.id == before
        assert next((d.place.file, d.message) for d in service.active.diagnostics) == (
            "drawdown.yaml", "cannot be read: Permission denied",
        )  # fmt: skip

    run(test)
