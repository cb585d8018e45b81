"""Publishing over HTTP and from the command line: what is sent is in force, what is wrong is shown with its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest_service import RULES, write_policy
from fleet_workers import UNSTABLE, host

from decision_service.cli import main
from service_process import ServiceProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service on a host with the small policy."""
    made = host(tmp_path_factory.mktemp("fleet") / "a")
    with ServiceProcess(made / "service", rules=made / "rules", models=made / "models") as running:
        yield running


def rules(service: ServiceProcess, *arguments: Any) -> int:
    """`decision-service rules ...` against the service; the exit status."""
    return main(["rules", *map(str, arguments), "--url", service.url])


def test_fleet_a_directory_is_published_listed_and_restored(
    service: ServiceProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The published policy is in force; the list tells who changed what; the old one comes back under a new number."""
    write_policy(tmp_path / "mine", RULES + "# changed\n")
    (tmp_path / "mine" / "policy.yaml").write_text('label: "mine"\nlists: [block]\n')
    assert rules(service, "publish", tmp_path / "mine") == 0
    assert "(mine) is in force as number 2" in capsys.readouterr().out
    status = httpx.get(f"{service.url}/v1/policy").json()
    assert (status["label"], status["bundle"], status["skew"], status["problem"]) == ("mine", 2, False, None)
    assert rules(service, "versions", "--json") == 0
    newest, oldest = json.loads(capsys.readouterr().out)["versions"]
    assert newest["files_changed"] == {"added": [], "changed": ["drawdown.yaml", "policy.yaml"], "removed": []}
    assert (newest["by"], newest["origin"], newest["current"], oldest["origin"]) == ("local", "publish", True, "disk")
    told = httpx.get(f"{service.url}/v1/policy/versions/2").json()
    assert told["files"]["drawdown.yaml"] == RULES + "# changed\n"
    page = httpx.get(f"{service.url}/metrics").text
    assert "decision_service_policy_skew 0.0" in page
    assert "decision_service_policy_problems 0.0" in page
    assert rules(service, "restore", 1) == 0
    assert "(one) is in force again as number 3" in capsys.readouterr().out
    assert rules(service, "versions") == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("*    3  ")


def test_fleet_what_cannot_be_published_is_refused_with_its_place(
    service: ServiceProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 4 and the diagnostic with the nearest name; an unknown number is 6; a bad one is 422."""
    before = httpx.get(f"{service.url}/v1/policy").json()
    write_policy(tmp_path / "mine", UNSTABLE)
    assert rules(service, "publish", tmp_path / "mine") == 4
    told = capsys.readouterr().err
    assert "drawdown.yaml:18:11: error: unknown name `vel_prior_10n`" in told
    assert "did you mean `vel_prior_10m`?" in told
    assert rules(service, "publish", tmp_path / "nowhere") == 4
    assert rules(service, "restore", 99) == 6
    assert httpx.get(f"{service.url}/v1/policy/versions/x").json()["field"] == "number"
    after = httpx.get(f"{service.url}/v1/policy").json()
    assert {**after, "workers": None} == {**before, "workers": None}
    assert main(["rules", "versions", "--url", "http://127.0.0.1:9"]) == 7
