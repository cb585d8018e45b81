"""Whatever happens to a rule file, reading it ends in a policy or in diagnostics with a place in it: nothing raises.

The shipped files are damaged as editors, merges and slips of the hand do it: bytes, characters, words and lines lost,
doubled, swapped, or replaced by what means something in YAML or in the language.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from rule_cases import VOCABULARY

from decision_service.core.errors import PolicyRejected
from decision_service.core.policy import compile_policy
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Diagnostic, Findings
from decision_service.core.zone import zone_named
from decision_service.policies.files import read_text
from decision_service.scorecards.files import load_scorecards

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden")
SHIPPED = {
    path.relative_to(ROOT / "rules").as_posix(): path.read_bytes() for path in sorted((ROOT / "rules").rglob("*.yaml"))
}
RULE_FILES = [name for name in SHIPPED if not name.startswith("features/")]
ZONE = zone_named("Asia/Shanghai")
TOKENS = (
    b":", b"- ", b"{", b"}", b"[", b"]", b",", b"'", b'"', b"#", b"|", b">", b"&a", b"*a", b"!t ", b"%", b"@", b"`",
    b"?", b"\t", b"\n", b"\r", b"\0", b"\xff", b"\xe2\x80\xa8", "限".encode(), "\U0001f600".encode(), b"---\n",
    b"...\n", b"<<: ", b"null", b"~", b"no", b"012", b"1e999", b"-", b"(", b")", b" and ", b" not ", b" in ",
    b" if ", b"==", b"<", b"/ 0",
    b"is_null(", b"at_least(", b"inf", b"nan", b".", b"..", b" " * 3, b"note:", b"when:", b"then:", b"9" * 400,
)  # fmt: skip
Damage = Callable[[bytes, random.Random], bytes]


def lose_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few bytes are gone."""
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, 12) :]


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few bytes are others."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(data))] = rng.choice((rng.randrange(256), rng.randrange(32, 127)))
    return bytes(changed)


def put_in(data: bytes, rng: random.Random) -> bytes:
    """Something that means something stands where it should not."""
    at = rng.randrange(len(data))
    return data[:at] + rng.choice(TOKENS) + data[at:]


def instead(data: bytes, rng: random.Random) -> bytes:
    """A word is replaced by another, or by something that means something."""
    words = data.split(b" ")
    words[rng.randrange(len(words))] = rng.choice((rng.choice(words), rng.choice(TOKENS)))
    return b" ".join(words)


def lines(data: bytes, rng: random.Random) -> bytes:
    """Lines are lost, doubled, swapped, indented or joined."""
    text = data.split(b"\n")
    at, other = rng.randrange(len(text)), rng.randrange(len(text))
    match rng.randrange(5):
        case 0:
            del text[at : at + rng.randint(1, 5)]
        case 1:
            text[at:at] = text[at : at + rng.randint(1, 5)]
        case 2:
            text[at], text[other] = text[other], text[at]
        case 3:
            text[at] = b" " * rng.randint(1, 4) + text[at] if rng.random() < 0.5 else text[at].lstrip()
        case 4:
            text[at : at + 2] = [b"".join(text[at : at + 2])]
    return b"\n".join(text)


def cut_off(data: bytes, rng: random.Random) -> bytes:
    """Half written."""
    return data[: rng.randrange(len(data))]


DAMAGES: tuple[Damage, ...] = (lose_bytes, change_bytes, put_in, instead, lines, cut_off)


@pytest.fixture(scope="module")
def cards() -> dict[str, Scorecard]:
    """The shipped scorecards."""
    return dict(load_scorecards(ROOT / "models"))


def judged(files: dict[str, bytes], cards: dict[str, Scorecard]) -> list[Diagnostic]:
    """The errors of a policy of these files, none if it compiles."""
    findings = Findings()
    read = {name: read_text(data, name, findings) for name, data in files.items()}
    documents = {name: document for name, document in read.items() if document is not None}
    told: list[Diagnostic] = []
    try:
        compile_policy(documents, cards, ZONE, 86_400_000, findings)
    except PolicyRejected as refused:
        told = list(refused.diagnostics)
    assert told == findings.errors, "refused without a word, or compiled in spite of an error"
    check_places(findings.diagnostics, files)
    return told


def check_places(diagnostics: list[Diagnostic], files: dict[str, bytes]) -> None:
    """Every finding stands on a line of a file, or right below its last, and can be shown."""
    for found in diagnostics:
        if found.place.file not in files:
            assert "scorecard" in found.message, found
            continue
        count = len(files[found.place.file].decode("utf-8", "replace").splitlines())
        assert 1 <= found.place.line <= count + 1, (found, count)
        assert 1 <= found.place.column <= len(found.place.text) + 1 or not found.place.text, found
        assert found.render()
        assert found.as_json()["message"]


def run(names: list[str], rounds: int, seed: int, cards: dict[str, Scorecard]) -> int:
    """Damage files, one to three times each, and judge the whole policy; how many were refused."""
    rng, refused = random.Random(seed), 0
    for _ in range(rounds):
        name = rng.choice(names)
        data = SHIPPED[name]
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = rng.choice(DAMAGES)(data, rng) or b"\n"
        refused += bool(judged({**SHIPPED, name: data}, cards))
    return refused


def test_the_shipped_files_are_sound(cards: dict[str, Scorecard]) -> None:
    """The ground the damage is done on."""
    assert judged(SHIPPED, cards) == []


@pytest.mark.fault("F01", "F02")
@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_rule_file_is_refused_in_words_or_compiles(seed: int, cards: dict[str, Scorecard]) -> None:
    """Nothing but PolicyRejected is ever raised, with places inside the files."""
    assert run(RULE_FILES, 10, seed, cards) > 2


def test_a_damaged_small_file_is_refused_in_words_or_read() -> None:
    """The golden files, which hold every sort of block, damaged eight hundred times."""
    rng, refused = random.Random(9), 0
    files = [path.read_bytes() for path in sorted(GOLDEN.glob("*.yaml")) if path.stat().st_size]
    for _ in range(800):
        data = rng.choice(files)
        for _ in range(rng.choice((1, 1, 2, 3))):
            data = rng.choice(DAMAGES)(data, rng) or b"\n"
        findings = Findings()
        document = read_text(data, "drawdown.yaml", findings)
        if document is None or read_rule_set(document, VOCABULARY, findings) is None:
            refused += 1
            assert findings.errors, data
        check_places(findings.diagnostics, {"drawdown.yaml": data})
    assert refused > 400


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_thousands_of_damaged_files_are_refused_in_words_or_compile(seed: int, cards: dict[str, Scorecard]) -> None:
    """The same for many more, features and all."""
    assert run(list(SHIPPED) if seed % 2 else RULE_FILES, 150, seed, cards) > 50
