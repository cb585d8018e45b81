"""Training without the extra `train`: told at once, before anything is computed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from training_files import write_config, write_woe_config


@pytest.mark.parametrize(("library", "write"), [("sklearn", write_config), ("lightgbm", write_config),
                                                ("optbinning", write_woe_config)])  # fmt: skip
def test_without_its_libraries_training_names_the_extra_at_once(
    tmp_path: Path, library: str, write: Callable[[Path], Path]
) -> None:
    """One sentence and exit status 2; no sample is made."""
    code = (
        f"import sys, importlib.util as u; find = u.find_spec\n"
        f"u.find_spec = lambda name, *more: None if name == {library!r} else find(name, *more)\n"
        f"from decision_service.cli import main; sys.exit(main(['train', '--config', {str(write(tmp_path))!r}]))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == f"{library} is not installed: training needs `pip install 'decision-service[train]'`\n"
    assert ended.stdout == ""
