"""Every key of conf/, a page for each group: from the comments that stand beside the keys.

A file begins with a comment that says what the option is. A key's comment stands above it or behind it on its
line. Both are read here, so the reference cannot fall behind the files.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

VERBATIM = ("arms", "base", "claims", "defaults", "factors", "figures", "paper", "paper_only", "checksums")
"""Keys that are shown with all below them as they stand in the file."""

NO_PREFIX = ("study", "claims", "hydra/help")
"""Folders whose keys cannot be set on the command line: they are shown as they stand in the file."""

TITLES = {
    "": "A run's own keys",
    "model": "Networks",
    "dataset": "Datasets",
    "dataset_model": "Networks scaled to datasets",
    "recipe": "Recipes",
    "recipe_model": "Recipes of a network",
    "intermediate_activation": "Intermediate activation",
    "intermediate_norm": "Intermediate norm",
    "operation_order": "Order of the two operations",
    "segments": "Segments",
    "spatial_kernel": "Spatial kernel",
    "residual": "Residual connections",
    "fully_connected": "Fully connected layers",
    "trainer": "Trainer",
    "logger": "Logger",
    "diagnostics": "Diagnostics",
    "study": "Studies",
    "claims": "Claims",
    "tuning": "Tuning",
    "hydra/help": "Hydra: help",
    "hydra/output": "Hydra: output",
}
"""Headings; a group without one has its name."""


@dataclass(frozen=True)
class Key:
    """One key of a file.

    Attributes:
        path: As it is set on the command line, "recipe.optimizer.lr".
        value: As it stands in the file, one line; "" where keys follow below it.
        comment: What stands beside it.
        verbatim: The lines of its value, where these are shown as they stand.
    """

    path: str
    value: str
    comment: str
    verbatim: str = ""


@dataclass(frozen=True)
class Option:
    """One file of conf/.

    Attributes:
        group: Folder below conf/, "hydra/output"; "" of conf/config.yaml.
        name: The option's.
        description: The comment at the top.
        keys: In the file's order.
    """

    group: str
    name: str
    description: str
    keys: tuple[Key, ...]


def read_option(file: Path, conf: Path) -> Option:
    """Read a file of conf/ with its comments."""
    group = file.parent.relative_to(conf).as_posix() if file.parent != conf else ""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    head = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            head.append(line)
    package = re.match(r"# @package (\S+)", text)
    prefix = package.group(1) if package else group.replace("/", ".")
    if prefix in ("", "_global_") or group in NO_PREFIX:
        prefix = ""
    node = yaml.compose(text)
    end_of_head = len(head) + (1 if package else 0)
    keys = tuple(_keys(node, lines, text, prefix, end_of_head)) if node is not None else ()
    return Option(group, file.stem, _uncommented(head), keys)


def _keys(node: yaml.Node, lines: Sequence[str], text: str, prefix: str, end_of_head: int) -> Iterator[Key]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        path = f"{prefix}.{key.value}" if prefix else key.value
        comment = _comment(lines, key.start_mark.line, end_of_head, value)
        block = (
            isinstance(value, yaml.MappingNode | yaml.SequenceNode) and not value.flow_style and value.value
        )
        if block and (key.value in VERBATIM or isinstance(value, yaml.SequenceNode)):
            first, last = value.start_mark.line, value.end_mark.line
            shown = lines[first : last + (1 if last == len(lines) - 1 and value.end_mark.column else 0)]
            yield Key(path, "", comment, _dedented(shown))
        elif block and isinstance(value, yaml.MappingNode):
            yield Key(path, "", comment)
            yield from _keys(value, lines, text, path, end_of_head)
        elif isinstance(value, yaml.ScalarNode) and value.style in ("|", ">"):
            yield Key(path, "", comment, value.value.rstrip())
        else:
            shown = text[value.start_mark.index : value.end_mark.index]
            yield Key(path, " ".join(shown.split()), comment)


def _comment(lines: Sequence[str], number: int, end_of_head: int, value: yaml.Node) -> str:
    """What stands above a key, or behind it."""
    above: list[str] = []
    line = number - 1
    while line >= end_of_head and lines[line].lstrip().startswith("#"):
        above.insert(0, lines[line].strip())
        line -= 1
    behind = lines[number]
    if isinstance(value, yaml.ScalarNode) and value.end_mark.line == number:
        behind = behind[value.end_mark.column :]
    elif "#" in behind and value.start_mark.line == number:
        behind = behind[behind.rindex(" #") :] if " #" in behind else ""
    found = re.search(r"(?:^|\s)#\s?(.*)$", behind)
    return " ".join([_uncommented(above), found.group(1) if found else ""]).strip()


def _uncommented(lines: Sequence[str]) -> str:
    return "\n".join(re.sub(r"^# ?", "", line) for line in lines)


def _dedented(lines: Sequence[str]) -> str:
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines = lines[:-1]  # a comment of the next key
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:] for line in lines)


# Pages


def default_options(conf: Path) -> dict[str, str]:
    """The option of each group that conf/config.yaml lists."""
    node = yaml.safe_load((conf / "config.yaml").read_text(encoding="utf-8"))
    found = {}
    for item in node["defaults"]:
        if isinstance(item, dict):
            ((group, option),) = item.items()
            found[group.removeprefix("optional ").removeprefix("override ")] = str(option)
    return found


def pages(conf: Path) -> dict[str, str]:
    """Markdown by the page's name: "index", "run", and each group's, "hydra-output"."""
    options = [read_option(file, conf) for file in sorted(conf.rglob("*.yaml"))]
    defaults = default_options(conf)
    groups = dict.fromkeys([*TITLES, *(option.group for option in options)])
    found = {}
    for group in groups:
        of_group = [option for option in options if option.group == group]
        if of_group:
            found[page_name(group)] = page(group, of_group, defaults.get(group))
    return found


def page_name(group: str) -> str:
    """Of a group's page."""
    return group.replace("/", "-") or "run"


