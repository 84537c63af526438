"""The schema of record.json, checked at reading.

A `TypedDict`: a checked record is a plain dictionary. Errors are one line.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, NotRequired, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic requires it before Python 3.12

from ablations.runs.histories import metric_names
from ablations.validation import one_line

SCHEMA_VERSION = 3

COMPLETED = "completed"
DIVERGED = "diverged"
FAILED = "failed"
RUNNING = "running"

EXACT = ConfigDict(extra="forbid", strict=True)
OPEN = ConfigDict(extra="allow", strict=True)


def _moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


def _of_one_task(metrics: dict[str, float]) -> dict[str, float]:
    names = metric_names(metrics)
    if not names or any(f"{part}_{name}" not in metrics for name in names for part in ("val", "test")):
        raise ValueError("must have validation and test values of at least one metric")
    return metrics


Count = Annotated[int, Field(ge=0, lt=2**63)]
Size = Annotated[int, Field(ge=1, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Moment = Annotated[str, AfterValidator(_moment)]
Metrics = Annotated[dict[str, Number], AfterValidator(_of_one_task)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@with_config(EXACT)
class Process(TypedDict):
    host: str
    pid: int


@with_config(EXACT)
class Device(TypedDict):
    type: str
    name: str
    threads: Count
    processes: NotRequired[Size]
    indices: NotRequired[list[Count]]
    peak_memory: NotRequired[Count | None]


@with_config(EXACT)
class Git(TypedDict):
    commit: str
    changes: dict[str, str] | None


@with_config(OPEN)
class Recipe(TypedDict):
    epochs: Size


@with_config(OPEN)
class Dataset(TypedDict):
    num_classes: Size


@with_config(OPEN)
class Processes(TypedDict):
    devices: NotRequired[Size]
    num_nodes: NotRequired[Size]


@with_config(EXACT)
class Machine(TypedDict):
    host: str
    type: str
    name: str
    threads: Count


@with_config(EXACT)
class Timing(TypedDict):
    models: Annotated[list[str], Field(min_length=1)]
    overrides: list[str]
    seconds: Annotated[Number, Field(gt=0)]
    machine: Machine
    torch: str
    # Absent from older records, which timed each turn in a process of its own.
    table: NotRequired[str]
    source: NotRequired[str]
    part: NotRequired[Literal["training", "inference"]]


@with_config(OPEN)
class Config(TypedDict):
    seed: Count
    train: NotRequired[bool]
    results_dir: NotRequired[str]
    recipe: Recipe
    dataset: Dataset
    trainer: NotRequired[Processes]
    logger: NotRequired[dict[str, Any] | None]
    diagnostics: NotRequired[dict[str, Any] | None]
    timing: NotRequired[Timing]


@with_config(EXACT)
class Record(TypedDict):
    checksum: Annotated[
        Sha256,
        Field(
            description="SHA-256 of the file without this line, the second: `sed 2d record.json | sha256sum`"
        ),
    ]
    schema_version: Annotated[
        Literal[3],
        Field(description="raised when a key changes its meaning; `migrate` updates older records"),
    ]
    run_id: Annotated[
        str, Field(description="twelve hexadecimal digits: the identity's hash and the directory's name")
    ]
    status: Annotated[
        Literal["running", "completed", "diverged", "failed"],
        Field(description="running, completed, diverged or failed"),
    ]
    process: Annotated[
        Process, Field(description="{host, pid} that trains or trained the run; a packed record has no host")
    ]
    started: Annotated[
        Moment,
        Field(description="date and time of the (first) start, ISO 8601"),
    ]
    finished: Annotated[
        Moment | None, Field(description="date and time of the end, ISO 8601; null while running")
    ]
    edited: Annotated[
        Moment | None,
        Field(description="when a change by hand was accepted; else null"),
    ]
    choices: Annotated[dict[str, str], Field(description="option per config group")]
    seed: Annotated[Count, Field(description="integer")]
    config: Annotated[Config, Field(description="the resolved configuration, which hashes to run_id")]
    data_fingerprint: Annotated[str, Field(description="hash of the checksums of the data's files")]
    files: Annotated[
        dict[str, Sha256] | None,
        Field(description="SHA-256 of metrics.csv and diagnostics.csv, if they exist; null while running"),
    ]
    metrics: Annotated[
        Metrics | None,
        Field(
            description="{val,test}_loss and {val,test}_METRIC of the final epoch, or of the evaluated "
            "weights, the main metric first; null unless completed, and for a timing"
        ),
    ]
    parameters: Annotated[Size | None, Field(description="trainable parameters")]
    multiply_adds: Annotated[Size | None, Field(description="multiply-adds of one image")]
    depth: Annotated[
        Count | None,
        Field(description="convolutions and linear layers on the longest path from image to logits"),
    ]
    steps: Annotated[Count | None, Field(description="optimizer steps taken")]
    steps_per_second: Annotated[
        Annotated[Number, Field(gt=0)] | None,
        Field(description="training steps over the time spent in them; null before the first epoch"),
    ]
    wall_time_s: Annotated[
        Annotated[Number, Field(ge=0)] | None,
        Field(description="seconds from start to end, without interruptions"),
    ]
    device: Annotated[
        Device | None,
        Field(
            description="{type, name, threads} of a process, and the number of processes; a processor's name "
            "includes family, model and stepping, because generations may share a name; indices of the "
            "devices or cores used; peak_memory, the most bytes of a process"
        ),
    ]
    undecodable_images: Annotated[
        Count | None,
        Field(
            description="training images left out because they could not be decoded, over all processes; of "
            "a stream, those of the last epoch"
        ),
    ]
    versions: Annotated[dict[str, str], Field(description="version per package")]
    git: Annotated[
        Git | None,
        Field(
            description="{commit, changes} of the code; changes: uncommitted changes (diff) by imported "
            "file, null if unknown; git is null outside a checkout"
        ),
    ]
    wandb_run_id: Annotated[str | None, Field(description="null if nothing was logged")]
    diverged_at_step: Annotated[
        Count | None,
        Field(description="optimizer steps before the first non-finite loss; null unless diverged"),
    ]
    error: Annotated[
        Annotated[str, Field(pattern=r"\S")] | None, Field(description="traceback; null unless failed")
    ]


SCHEMA: Mapping[str, str] = {
    key: hint.__metadata__[-1].description
    for key, hint in get_type_hints(Record, include_extras=True).items()
}
"""The keys of record.json, all required, and their meanings."""

_OF_AN_OUTCOME = (
    "finished",
    "files",
    "parameters",
    "multiply_adds",
    "depth",
    "steps",
    "wall_time_s",
    "device",
)
ELSEWHERE = "elsewhere"
"""In the configuration of a run recorded by `ablations.write_run`: size and speed may be unknown."""

_MAY_BE_UNKNOWN = ("parameters", "multiply_adds", "depth", "steps_per_second")

NOT_NULL: Mapping[str, tuple[str, ...]] = {
    COMPLETED: ("metrics", *_OF_AN_OUTCOME),
    DIVERGED: ("diverged_at_step", *_OF_AN_OUTCOME),
    FAILED: ("error", "finished", "files"),
    RUNNING: (),
}
"""Keys that must have a value, by status."""


def kind_of(device: Mapping[str, Any] | None) -> dict[str, Any]:
    """The part of a record's device that can change an outcome."""
    return {key: value for key, value in (device or {}).items() if key not in ("indices", "peak_memory")}


