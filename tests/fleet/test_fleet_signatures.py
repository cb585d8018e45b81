"""F14: with signatures asked for, no policy comes into force that too few have signed or that leads the fleet back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from conftest_service import T0_MS
from fleet_workers import until
from policy_signing import ALICE, BOB, CAROL, KNOWN, MALLORY, content_on, edit, sign, two_of_three

from decision_service.core.errors import PolicyRejected, SettingInvalid, StoreUnavailable
from decision_service.core.limits import HOUR_MS
from decision_service.policies.active_policy import ActivePolicy
from decision_service.policies.bundle import Content, head_of
from decision_service.policies.signatures import SIGNATURES_FILE, SignatureRule, signature_rule, signed
from decision_service.policies.signers import SigningKey, new_key, read_key, read_signers, write_key
from decision_service.store import Store
from decision_service.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
GOLDEN = Path(__file__).with_name("golden")


@pytest.fixture
def rule(tmp_path: Path) -> SignatureRule:
    """Two of alice, bob and carol."""
    return two_of_three(tmp_path)


@asynccontextmanager
async def running(host: Path, store: Store, rule: SignatureRule) -> AsyncIterator[ActivePolicy]:
    """A started worker that asks for signatures."""
    worker = ActivePolicy(
        host / "rules", host / "models", "Asia/Shanghai", 24 * HOUR_MS, store, lambda: T0_MS, lambda *_: None,
        signatures=rule,
    )  # fmt: skip
    worker.worker_id = host.name
    await worker.start()
    try:
        yield worker
    finally:
        await worker.close()


def lines_signed(*keys: SigningKey) -> Callable[[Content], str]:
    """A signatures file by these."""

    def sign_all(content: Content) -> str:
        text = ""
        for key in keys:
            text = signed(Content(content.files, (), signatures=text), key)
        return text

    return sign_all


def twice(content: Content) -> str:
    """Alice's line, and once more."""
    return lines_signed(ALICE)(content) * 2


def borrowed(content: Content) -> str:
    """Alice's signature under bob's name beside her own."""
    line = lines_signed(ALICE)(content)
    return line + line.replace("alice", "bob")


def misspelt(content: Content) -> str:
    """A name with a typing error."""
    return lines_signed(ALICE, BOB)(content).replace("bob", "bbo")


FILES = {"drawdown.yaml": "rule_set: a\n", "features/volume.yaml": "features: {}\n"}
BAD = {
    "unsigned": lambda _: "",
    "one_signer": lines_signed(ALICE),
    "same_signer_twice": twice,
    "unknown_signer": lines_signed(ALICE, MALLORY),
    "name_misspelt": misspelt,
    "borrowed_signature": borrowed,
    "unreadable": lambda content: "alice\nbob ed25519 AAAA\n" + lines_signed(CAROL)(content),
    "other_files": lambda content: lines_signed(ALICE, BOB)(Content({**content.files, "x.yaml": ""}, ())),
}


@pytest.mark.fault("F14")
@pytest.mark.parametrize("case", BAD)
def test_fleet_too_few_signatures_are_refused_in_words(case: str, rule: SignatureRule) -> None:
    """Each way of not being signed by two known people has its text; base64 in it is shortened, for keys are new."""
    bare = Content(FILES, ())
    content = Content(FILES, (), signatures=BAD[case](bare))
    with pytest.raises(PolicyRejected) as refused:
        rule.check(content)
    text = "\n\n".join(diagnostic.render() for diagnostic in refused.value.diagnostics)
    for line in content.signatures.splitlines():
        text = text.replace(line.split()[-1], "...") if len(line.split()) == 3 else text
    assert text + "\n" == (GOLDEN / f"signatures_{case}.txt").read_text()


@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    "files",
    [
        {**FILES, "drawdown.yaml": "rule_set: b\n"},
        {"drawdown.yml": FILES["drawdown.yaml"], "features/volume.yaml": FILES["features/volume.yaml"]},
        {"drawdown.yaml": FILES["drawdown.yaml"]},
        {**FILES, "limit.yaml": ""},
        {"drawdown.yaml": FILES["features/volume.yaml"], "features/volume.yaml": FILES["drawdown.yaml"]},
        {"drawdown.yaml": FILES["drawdown.yaml"] + "features/volume.yaml" + FILES["features/volume.yaml"]},
    ],
    ids=["changed byte", "changed name", "removed file", "added file", "contents exchanged", "files joined"],
)
def test_fleet_signatures_hold_for_exactly_these_files(files: dict[str, str], rule: SignatureRule) -> None:
    """What was signed is taken; after any change the very same signatures are worth nothing."""
    text = lines_signed(ALICE, BOB)(Content(FILES, ()))
    rule.check(Content(FILES, (), signatures=text))
    with pytest.raises(PolicyRejected, match="the signature of `alice` is not for these files"):
        rule.check(Content(files, (), signatures=text))


