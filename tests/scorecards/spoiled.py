"""Scorecards spoilt in every way of the fault catalogue that is a file: what is done to a good version directory, and
what must be said of it. Every spoiler leaves the checksum fitting what it wrote unless its name ends in `_unsealed`."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from scorecard_maker import NAMES, PLATT, Trained, manifest_text

from decision_service.core.scorecards.scaling import Scaling

CUTS = (0.0005, 0.05, 0.30, 0.60, 0.90, 0.97, 0.99, 0.999, 0.9999)
END = b"\nend of trees\n"
CRASHED = r"trial load (crashed with SIG\w+: the model is damaged|failed)|LightGBM refused it|golden row \d+ scores"


@dataclass(frozen=True, slots=True)
class Spoiled:
    """One way to spoil a version directory, and the pattern of what is said; `file` is the file that is named."""

    name: str
    fault: str
    spoil: Callable[[Path], None]
    told: str
    file: str = "model.txt"


class Trap:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def seal(directory: Path) -> None:
    """Make the checksum in the manifest fit the model as it now is: an attacker, or a careless analyst."""
    path = directory / "manifest.yaml"
    digest = sha256((directory / "model.txt").read_bytes()).hexdigest()
    text, count = re.subn(r"sha256: [0-9a-f]{64}", f"sha256: {digest}", path.read_text(), count=1)
    assert count == 1
    path.write_text(text)


def replaced(directory: Path, content: bytes) -> None:
    """Another model, sealed."""
    (directory / "model.txt").write_bytes(content)
    seal(directory)


def edited(pattern: str, replacement: str, file: str = "manifest.yaml") -> Callable[[Path], None]:
    """Replaces one match in a file, which must be there."""

    def spoil(directory: Path) -> None:
        path = directory / file
        text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
        assert count == 1
        path.write_text(text)
        if file == "model.txt":
            seal(directory)

    return spoil


def cut(share: float, *, sealed: bool, ended: bool) -> Callable[[Path], None]:
    """Cuts the trees off at a share; `ended`: with the end in place, so that nothing but the trial finds it."""

    def spoil(directory: Path) -> None:
        model = directory / "model.txt"
        trees, end, rest = model.read_bytes().partition(END)
        model.write_bytes(trees[: int(len(trees) * share)] + (end + rest if ended else b""))
        if sealed:
            seal(directory)

    return spoil


def with_model(make: Callable[[], bytes]) -> Callable[[Path], None]:
    """Puts other bytes in the model's place."""
    return lambda directory: replaced(directory, make())


