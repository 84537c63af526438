"""A copy of the configuration with a few of its studies: all of them take long to plan."""

import os
import shutil
from pathlib import Path

import yaml

from experiments.project import FRAMEWORK_CONF

STUDIES = ("residual", "intermediate_activation", "inception_comparison")
"""Those that the documentation names."""


def copy_few_studies(folder: Path) -> None:
    """Copy conf/ with these studies, and with no claims about others but the benchmark.

    Args:
        folder: Gets `conf`.
    """
    conf = folder / "conf"
    shutil.copytree(FRAMEWORK_CONF, conf)
    for file in (conf / "study").glob("*.yaml"):
        if file.stem not in STUDIES:
            file.unlink()
    for file in (conf / "claims").glob("*.yaml"):
        claims = yaml.safe_load(file.read_text(encoding="utf-8"))["claims"]
        kept = [claim for claim in claims if claim.get("study") in (*STUDIES, "benchmark")]
        file.write_text(yaml.dump({"claims": kept}), encoding="utf-8")
        os.utime(file, (0, 0))  # equal in every copy, so that tests.composing knows it
        if not kept:
            file.unlink()
