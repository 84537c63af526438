"""The Python API: a page for each package, with its public modules, written as the site is built."""

from pathlib import Path

PAGES = {
    "networks": (
        "Networks",
        "Networks and the parts that they are made of.",
        (
            "lightning_modules.networks.xception",
            "lightning_modules.networks.separable",
            "lightning_modules.networks.blocks",
            "lightning_modules.networks.head",
            "lightning_modules.networks.separable_vgg",
            "lightning_modules.networks.inception_v3",
            "lightning_modules.networks.inception_modules",
            "lightning_modules.networks.mobilenet",
            "lightning_modules.networks.from_torchvision",
        ),
    ),
    "data": (
        "Data",
        "Data modules: they read, check, split, shuffle and augment.",
        (
            "lightning_modules.data.images",
            "lightning_modules.data.decoding",
            "lightning_modules.data.fashion_mnist",
            "lightning_modules.data.cifar10",
            "lightning_modules.data.fashion_mosaic",
            "lightning_modules.data.imagenet",
            "lightning_modules.data.imagenet_shards",
            "lightning_modules.data.multilabel",
            "lightning_modules.data.checksums",
        ),
    ),
    "training": (
        "Training",
        "How a network is trained, evaluated and measured.",
        (
            "lightning_modules.classifier",
            "lightning_modules.assembly",
            "lightning_modules.tasks",
            "lightning_modules.seeding",
            "lightning_modules.initialization",
            "lightning_modules.schedules",
            "lightning_modules.averaging",
            "lightning_modules.diagnostics",
            "lightning_modules.map_at_k",
            "lightning_modules.weights",
            "lightning_modules.validation",
        ),
    ),
    "runs": (
        "Runs",
        "One run: its configuration and identity, what is checked, and what it leaves.",
        (
            "ablations.runs.configuration",
            "ablations.runs.check",
            "ablations.runs.records",
            "ablations.runs.histories",
            "ablations.runs.environment",
            "ablations.runs.archive",
            "ablations.sizes.network_cost",
            "ablations.sizes.width",
            "ablations.errors",
        ),
    ),
    "studies": (
        "Studies and sweeps",
        "From what a user typed to planned runs, their launch, and what each run counts as.",
        (
            "ablations.studies.study_file",
            "ablations.studies.overrides",
            "ablations.studies.planning",
            "ablations.studies.composition",
            "ablations.studies.planned_run",
            "ablations.studies.factorial",
            "ablations.studies.scale",
            "ablations.studies.standing",
            "ablations.studies.results",
            "ablations.sweeps.plan",
            "ablations.sweeps.sweep",
            "ablations.sweeps.auto_seeds",
            "ablations.sweeps.tuning",
            "ablations.sweeps.trials",
        ),
    ),
    "evidence": (
        "Evidence",
        "What records mean: statistics, contrasts, verdicts, audits, the measured mechanism.",
        (
            "ablations.statistics.paired",
            "ablations.statistics.sequential",
            "ablations.evidence.contrasts",
            "ablations.evidence.claims",
            "ablations.evidence.verdicts",
            "ablations.evidence.benchmark_verdicts",
            "ablations.evidence.interaction",
            "ablations.evidence.audit",
            "ablations.evidence.mechanism",
        ),
    ),
    "outputs": (
        "Tables, figures, report",
        "What people look at, written from records and verdicts.",
        (
            "ablations.reading",
            "ablations.outputs",
            "ablations.tables.study",
            "ablations.tables.tuning",
            "ablations.tables.verdicts",
            "ablations.figures.study",
            "ablations.figures.factorial",
            "ablations.figures.mechanism",
            "ablations.figures.tuning",
            "ablations.report.build",
        ),
    ),
}
"""Per page its title, what it is about, and its modules."""


def write_pages(folder: Path) -> None:
    """Write `folder/PAGE.md` for every page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (title, about, modules) in PAGES.items():
        parts = [f"# {title}\n\n{about}\n"]
        for module in modules:
            parts.append(f"## `{module}`\n\n```{{eval-rst}}\n.. automodule:: {module}\n```\n")
        _write(folder / f"{name}.md", "\n".join(parts))


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:  # unchanged pages are not read anew
        path.write_text(text, encoding="utf-8")
