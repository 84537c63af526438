"""Links of README and CONTRIBUTING to files, which a forge shows; those of docs/ are checked by its build."""

import re

import pytest

from tests.documentation.blocks import PAGES, REPOSITORY

LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")
MADE = "generated/"
"""Pages that the build makes."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(page) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target and MADE not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) < 150