def test_fleet_a_line_that_does_not_count_hurts_nobody(rule: SignatureRule) -> None:
    """With two good ones a third, of somebody who has left, is passed over; signing again replaces one's own line."""
    content = Content(FILES, ())
    text = "# approved on Monday\n" + lines_signed(ALICE, MALLORY, BOB)(content)
    assert rule.state(Content(FILES, (), signatures=text)).signed_by == ("alice", "bob")
    again = signed(Content({**FILES, "limit.yaml": ""}, (), signatures=text), ALICE)
    assert [line.split()[0] for line in again.splitlines()] == ["#", "mallory", "bob", "alice"]


def test_fleet_signers_must_be_enough_and_different(tmp_path: Path) -> None:
    """A signers file that would weaken the rule is refused with its line, too small a one with the setting's name."""
    path = tmp_path / "signers"
    for text, told in {
        f"{ALICE.public_line}\n\n{BOB.public_line}\n{ALICE.public_line}\n": r"signers:4: `alice` is on line 1 already",
        f"{ALICE.public_line}\n{ALICE.public_line.replace('alice', 'al')}\n": "signers:2: the key of `al` is that of",
        "alice ed25519 AAAA\n": "signers:1: expected `name ed25519",
        "alice\n": "signers:1: expected `name ed25519",
    }.items():
        path.write_text(text)
        with pytest.raises(SettingInvalid, match=told) as caught:
            read_signers(path)
        assert caught.value.name == "DECISION_SERVICE_POLICY_SIGNERS"
    path.write_text(ALICE.public_line)
    for signers in (path, None):
        with pytest.raises(SettingInvalid, match="2 signatures are asked for") as caught:
            signature_rule(signers, 2)
        assert caught.value.name == "DECISION_SERVICE_POLICY_SIGNATURES_MIN"
    with pytest.raises(SettingInvalid, match="cannot be read"):
        read_signers(tmp_path / "nowhere")


def test_fleet_a_key_is_its_owners_alone(tmp_path: Path) -> None:
    """The file is for its owner only, is never replaced, and gives the same key back; other files are no keys."""
    key = new_key("dora")
    write_key(key, tmp_path / "dora.key")
    assert (tmp_path / "dora.key").stat().st_mode & 0o777 == 0o600
    assert read_key(tmp_path / "dora.key").public_line == key.public_line
    with pytest.raises(FileExistsError):
        write_key(key, tmp_path / "dora.key")
    (tmp_path / "public").write_text(key.public_line)
    with pytest.raises(ValueError, match="is not a key"):
        read_key(tmp_path / "public")
    with pytest.raises(ValueError, match="a signer's name"):
        new_key("../dora")


async def test_fleet_a_signed_edit_is_everywhere_and_an_unsigned_one_nowhere(
    tmp_path: Path, store: Store, rule: SignatureRule
) -> None:
    """Over a real server: the other worker checks the bundle's signatures itself; one that is missing changes nothing
    until it comes, and then needs no further edit."""
    for name in "ab":
        edit(tmp_path / name, "one", 1, ALICE, BOB)
    async with running(tmp_path / "a", store, rule) as a, running(tmp_path / "b", store, rule) as b:
        assert (a.bundle, b.bundle, await store.policy_serial(2.0)) == (1, 1, 1)
        edit(tmp_path / "a", "two", 2, ALICE)
        await until(lambda: a.problem)
        assert a.diagnostics[0].message.startswith("signed by alice alone; signatures of 2 different signers")
        assert (a.current.label, a.bundle) == ("one", 1)
        sign(tmp_path / "a", CAROL)
        await until(lambda: a.current.label == b.current.label == "two" and not a.problem)
        assert (a.bundle, b.bundle, await store.policy_serial(2.0)) == (2, 2, 2)
        assert b.content is not None
        assert b.content.signatures == content_on(tmp_path / "a").signatures


@pytest.mark.fault("F14")
async def test_fleet_an_older_policy_needs_a_higher_serial(tmp_path: Path, rule: SignatureRule) -> None:
    """Good signatures do not bring it back: not by a restore, not published, not from a disk, forced or not."""
    store = MemoryStore(partitions=16)
    edit(tmp_path / "a", "one", 1, ALICE, BOB)
    async with running(tmp_path / "a", store, rule) as a:
        old = content_on(tmp_path / "a").sent_files
        edit(tmp_path / "a", "two", 5, ALICE, BOB)
        await until(lambda: a.bundle == 2)
        for attempt in (lambda: a.restore(1, "ann", force=True), lambda: a.publish(old, "ann", force=True)):
            with pytest.raises(PolicyRejected) as refused:
                await attempt()
            text = refused.value.diagnostics[0].render()
            assert text + "\n" == (GOLDEN / "signatures_rollback.txt").read_text()
        edit(tmp_path / "a", "one", 1, ALICE, BOB)
        assert not await a.reload(force=True)
        assert "serial 1 is below 5" in a.problem
        assert (a.current.label, a.bundle, list(await a.published())) == ("two", 2, [2, 1])
        edit(tmp_path / "a", "one", 6, ALICE, BOB)
        await until(lambda: a.bundle == 3)
        assert (a.current.label, a.problem) == ("one", "")
        again = edit(tmp_path / "x", "three", None, ALICE, BOB)
        with pytest.raises(PolicyRejected, match="no `serial`, which a signed policy needs"):
            await a.publish(again, "ann")


