"""List objects like the server: filter, sort and page in the database."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_plus

from sandbox.api.errors import INVALID, ApiError, error_prefix, invalid, unreadable
from sandbox.api.requests import snake_case
from sandbox.store import Row, Store

_OPERATIONS = {
    "EQUALS": "=",
    "NOT_EQUALS": "!=",
    "GREATER_THAN": ">",
    "GREATER_THAN_EQUALS": ">=",
    "LESS_THAN": "<",
    "LESS_THAN_EQUALS": "<=",
    "IN": "IN",
    "IS_SUBSTRING": "LIKE",
}
# Clients send the enum's numbers as well.
_NUMBERS = dict(zip((1, 2, 3, 5, 6, 7, 8, 9), _OPERATIONS, strict=True))
_VALUES = (
    "int_value",
    "long_value",
    "string_value",
    "timestamp_value",
    "int_values",
    "long_values",
    "string_values",
)
_NAMES = ("name", "display_name")
# Types that the database can compare with a column.
_Plain = str | int | float | None


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of object.

    Attributes:
        model: The server's name of it.
        columns: Columns to filter and sort by, by the API's names.
        complaint: Prefix of the server's errors for invalid list requests.
    """

    model: str
    columns: Mapping[str, str]
    complaint: str = "Failed to create list options: "


_COMMON = {name: name for name in ("id", "name", "created_at", "description")}
_OPTIONS = "pageToken: {token}, pageSize: {size}, sortBy: {sort}, filter: {filter}: "

