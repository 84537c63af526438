"""The report on W&B's server: saved once, and from then on the same one is changed."""

import json
from pathlib import Path

import wandb_workspaces.reports.v2 as wr

from ablations.dashboards.place import Place, first_line, quiet_wandb
from ablations.errors import UserError
from ablations.files import write_atomically


def publish(report: wr.Report, place: Place, entity: str, remembered: Path) -> str:
    """Save the report there; what a person changed in it there is replaced.

    Args:
        report: As `ablations.dashboards.report.make_report` gives it.
        place: Whose project.
        entity: Who owns it: the account's own where the configuration names nobody.
        remembered: File that says which report it was the last time.

    Returns:
        Its address.

    Raises:
        UserError: The server did not take it: one line.
        OSError: The results cannot be written.
    """
    import wandb

    report.entity = place.entity or entity
    of = {"server": wandb.setup().settings.base_url, "entity": report.entity, "project": report.project}
    known = _read(remembered)
    report.id = known["id"] if all(known.get(key) == value for key, value in of.items()) else ""
    again = f"; without {remembered} a new report is made" if report.id else ""
    with quiet_wandb():
        try:
            report.save()
            address = str(report.url)
        except Exception as error:  # whatever W&B raises
            raise UserError(f"W&B did not take the report: {first_line(error)}{again}") from error
    write_atomically(remembered, json.dumps(of | {"id": report.id, "address": address}, indent=2) + "\n")
    return address


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("id"), str) else {}