@pytest.mark.fault("F14")
async def test_fleet_what_is_put_into_the_store_past_the_service_is_refused(
    tmp_path: Path, rule: SignatureRule
) -> None:
    """Whoever can write the store, and makes digest and head fit, still has no signatures; nor does an old bundle
    under a new number get anywhere. A worker that starts meanwhile does not take it either."""
    store = MemoryStore(partitions=16)
    edit(tmp_path / "a", "one", 1, ALICE, BOB)
    async with running(tmp_path / "a", store, rule) as a:
        old = a.content
        edit(tmp_path / "a", "two", 2, ALICE, BOB)
        await until(lambda: a.bundle == 2)
        good = a.content
        assert old is not None
        assert good is not None
        changed = {**good.files, "drawdown.yaml": good.files["drawdown.yaml"].replace("RC10", "RC11") + "\n"}
        for number, (forged, told) in enumerate(
            [
                (Content(changed, (), signatures=good.signatures), "the signature of `alice` is not for these files"),
                (Content(changed, ()), "the policy is not signed"),
                (old, "serial 1 is below 2"),
            ],
            3,
        ):
            head = head_of(forged, a.current, T0_MS, "mallory", "publish")
            await store.publish_policy(number - 1, head.encode(), forged.pack(), 2.0)
            await until(lambda told=told: told in a.problem)
            assert (a.current.label, a.bundle) == ("two", 2)
        async with running(tmp_path / "a", store, rule) as late:
            assert late.current.label == "two"


async def test_fleet_a_start_without_signatures_is_refused(tmp_path: Path, rule: SignatureRule) -> None:
    """There is nothing else to go by; with nobody asked the same files start, signed or not, serial or not."""
    edit(tmp_path / "a", "one", 1, ALICE)
    with pytest.raises(PolicyRejected, match="signed by alice alone"):
        async with running(tmp_path / "a", MemoryStore(partitions=16), rule):
            pass
    async with running(tmp_path / "a", MemoryStore(partitions=16), SignatureRule()) as a:
        assert a.current.serial == 1
        (tmp_path / "a" / "rules" / SIGNATURES_FILE).unlink()
        assert await a.reload()


async def test_fleet_signed_policies_published_at_once_leave_the_highest_serial_in_force(
    tmp_path: Path, rule: SignatureRule
) -> None:
    """Whatever their order, the serial never falls: one that comes after a higher one is refused."""
    store = MemoryStore(partitions=16)
    for name in "ab":
        edit(tmp_path / name, "one", 1, ALICE, BOB)
    async with running(tmp_path / "a", store, rule) as a, running(tmp_path / "b", store, rule) as b:
        files = [edit(tmp_path / f"x{serial}", f"s{serial}", serial, *KNOWN) for serial in (2, 3)]
        await asyncio.gather(a.publish(files[1], "ann"), b.publish(files[0], "bob"), return_exceptions=True)
        await until(lambda: a.current.serial == b.current.serial == 3)
        assert await store.policy_serial(2.0) == 3


class AwayStore(MemoryStore):
    """A store that can be unreachable for what concerns published policies."""

    def __init__(self) -> None:
        super().__init__(partitions=16)
        self.away = False

    async def published_heads(self, timeout_s: float) -> dict[int, bytes]:
        if self.away:
            raise StoreUnavailable("away")
        return dict(await super().published_heads(timeout_s))

    async def policy_serial(self, timeout_s: float) -> int:
        if self.away:
            raise StoreUnavailable("away")
        return await super().policy_serial(timeout_s)


async def test_fleet_an_old_policy_started_without_the_store_gives_way_when_it_is_back(
    tmp_path: Path, rule: SignatureRule
) -> None:
    """Signed, it decides while nobody can say that it is old; then it is not published but told, and the fleet's is
    taken. A new one that came meanwhile is published."""
    store = AwayStore()
    edit(tmp_path / "a", "two", 2, ALICE, BOB)
    async with running(tmp_path / "a", store, rule):
        pass
    edit(tmp_path / "b", "one", 1, ALICE, BOB)
    store.away = True
    async with running(tmp_path / "b", store, rule) as b:
        assert (b.current.label, b.bundle) == ("one", 0)
        store.away = False
        await until(lambda: b.current.label == "two")
        assert (b.bundle, list(await b.published())) == (1, [1])
        assert "serial 1 is below 2" in b.problem
        store.away = True
        edit(tmp_path / "b", "one", 1, BOB, CAROL)
        assert not await b.reload(force=True), "what was heard before is not forgotten"
        assert b.current.label == "two"
        edit(tmp_path / "b", "three", 3, BOB, CAROL)
        await until(lambda: b.current.label == "three")
        store.away = False
        await until(lambda: b.bundle == 2)
        assert (b.problem, await store.policy_serial(2.0)) == ("", 3)
