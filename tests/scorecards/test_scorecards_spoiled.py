"""Section G, the faults that are a file: each spoilt scorecard is put beside the one in force."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from scorecard_maker import Trained, manifest_text, write_scorecard
from scored_policy import Worker, drawn, running, write_rules
from spoiled import Spoiled, spoilers

from decision_service.core.errors import PolicyRejected
from decision_service.store.memory import MemoryStore

FAULTS = ("G01", "G02", "G03", "G04", "G07", "G08", "G10", "G11")


@pytest.fixture
def host(tmp_path: Path, small_model: Trained) -> Path:
    """A host with the policy and version 1 of the scorecard."""
    write_rules(tmp_path / "rules")
    write_scorecard(tmp_path / "models", small_model)
    return tmp_path


def put(host: Path, model: Trained, version: str, spoiled: Spoiled | None = None) -> Path:
    """A version on the host's disk that is spoilt before it appears."""
    fresh = write_scorecard(host / "fresh", model, manifest_text(model, version=version))
    if spoiled is not None:
        spoiled.spoil(fresh)
    return fresh.rename(host / "models" / "behaviour" / version)


async def refused(worker: Worker, host: Path, model: Trained, spoiled: Spoiled) -> None:
    """The spoilt version is refused by name and reason, and the old one scores on."""
    directory = put(host, model, "2", spoiled)
    assert not await worker.reload(), spoiled.name
    assert f"{directory / spoiled.file}" in worker.problem, spoiled.name
    assert re.search(spoiled.told, worker.problem), f"{spoiled.name}: {worker.problem}"
    decision = drawn(worker, 7, model.rows[7])
    assert decision.scores["behaviour"].version == "1"
    assert decision.scores["behaviour"].points is not None
    shutil.rmtree(directory)


@pytest.mark.fault("G01", "G03", "G04", "G07", "G08", "G10", "G11")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoilt_scorecard_is_refused_and_the_old_one_scores_on(
    host: Path, tmp_path: Path, small_model: Trained, fault: str
) -> None:
    """The message names the file and what is wrong with it; nothing that was smuggled in runs; a good version is taken
    afterwards."""
    trap = tmp_path / "sprung"
    cases: Iterable[Spoiled] = [one for one in spoilers(small_model, trap) if one.fault == fault]
    assert cases

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16)) as worker:
            for spoiled in cases:
                await refused(worker, host, small_model, spoiled)
            put(host, small_model, "3")
            assert await worker.reload()
            assert worker.problem == ""
            assert drawn(worker, 8, small_model.rows[8]).scores["behaviour"].version == "3"

    asyncio.run(test())
    assert not trap.exists()


@pytest.mark.fault("G04")
def test_a_scorecard_of_features_that_the_policy_lacks_is_refused(host: Path, small_model: Trained) -> None:
    """G04: it fits its manifest and not the rules; the manifest and the name are told."""
    (host / "rules" / "attributes.yaml").write_text(
        (host / "rules" / "attributes.yaml").read_text().replace("amt_30d", "amt_31d"), encoding="utf-8"
    )

    async def test() -> None:
        worker = Worker(host, MemoryStore(partitions=16))
        try:
            with pytest.raises(
                PolicyRejected, match=r"behaviour/1/manifest\.yaml.*wants the unknown feature `amt_30d`"
            ):
                await worker.start()
        finally:
            await worker.close()

    asyncio.run(test())


@pytest.mark.fault("G01")
def test_a_version_that_is_still_being_copied_is_taken_when_it_is_whole(host: Path, small_model: Trained) -> None:
    """G01: half a copy is refused, the other half makes it good."""

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16)) as worker:
            whole = write_scorecard(host / "fresh", small_model, manifest_text(small_model, version="2"))
            directory = host / "models" / "behaviour" / "2"
            directory.mkdir()
            assert not await worker.reload()
            assert "manifest.yaml" in worker.problem
            shutil.copy(whole / "manifest.yaml", directory)
            assert not await worker.reload()
            (directory / "model.txt").write_bytes(small_model.text[:5_000])
            assert not await worker.reload()
            assert "SHA-256" in worker.problem
            shutil.copy(whole / "model.txt", directory)
            assert await worker.reload()
            assert (worker.scorecards["behaviour"].version, worker.problem) == ("2", "")

    asyncio.run(test())


def test_a_link_within_the_models_directory_is_followed(host: Path, small_model: Trained) -> None:
    """So Kubernetes mounts its volumes: the files are links to a folder beside them."""
    directory = put(host, small_model, "2")
    store = host / "models" / "behaviour" / "..data"
    store.mkdir()
    for name in ("model.txt", "manifest.yaml"):
        (directory / name).rename(store / name)
        (directory / name).symlink_to(store / name)

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16)) as worker:
            assert worker.scorecards["behaviour"].version == "2"

    asyncio.run(test())