# By table.
KINDS = {
    "pipelines": Kind(
        "Pipeline",
        {
            **_COMMON,
            "pipeline_id": "id",
            "display_name": "display_name",
            "namespace": "namespace",
        },
        f"Failed to list pipelines due invalid list options: {_OPTIONS}",
    ),
    "versions": Kind(
        "PipelineVersion",
        {**_COMMON, "pipeline_version_id": "id", "display_name": "display_name"},
        f"Failed to list pipeline versions due invalid list options: {_OPTIONS}",
    ),
    "experiments": Kind(
        "Experiment",
        {
            **_COMMON,
            "experiment_id": "id",
            "display_name": "name",
            "namespace": "namespace",
            "storage_state": "storage_state",
            "last_run_created_at": "last_run_created_at",
        },
    ),
    "runs": Kind(
        "Run",
        {
            **_COMMON,
            "run_id": "id",
            "display_name": "name",
            "namespace": "namespace",
            "finished_at": "finished_at",
            "scheduled_at": "scheduled_at",
            "storage_state": "storage_state",
            "status": "state",
            "state": "state",
            "experiment_id": "experiment_id",
            "recurring_run_id": "recurring_run_id",
        },
    ),
    "recurring_runs": Kind(
        "Job",
        {
            **_COMMON,
            "recurring_run_id": "id",
            "display_name": "name",
            "namespace": "namespace",
            "updated_at": "updated_at",
            "experiment_id": "experiment_id",
            "pipeline_id": "pipeline_id",
        },
    ),
}


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of rows, the total number of rows, and the token of the next page."""

    rows: list[Row]
    total_size: int
    next_page_token: str

    def json(self, name: str, show: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
        """Return the response, without empty fields."""
        body = {
            name: [show(row) for row in self.rows],
            "total_size": self.total_size,
            "next_page_token": self.next_page_token,
        }
        return {key: value for key, value in body.items() if value}


def page(store: Store, table: str, query: Mapping[str, str], where: Mapping[str, str]) -> Page:
    """Return a page of a kind of objects.

    Raises:
        ApiError: The server would reject the token, size, sort order or filter.
    """
    kind = KINDS[table]
    page_size = query.get("page_size", "0")
    try:
        size = int(page_size)
    except ValueError:
        raise unreadable(
            f'parsing field "page_size": strconv.ParseInt: parsing "{page_size}": invalid syntax'
        ) from None
    token, sort, filters = (query.get(k, "") for k in ("page_token", "sort_by", "filter"))
    with error_prefix(kind.complaint.format(token=token, size=size, sort=sort, filter=filters)):
        if size < 0:
            # Go turns the number into a character here, and this one is none.
            raise invalid("The page size should be greater than 0. Got '\ufffd'")
        if token:
            state = _read_token(kind, token)
            if sort and (state["column"], state["descending"]) != _sorting(kind, sort):
                raise invalid(
                    "page token does not match the supplied sort by and/or filtering criteria. "
                    "Either specify the same criteria or leave the latter empty if page token is "
                    "specified"
                )
            column, descending, filters = state["column"], state["descending"], state["filter"]
        else:
            state = None
            column, descending = _sorting(kind, sort)
        clauses, values = _filter(kind, filters)
    for name, value in where.items():
        clauses.append(f"{name} = ?")
        values.append(value)
    total = store.count(table, " AND ".join(clauses) or "1", values)
    direction, compare = ("DESC", "<=") if descending else ("ASC", ">=")
    if state:
        clauses.append(f"({column}, id) {compare} (?, ?)")
        values += [state["value"], state["id"]]
    size = size or 20
    rows = store.select(
        table,
        " AND ".join(clauses) or "1",
        values,
        order=f"{column} {direction}, id {direction}",
        limit=size + 1,
    )
    following = ""
    if len(rows) > size:
        following = _write_token(column, descending, filters, rows[size])
    return Page(rows[:size], total, following)


def _sorting(kind: Kind, sort: str) -> tuple[str, bool]:
    parts = sort.split()
    if len(parts) > 2 or (len(parts) == 2 and parts[1] not in ("asc", "desc")):
        raise invalid(
            f'Received invalid sort by format "{sort}". Supported format: "field_name", '
            '"field_name desc", or "field_name asc"'
        )
    field = parts[0] if parts else "created_at"
    if field not in kind.columns:
        raise invalid(f'Invalid sorting field: "{field}" on listable type {kind.model}')
    return kind.columns[field], parts[1:] == ["desc"]


def _filter(kind: Kind, text: str) -> tuple[list[str], list[object]]:
    if not text:
        return [], []
    decoded = _unescaped(text)
    try:
        predicates = json.loads(decoded)["predicates"]
    except (ValueError, KeyError, TypeError):
        predicates = None
    if not isinstance(predicates, list) or not all(isinstance(item, dict) for item in predicates):
        raise _filter_error(text)
    clauses: list[str] = []
    values: list[object] = []
    for predicate in predicates:
        clause, used = _predicate(kind, predicate, decoded)
        clauses.append(clause)
        values += used
    return clauses, values


def _unescaped(text: str) -> str:
    """Unescape a filter a second time, after its query, like the server.

    Raises:
        ApiError: 400, a `%` is not followed by two hexadecimal digits.
    """
    wrong = re.search(r"%(?![0-9A-Fa-f]{2})", text)
    if wrong:
        escape = text[wrong.start() : wrong.start() + 3]
        raise invalid(
            f"failed to parse valid filter from {json.dumps(text)}: "
            f"invalid URL escape {json.dumps(escape)}"
        )
    return unquote_plus(text)


def _filter_error(text: str) -> ApiError:
    token = next(iter(text.split()), "")
    return invalid(
        f'failed to parse valid filter from "{text}": proto: syntax error (line 1:1): '
        f"invalid value {token}"
    )


def _predicate(kind: Kind, predicate: dict[str, Any], text: str) -> tuple[str, list[object]]:
    predicate = snake_case(predicate)
    operation = predicate.get("operation", "")
    operation = _NUMBERS.get(operation, operation)
    if operation not in _OPERATIONS:
        position = text.find(f'"{operation}"') + 1
        quoted = json.dumps(text)[1:-1]
        raise invalid(
            f'failed to parse valid filter from "{quoted}": proto: (line 1:{position}): '
            f'invalid value for enum field operation: "{operation}"'
        )
    key = predicate.get("key", "")
    value_fields = [name for name in _VALUES if name in predicate]
    if not value_fields:
        raise ApiError(
            400,
            INVALID,
            "UnknownApiVersionError: Error using Filter.Predicate.Value with <nil>",
            "Error using Filter.Predicate.Value with <nil>",
        )
    if key not in kind.columns:
        raise invalid(f'no support for filtering on unrecognized field "{key}"')
    column, value = kind.columns[key], predicate[value_fields[0]]
    several = value.get("values") if isinstance(value, dict) else [value]
    if not isinstance(several, list) or not all(isinstance(item, _Plain) for item in several):
        raise _filter_error(text)
    if key == "status":
        value = str(value).upper()
    if column in _NAMES:
        # Compare names like the server's database.
        column += " COLLATE NOCASE"
    if operation == "IN":
        return f"{column} IN ({', '.join('?' * len(several))})", several
    if operation == "IS_SUBSTRING":
        if value_fields[0] != "string_value":
            raise invalid("cannot use non string value type string with operator 3")
        return f"{column} LIKE ? ESCAPE '\\'", [f"%{value}%"]
    return f"{column} {_OPERATIONS[operation]} ?", [value]


def _write_token(column: str, descending: bool, filters: str, row: Row) -> str:
    state = {
        "column": column,
        "descending": descending,
        "filter": filters,
        "value": row[column],
        "id": row["id"],
    }
    return base64.b64encode(json.dumps(state).encode()).decode()


def _read_token(kind: Kind, token: str) -> dict[str, Any]:
    decoded = b""
    try:
        decoded = base64.b64decode(token)
        state = json.loads(decoded)
        # The column is inserted into the query unquoted.
        if (
            state.keys() == {"column", "descending", "filter", "value", "id"}
            and state["column"] in kind.columns.values()
            and isinstance(state["filter"], str)
            and all(isinstance(state[name], _Plain) for name in ("value", "id"))
        ):
            return state
    except (ValueError, AttributeError):
        # Ignore a last character that does not complete a byte.
        trimmed = token[: len(token) - (len(token) % 4 == 1)]
        with suppress(ValueError):
            decoded = base64.b64decode(trimmed + "=" * (-len(trimmed) % 4))
    first = chr(decoded[0]) if decoded else "?"
    character = first if first.isprintable() else f"\\u{ord(first):04x}"
    raise ApiError(
        400,
        INVALID,
        f"InvalidInputError: Invalid package token: invalid character '{character}' "
        "looking for beginning of value",
        "Invalid package token",
    )
