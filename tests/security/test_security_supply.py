"""What is installed is what was locked: hashes refuse a changed file, the bill of materials tells of all of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "project"))
import audit_lock

from decision_service.bill_of_materials import NotLocked, bill, installed_pins, main, our_version, pins_of

pytestmark = pytest.mark.fault("I09")
ROOT = Path(__file__).parents[2]
LOCK = (
    "# made by hand\n"
    f"Some_Package[extra]==1.2 ; python_version >= '3.11' \\\n"
    f"    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n"
    f"other==3 \\\n    --hash=sha256:{'c' * 64}\n"
)


def make_wheel(directory: Path) -> Path:
    """A wheel of one module, made by hand."""
    files = {
        "tamper_probe.py": b"ORIGINAL = True\n",
        "tamper_probe-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tamper-probe\nVersion: 1.0\n",
        "tamper_probe-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for name, data in files.items()
    ]
    files["tamper_probe-1.0.dist-info/RECORD"] = "\n".join([*rows, "tamper_probe-1.0.dist-info/RECORD,,", ""]).encode()
    path = directory / "tamper_probe-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def install(wheel: Path, digest: str, target: Path) -> subprocess.CompletedProcess[str]:
    """Install the wheel as the Makefile and the Dockerfile do, from its folder alone."""
    lock = wheel.with_name("requirements.lock")
    lock.write_text(f"tamper-probe==1.0 \\\n    --hash=sha256:{digest}\n")
    return subprocess.run(
        [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-index", "--find-links", str(wheel.parent),
         "--no-cache-dir", "--disable-pip-version-check", "--target", str(target), "-r", str(lock)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_one_changed_byte_of_a_package_is_refused(tmp_path: Path) -> None:
    """pip installs the file that was locked and refuses it with one byte changed, or without a hash for it."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no pip in this environment")
    wheel = make_wheel(tmp_path)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    good = install(wheel, digest, tmp_path / "good")
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "good" / "tamper_probe.py").exists()
    content = wheel.read_bytes()
    at = content.index(b"ORIGINAL")
    wheel.write_bytes(content[:at] + b"X" + content[at + 1 :])
    bad = install(wheel, digest, tmp_path / "bad")
    assert bad.returncode != 0
    assert "DO NOT MATCH THE HASHES" in bad.stderr
    assert not (tmp_path / "bad").exists()
    wheel.write_bytes(content)
    assert install(wheel, digest, tmp_path / "healed").returncode == 0


def test_every_install_of_the_project_asks_for_hashes() -> None:
    """No line of the Makefile or the Dockerfile installs a package from outside without them."""
    for name in ("Makefile", "Dockerfile"):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        commands = [command.strip() for line in text.splitlines() for command in line.split("&&")]
        installs = [c for c in commands if re.search(r"(\bpip\b.* install |PIP_INSTALL\) )", c) and ":=" not in c]
        assert len(installs) >= 3, name
        assert [c for c in installs if "--require-hashes" not in c and "--no-deps" not in c] == []


def test_the_bill_lists_each_locked_package_with_its_hashes(tmp_path: Path) -> None:
    """From the real lock: CycloneDX, every pin once, the same bytes each time."""
    out, again = tmp_path / "sbom.json", tmp_path / "again.json"
    assert main(["--lock", str(ROOT / "requirements.lock"), "--out", str(out)]) == 0
    assert main(["--lock", str(ROOT / "requirements.lock"), "--out", str(again)]) == 0
    assert out.read_bytes() == again.read_bytes()
    document = json.loads(out.read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["serialNumber"].startswith("urn:uuid:")
    pins = pins_of((ROOT / "requirements.lock").read_text())
    assert [(c["name"], c["version"]) for c in document["components"]] == sorted(pins)
    assert all(c["purl"] == f"pkg:pypi/{c['name']}@{c['version']}" for c in document["components"])
    assert all(len(h["content"]) == 64 for c in document["components"] for h in c["hashes"])
    assert {"cryptography", "pyjwt", "redis", "uvicorn"} <= {c["name"] for c in document["components"]}
    assert document["dependencies"][0]["dependsOn"] == [c["bom-ref"] for c in document["components"]]


def test_what_is_installed_but_not_locked_fails_the_build() -> None:
    """A package nobody locked, or another version of one that is."""
    pins = pins_of(LOCK)
    ours = ("decision_service", our_version())
    assert [pin.name for pin in installed_pins(pins, [ours, ("other", "3")])] == ["other"]
    for foreign in (("sneaky", "1"), ("other", "3.1")):
        with pytest.raises(NotLocked, match=f"{foreign[0]}=={foreign[1]}"):
            installed_pins(pins, [ours, ("other", "3"), foreign])


def test_a_lock_is_read_whatever_its_entries_look_like() -> None:
    """Names are normalised, extras and markers left away; an entry without hashes is an error."""
    pins = pins_of(LOCK)
    assert [(pin.name, pin.version, len(pin.hashes)) for pin in pins.values()] == [
        ("some-package", "1.2", 2),
        ("other", "3", 1),
    ]
    with pytest.raises(ValueError, match="without hashes"):
        pins_of("one==1\n")
    assert bill(list(pins.values())) == bill(list(reversed(pins.values())))


@pytest.fixture
def database() -> Iterator[str]:
    """A vulnerability database on loopback that knows one of `other`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            results = [{"vulns": [{"id": "OSV-1"}]} if q["package"]["name"] == "other" else {} for q in asked]
            body = json.dumps({"results": results}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_the_audit_names_what_is_known_and_lets_a_machine_without_network_go_on(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 with the names, 0 without any, 0 and a message where the database cannot be reached."""
    lock = tmp_path / "some.lock"
    lock.write_text(LOCK)
    assert audit_lock.main([str(lock)], database) == 1
    assert "other==3: OSV-1" in capsys.readouterr().out
    lock.write_text(LOCK.partition("other")[0])
    assert audit_lock.main([str(lock)], database) == 0
    assert audit_lock.main([str(lock)], "http://127.0.0.1:1/") == 0
    assert "skipped" in capsys.readouterr().out