def planned_epochs(config: Mapping[str, Any]) -> int:
    """Rows of a complete metrics.csv: none if weights are evaluated or steps timed."""
    return 0 if config.get("train") is False or "timing" in config else config["recipe"]["epochs"]


def checked(record: object) -> dict[str, Any]:
    """A record with numbers converted as in the schema; its configuration is unchanged.

    Raises:
        ValueError: It does not match the schema: one line with the key, the value and what is allowed.
    """
    try:
        found = _adapter().validate_python(record)
    except ValidationError as error:
        raise ValueError(one_line(error, _adapter())) from error
    status, config = found["status"], found["config"]
    needed = NOT_NULL[status]
    if status == COMPLETED and (planned_epochs(config) or "timing" in config):
        needed = (*needed, "steps_per_second")
    if "timing" in config:
        needed = tuple(key for key in needed if key != "metrics")
    unknown = _MAY_BE_UNKNOWN if config.get(ELSEWHERE) is True else ()
    values: Mapping[str, Any] = {**found}
    for key in needed:
        if values[key] is None and key not in unknown:
            raise ValueError(f"{key}=None: must have a value if status={status}")
    if found["seed"] != config["seed"]:
        raise ValueError(f"seed={found['seed']}: must be that of its configuration, {config['seed']}")
    assert isinstance(record, dict)
    return {**found, "config": record["config"]}


@cache
def _adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)
