"""Make `golden.zip`: the archive that `test_golden_archive.py` replays on every run of the tests.

    make golden        (python tests/archive/make_golden.py)

It holds decisions of three worlds: `every_effect` (each effect, block, scene, grain of features, lists that move,
static answers, trimmed logs), the rules and scorecard shipped with this repository at the time, and a small policy with
a champion, which cannot score some customers, and a challenger.

Make it again only when a decision is meant to come out otherwise than before, after declaring that in the changelog's
"Decision behaviour": the new archive is what the new code decides, and shows nothing about the old one.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
REPOSITORY: Final = HERE.parents[1]
GOLDEN: Final = HERE / "golden.zip"
NULLS: Final = "dpd_max_90d, reason: RC30, monotone: 0, nulls: {}"
BYTES_MAX: Final = 1_000_000  # of the file
for _folder in (HERE, HERE.parent / "service", HERE.parent / "scorecards", HERE.parent):
    sys.path.insert(0, str(_folder))

from every_effect import EVERY_EFFECT  # noqa: E402
from lived import Lives, live  # noqa: E402
from replay_world import PARTITIONS, world  # noqa: E402
from scorecard_maker import manifest_text, train, write_scorecard  # noqa: E402
from test_service_trace import SCORED_FEATURES  # noqa: E402

from decision_service.archive.files import Archive  # noqa: E402

CHALLENGED: Final = {
    "policy.yaml": "label: challenged\nlists: [block, allow]\n"
    "scorecards: {behaviour: {champion: '1', challenger: {version: '2', share: 0.4}}}\n",
    "features/scored.yaml": SCORED_FEATURES,
    "attributes.yaml": EVERY_EFFECT["attributes.yaml"],
    "drawdown.yaml": """
rule_set: drawdown
scene: drawdown
rules:
  - {id: weak, when: 'behaviour.grade in ["D", "E"]', on_null: skip, then: {hold: review}, reason: RC30}
  - {id: unscored, when: behaviour.points < 0, on_null: hold, then: {hold: step_up}, reason: RC30}
  - {id: otherwise, when: request.amount > 0, then: approve}
fallback: {static: {hold: review, reason: RC90}}
""",
    "limit.yaml": EVERY_EFFECT["limit.yaml"],
}


async def make(folder: Path) -> Archive:
    """The archive, in a folder."""
    archive = Archive(folder / "archive")
    for name in ("every", "shipped", "challenged"):
        (folder / name).mkdir(parents=True)
    async with world(folder / "every", EVERY_EFFECT) as there:
        await live(Lives(there, 1, 14), 36)
        await there.archive(archive)
    async with world(folder / "shipped", REPOSITORY / "rules", REPOSITORY / "models") as there:
        lives = Lives(there, 2, 10)
        await lives.begin()
        await lives.settle(await lives.ask(60))
        await lives.be_listed()
        await lives.without_links(10)
        await lives.ask(60)
        await there.archive(archive, first_place=PARTITIONS)
    small = train(10, 4)
    never_null = manifest_text(small).replace(NULLS.format("allowed"), NULLS.format("refused"))  # so some have no score
    write_scorecard(folder / "models", small, never_null)
    write_scorecard(folder / "models", small, manifest_text(small, version="2"))
    async with world(folder / "challenged", CHALLENGED, folder / "models") as there:
        lives = Lives(there, 3, 12, scenes=("drawdown", "limit"))
        await lives.begin()
        await lives.ask(60)
        await there.archive(archive, first_place=2 * PARTITIONS)
    return archive


def main() -> None:
    """Make it and put it in its place."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(make(Path(folder)))
        root = Path(folder) / "archive"
        with zipfile.ZipFile(GOLDEN, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    packed.write(path, path.relative_to(root).as_posix())
    size = GOLDEN.stat().st_size
    print(f"{GOLDEN}: {size:,} bytes")
    assert size < BYTES_MAX, f"at most {BYTES_MAX:,} bytes are committed"


if __name__ == "__main__":
    main()
