"""Keys, signatures and signed policies from the command line, and a real service that asks for two signatures."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from fleet_workers import UNSTABLE, host, save

from decision_service.cli import main
from decision_service.policies.signers import read_key
from service_process import ServiceProcess


def rules(*arguments: object) -> int:
    """`decision-service rules ...`; the exit status."""
    return main(["rules", *map(str, arguments)])


@pytest.fixture
def signers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A signers file with ann and ben, their keys beside it."""
    lines = ""
    for name in ("ann", "ben"):
        assert rules("keygen", name, "--out", tmp_path / "keys") == 0
        lines += capsys.readouterr().out
    path = tmp_path / "signers"
    path.write_text(lines)
    return path


def sign(directory: Path, signers: Path, *names: str) -> None:
    """Sign by these, as they would."""
    for name in names:
        key = signers.parent / "keys" / f"{name}.key"
        assert rules("sign", directory, "--key", key, "--models", directory.parent / "models") == 0


def set_serial(directory: Path, serial: int) -> None:
    """Write the serial into policy.yaml."""
    head = directory / "policy.yaml"
    head.write_text(head.read_text().partition("serial")[0] + f"serial: {serial}\n")


def test_fleet_keygen_prints_the_public_line_and_keeps_the_private_one(
    tmp_path: Path, signers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stands in the signers file is the key's public half; a second key of that name replaces nothing."""
    path = tmp_path / "keys" / "ann.key"
    assert read_key(path).public_line == signers.read_text().splitlines()[0]
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    assert rules("keygen", "ann", "--out", tmp_path / "keys") == 2
    assert rules("keygen", "a/b", "--out", tmp_path / "keys") == 2
    assert path.read_bytes() == before
    told = capsys.readouterr()
    assert told.out == ""
    assert "File exists" in told.err
    assert "a signer's name has up to 64 letters" in told.err
    assert rules("keygen", "cid", "--out", tmp_path / "keys", "--json") == 0
    assert json.loads(capsys.readouterr().out)["signers_line"].startswith("cid ed25519 ")


def test_fleet_sign_refuses_what_does_not_compile(
    tmp_path: Path, signers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mistakes are shown and nothing is written, unless it is meant; without a serial it says what that means."""
    directory = host(tmp_path / "a", rules=UNSTABLE) / "rules"
    arguments = ["sign", directory, "--key", tmp_path / "keys" / "ann.key", "--models", tmp_path / "a" / "models"]
    assert rules(*arguments) == 4
    assert "did you mean `vel_prior_10m`?" in capsys.readouterr().out
    assert not (directory / "policy.signatures").exists()
    assert rules(*arguments, "--unchecked", "--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"signer": "ann", "serial": None, "signatures": ["ann"]}
    assert "policy.yaml has no `serial`" in told.err
    assert rules("sign", directory, "--key", signers) == 2
    assert "is not a key that" in capsys.readouterr().err
    assert rules("sign", tmp_path / "nowhere", "--key", signers) == 2


def test_fleet_check_tells_who_has_signed(
    tmp_path: Path, signers: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where signers are configured; a signature from before an edit is shown with its line."""
    directory = host(tmp_path / "a") / "rules"
    check = ["check", directory, "--models", tmp_path / "a" / "models"]
    assert rules(*check) == 0
    assert "signed by" not in capsys.readouterr().out
    monkeypatch.setenv("DECISION_SERVICE_POLICY_SIGNERS", str(signers))
    monkeypatch.setenv("DECISION_SERVICE_POLICY_SIGNATURES_MIN", "2")
    set_serial(directory, 4)
    sign(directory, signers, "ann")
    assert rules(*check) == 0
    assert capsys.readouterr().out.endswith("signed by ann (2 signatures asked for), serial 4\n")
    set_serial(directory, 5)
    sign(directory, signers, "ben")
    assert rules(*check) == 0
    told = capsys.readouterr().out
    assert "policy.signatures:1:1: error: the signature of `ann` is not for these files" in told
    assert told.endswith("signed by ben (2 signatures asked for), serial 5\n")
    assert rules(*check, "--json") == 0
    state = json.loads(capsys.readouterr().out)["signatures"]
    assert (state["asked"], state["signed_by"], state["serial"]) == (2, ["ben"], 5)
    assert [problem["line"] for problem in state["diagnostics"]] == [1]
    monkeypatch.setenv("DECISION_SERVICE_POLICY_SIGNATURES_MIN", "3")
    assert rules(*check) == 2
    assert "POLICY_SIGNATURES_MIN" in capsys.readouterr().err


def test_fleet_serial_is_a_whole_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is none is refused at its place."""
    directory = host(tmp_path / "a") / "rules"
    for wrong in ("0", "-1", "1.0", "1e3", "007", "[1]", "1000000000000000"):
        (directory / "policy.yaml").write_text(f'label: "x"\nlists: [block]\nserial: {wrong}\n')
        assert rules("check", directory, "--models", tmp_path / "a" / "models") == 4
        assert "policy.yaml:3:9: error: `serial` must be a whole number" in capsys.readouterr().out


@pytest.mark.fault("F14")
@pytest.mark.slow
def test_fleet_a_policy_signed_by_two_is_live_and_others_are_not(
    tmp_path: Path, signers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over HTTP: an unsigned publish is refused with its line; signed by two it is in force; the older one cannot be
    restored until it is signed anew under a higher serial. A version that is read can be sent again as it is."""
    made = host(tmp_path / "a")
    directory = made / "rules"
    set_serial(directory, 1)
    sign(directory, signers, "ann", "ben")
    with ServiceProcess(
        made / "service", rules=directory, models=made / "models", policy_signers=signers, policy_signatures_min=2
    ) as service:
        mine = host(tmp_path / "b", "two") / "rules"
        set_serial(mine, 2)
        sign(mine, signers, "ann")
        assert rules("publish", mine, "--url", service.url) == 4
        assert "signed by ann alone; signatures of 2 different signers" in capsys.readouterr().err
        sign(mine, signers, "ben")
        assert rules("publish", mine, "--url", service.url) == 0
        assert "(two) is in force as number 2" in capsys.readouterr().out
        assert rules("restore", 1, "--url", service.url) == 4
        told = capsys.readouterr().err
        assert "policy.yaml:3:9: error: serial 1 is below 2" in told
        assert "to go back to older files, give them that serial and sign them again" in told
        files = httpx.get(f"{service.url}/v1/policy/versions/2").json()["files"]
        assert files["policy.signatures"] == (mine / "policy.signatures").read_text()
        answer = httpx.post(f"{service.url}/v1/policy/publish", json={"files": files}, timeout=20)
        assert (answer.status_code, answer.json()["bundle"]) == (200, 2)
        assert httpx.post(f"{service.url}/v1/policy/check", json={"files": files}, timeout=20).json()["ok"]
        forged = {**files, "drawdown.yaml": files["drawdown.yaml"] + "# one byte\n"}
        answer = httpx.post(f"{service.url}/v1/policy/publish", json={"files": forged}, timeout=20)
        assert answer.status_code == 422
        assert "the signature of `ann` is not for these files" in answer.text
        save(made, "one again")
        set_serial(directory, 3)
        sign(directory, signers, "ann", "ben")
        assert httpx.post(f"{service.url}/v1/policy/reload", timeout=20).json()["label"] == "one again"


def test_fleet_more_signatures_than_signers_stop_the_start(
    tmp_path: Path, signers: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the name of the setting."""
    monkeypatch.setenv("DECISION_SERVICE_POLICY_SIGNERS", str(signers))
    monkeypatch.setenv("DECISION_SERVICE_POLICY_SIGNATURES_MIN", "3")
    monkeypatch.setenv("DECISION_SERVICE_DATA_DIR", str(tmp_path / "data"))
    assert main(["serve", "--port", "0", "--redis-url", "memory://"]) == 2
    told = capsys.readouterr().err
    assert "DECISION_SERVICE_POLICY_SIGNATURES_MIN: 3 signatures are asked for, and only 2 signers are known" in told