def page(group: str, options: Sequence[Option], default: str | None) -> str:
    """A group's page: every option with its description and keys."""
    title = TITLES.get(group, group)
    if not group:
        introduction = "Keys that belong to the run itself: `conf/config.yaml`, set with `KEY=VALUE`."
    elif group in ("claims",):
        introduction = "Files of `conf/claims`: what `python -m ablations verdicts` judges. No config group."
    elif group == "study":
        introduction = "Files of `conf/study`: with `-m study=NAME` their arms and seeds are run."
    elif group.endswith("_model"):
        introduction = (
            f"Group `{group}`, `conf/{group}`: chosen by the names of the two, where such a file exists."
        )
    else:
        introduction = f"Group `{group}`, `conf/{group}`: chosen with `{group}=OPTION`."
    if default is not None and "${" not in default and default != "None":
        introduction += f" Default: `{default}`."
    parts = [f"# {title}", introduction]
    for option in options:
        if group:
            parts.append(f"## `{option.name}`")
        parts.append(prose(option.description))
        parts += [entry(key) for key in option.keys]
    return "\n\n".join(part for part in parts if part) + "\n"


def prose(text: str) -> str:
    """A comment as Markdown: paragraphs; what is laid out by its spaces stays as it is laid out."""
    found: list[str] = []
    laid_out: list[str] = []
    for line in [*text.split("\n"), ""]:
        if re.match(r"(\s{2,}|[A-Z]\w+ {2,})\S", line):
            laid_out.append(line)
            continue
        if laid_out:
            found += ["", "```text", *laid_out, "```", ""]
            laid_out = []
        found.append(escaped(line))
    return "\n".join(found).strip()


def entry(key: Key) -> str:
    """A key as an entry of a definition list."""
    shown = f" = {code(key.value)}" if key.value else ""
    name = key.path.rpartition(".")[2]
    comment = key.comment
    if not comment and name == "_target_":
        comment = "What is built; its arguments are the keys beside it."
    elif not comment and name == "_partial_":
        comment = "Made ready and called later, by the network or the trainer."
    elif not comment:
        comment = "As the description above says."
    text = "\n  ".join(line for line in prose(comment).split("\n"))
    if key.verbatim:
        text += "\n\n  " + "\n  ".join(["```yaml", *key.verbatim.split("\n"), "```"])
    return f"{code(key.path)}{shown}\n: {text}"


def code(text: str) -> str:
    """A literal in Markdown."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def escaped(text: str) -> str:
    """Text whose characters mean nothing to Markdown but for names in backticks."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return re.sub(r"([\\*_\[\]<>{}$`#|])", r"\\\1", text)
    return "`".join(
        piece if place % 2 else re.sub(r"([\\*_\[\]<>{}$#|])", r"\\\1", piece)
        for place, piece in enumerate(pieces)
    )


def write_pages(conf: Path, folder: Path) -> None:
    """Write `folder/PAGE.md` for every page, and remove those of groups that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    written = pages(conf)
    for old in folder.glob("*.md"):
        if old.stem not in written:
            old.unlink()
    for name, text in written.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