def in_place_of_the_model(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Puts something that is no file, or a link, in the model's place."""

    def spoil(directory: Path) -> None:
        (directory / "model.txt").unlink()
        make(directory / "model.txt")

    return spoil


def zipped() -> bytes:
    """A zip archive of a model."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("model.txt", "tree\nversion=v4\n")
    return packed.getvalue()


def fewer_features(directory: Path) -> None:
    """A manifest without the last feature, otherwise fitting."""
    path = directory / "manifest.yaml"
    text = re.sub(r"^  - \{name: amt_30d.*\n", "", path.read_text(), flags=re.MULTILINE)
    path.write_text(re.sub(r"(inputs: \[.*), [^,]*\](, margin)", r"\1]\2", text))


def more_features(directory: Path) -> None:
    """A manifest with one feature more than the model."""
    path = directory / "manifest.yaml"
    line = r"(  - \{name: )amt_30d(.*\n)"
    text = re.sub(line, r"\1amt_30d\2\1amt_90d\2", path.read_text())
    path.write_text(re.sub(r"(inputs: \[.*)\](, margin)", r"\1, 1.0]\2", text))


def swapped(directory: Path) -> None:
    """A manifest with two names in each other's place."""
    path = directory / "manifest.yaml"
    path.write_text(path.read_text().replace("utl_now", "@").replace("amt_30d", "utl_now").replace("@", "amt_30d"))


def constant(directory: Path) -> None:
    """Every leaf 0, and golden rows that say so."""
    model, manifest = directory / "model.txt", directory / "manifest.yaml"
    zeros = str.maketrans("123456789", "000000000")
    model.write_text(
        re.sub(r"^leaf_value=.*$", lambda m: m.group().translate(zeros), model.read_text(), flags=re.MULTILINE)
    )
    seal(directory)
    pd = PLATT.pd(0.0)
    said = f"margin: 0.0, pd: {pd!r}, points: {Scaling().points(pd)}}}"
    manifest.write_text(re.sub(r"margin: .*\}$", said, manifest.read_text(), flags=re.MULTILINE))


def many_trees(model: Trained, times: int) -> Trained:
    """The model's trees `times` over: a sum of scores, and slow; its margins are those of the first rows."""
    head, _, rest = model.text.decode().partition("\nTree=0\n")
    trees = re.split(r"Tree=\d+\n", "Tree=0\n" + rest.partition("end of trees\n")[0])[1:]
    blocks = [f"Tree={i}\n{trees[i % len(trees)]}" for i in range(len(trees) * times)]
    sizes = " ".join(str(len(block)) for block in blocks)
    head = re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", head, flags=re.MULTILINE)
    text = f"{head}\n{''.join(blocks)}end of trees\n" + rest.partition("end of trees\n")[2]
    import lightgbm

    rows = model.rows[:100]
    return Trained(text.encode(), rows, lightgbm.Booster(model_str=text).predict(rows, raw_score=True))


def slow(model: Trained) -> Callable[[Path], None]:
    """5,000 trees with a manifest that fits."""

    def spoil(directory: Path) -> None:
        made = many_trees(model, 5_000 // 30 + 1)
        (directory / "model.txt").write_bytes(made.text)
        version = directory.name
        (directory / "manifest.yaml").write_text(manifest_text(made, version=version))

    return spoil


def spoilers(model: Trained, trap: Path) -> Iterator[Spoiled]:
    """Every way. Should a smuggled payload run, it makes `trap`."""
    for share in CUTS:
        yield Spoiled(f"cut_{share}_unsealed", "G01", cut(share, sealed=False, ended=False), "SHA-256 is")
        told = "ends before its last tree: truncated|is not LightGBM's text format"
        yield Spoiled(f"cut_{share}", "G01", cut(share, sealed=True, ended=False), told)
    for share in CUTS[1:7]:  # what is cut off later no score is made of
        told = f"{CRASHED}|names no features"
        yield Spoiled(f"cut_{share}_ended", "G03", cut(share, sealed=True, ended=True), told)
    digit = edited(r"^leaf_value=(-?0\.0?)\d", r"leaf_value=\g<1>9", "model.txt")
    yield Spoiled("digit", "G02", digit, r"golden row \d+ scores")
    yield Spoiled("swapped_features", "G04", swapped, "feature 0 is utl_now, the manifest says amt_30d: wrong order")
    yield Spoiled("renamed_feature", "G04", edited("name: utl_now", "name: utl_then"), "feature 0 is utl_now, the")
    yield Spoiled("fewer_features", "G04", fewer_features, "has 5 features, the manifest 4")
    yield Spoiled("more_features", "G04", more_features, "has 5 features, the manifest 6")
    yield Spoiled("twice_a_feature", "G04", edited("name: amt_30d", "name: utl_now"), "'utl_now' occurs twice",
                  "manifest.yaml")  # fmt: skip
    yield Spoiled("constant", "G07", constant, "every golden row the same score: it tells nobody apart")
    yield Spoiled("slow", "G08", slow(model), r"takes \d+ us a score; at most 150 us are allowed")
    yield from _smuggled(trap)
    yield from _calibrations()


def _smuggled(trap: Path) -> Iterator[Spoiled]:
    """G10: other formats, and what is no file."""
    text = "is not LightGBM's text format"
    code = f"import os\nos.mkdir({str(trap)!r})\n"
    formats: dict[str, bytes] = {
        "pickle": pickle.dumps(Trap(str(trap))),
        "pickle_as_text": pickle.dumps(Trap(str(trap)), protocol=0),
        "json": json.dumps({"tree": 1, "version": "v4"}).encode(),
        "onnx": b"\x08\x07\x12\x08pytorch\x1a\x031.9:\x0b\n\x05input" + bytes(64),
        "python": code.encode(),
        "shell": b"#!/bin/sh\nmkdir " + str(trap).encode(),
        "zip": zipped(),
        "yaml_tag": f"!!python/object/apply:os.mkdir [{trap}]\n".encode(),
        "nul_within": b"tree\nversion=v4\nend of trees\n\0",
    }
    for name, content in formats.items():
        yield Spoiled(name, "G10", with_model(lambda content=content: content), text)  # type: ignore[misc]
    yield Spoiled("empty", "G10", lambda d: (d / "model.txt").write_bytes(b"") and None, "holds 0 bytes")
    link = in_place_of_the_model(lambda path: path.symlink_to("/etc/passwd"))
    yield Spoiled("link_out", "G10", link, "is a link that leads out of the models directory")
    yield Spoiled("fifo", "G10", in_place_of_the_model(os.mkfifo), "is not a regular file")
    yield Spoiled("directory", "G10", in_place_of_the_model(Path.mkdir), "is not a regular file|cannot be read")
    device = in_place_of_the_model(lambda path: path.symlink_to("/dev/zero"))
    yield Spoiled("device", "G10", device, "is a link that leads out of the models directory")
    yield Spoiled("gone", "G10", lambda d: (d / "model.txt").unlink(), "cannot be read: No such file")
    outside = edited(r"file: model\.txt", "file: ../../../etc/passwd")
    yield Spoiled("path_outside", "G10", outside, "a file name without a folder", "manifest.yaml")
    tagged = edited(r"^training: .*$", f'training: !!python/object/apply:os.mkdir ["{trap}"]')
    yield Spoiled("manifest_tag", "G10", tagged, "tag", "manifest.yaml")


def _calibrations() -> Iterator[Spoiled]:
    """G11: none, another model's, and one that turns the order around."""
    manifest = "manifest.yaml"
    yield Spoiled("no_calibration", "G11", edited(r"^calibration:.*\n", ""), "lacks 'calibration'", manifest)
    yield Spoiled("other_calibration", "G11", edited(r"a: 0\.9", "a: 0.8"), "golden row 0 is calibrated to")
    turned = edited(r"a: 0\.9", "a: -0.9")
    yield Spoiled("turned_calibration", "G11", turned, r"calibration\.a must be greater than 0", manifest)
    odd = edited(r"^calibration:.*$", "calibration: {method: isotonic, margins: [0.0, 1.0], pds: [0.1]}")
    yield Spoiled("odd_isotonic", "G11", odd, "margins does not match pds", manifest)
    nan = edited(r"b: -0\.1", "b: .nan")
    yield Spoiled("nan_calibration", "G11", nan, r"calibration\.b is wrong", manifest)


assert len(NAMES) == 5
