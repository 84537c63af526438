"""Validation of what users wrote, with pydantic's errors in one line."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ablations.errors import UserError, did_you_mean

Written = TypeVar("Written")

WRITTEN = ConfigDict(extra="forbid", use_attribute_docstrings=True)
"""For what a user writes: unknown keys are errors, and the text below a key is its description."""

UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
NOT_KEYS = ("dict_type", "model_type", "dataclass_type", "model_attributes_type")
QUOTED = ("int_type", "float_type")  # a text that looks like a number
LONGEST_VALUE = 60


def validated(
    schema: TypeAdapter[Written],
    given: object,
    file: str = "",
    *within: str,
    context: Mapping[str, Any] | None = None,
) -> Written:
    """Validate what a user wrote; `file` and the keys above the content, `within`, are for the message.

    Raises:
        UserError: It does not match the schema.
    """
    try:
        return schema.validate_python(given, context=context)
    except ValidationError as error:
        raise UserError(": ".join(filter(None, [file, one_line(error, schema, *within)]))) from error


def one_line(error: ValidationError, schema: TypeAdapter[Any], *within: str) -> str:
    """The first error in one line: key, value and what is allowed. An unknown key explains a missing one, so
    it comes first.
    """
    found = error.errors(include_url=False)
    first = next((one for one in found if one["type"] in UNKNOWN), found[0])
    path = tuple(part for part in first["loc"] if part != "[key]")
    key, kind = ".".join(map(str, (*within, *path))), first["type"]
    if kind in UNKNOWN:
        known = list(_entry(schema, path[:-1]).get("properties", {}))
        return f"unknown key {key}" + (did_you_mean(str(path[-1]), known) or f"; known: {', '.join(known)}")
    if kind == "missing":
        text = f"missing; {_entry(schema, path, follow=False).get('description', '')}"
    elif kind == "value_error":
        text = str(first["ctx"]["error"])
    elif kind == "bool_type":
        text = "must be true or false"
    elif kind in NOT_KEYS:
        text = f"must be keys with values: {', '.join(_entry(schema, path).get('properties', {'...': 0}))}"
    else:
        text = "must " + first["msg"].partition("should ")[2] if "should " in first["msg"] else first["msg"]
    if kind == "string_type" and isinstance(first["input"], bool | int | float):
        words = "on, off, yes, no, true and false" if isinstance(first["input"], bool) else "a number"
        text += f"; in YAML put {words} in quotes"
    is_value = path == first["loc"] and not isinstance(first["input"], Mapping)
    if key and kind != "missing" and is_value:
        value = (repr if kind in QUOTED else str)(first["input"])
        key += "=" + (value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}...")
    return " ".join((f"{key}: {text}" if key else text).split()).removesuffix(";")


def imported(path: str) -> Any:
    """What a user's `module.NAME` names.

    Raises:
        ValueError: There is none, or the module cannot be imported.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise ValueError(f"{error}; write module.NAME, with module.py next to run.py") from error


@cache
def json_schema(schema: TypeAdapter[Any]) -> dict[str, Any]:
    """The JSON schema of a file, for editors and the reference."""
    return schema.json_schema()


def _entry(schema: TypeAdapter[Any], path: tuple[int | str, ...], *, follow: bool = True) -> dict[str, Any]:
    """A key's entry in the JSON schema; empty if there is none."""
    root = json_schema(schema)

    def referred(entry: dict[str, Any]) -> dict[str, Any]:
        while True:
            if "$ref" in entry:
                entry = root["$defs"][entry["$ref"].rpartition("/")[2]]
            elif "anyOf" in entry:
                entry = entry["anyOf"][0]
            else:
                return entry

    entry = root
    for part in path:
        entry = referred(entry)
        below = entry.get("items") if isinstance(part, int) else entry.get("properties", {}).get(part)
        below = entry.get("additionalProperties") if below is None else below
        entry = below if isinstance(below, dict) else {}
    return referred(entry) if follow else entry
