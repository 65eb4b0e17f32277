"""Reading, checking and merging of YAML files, with errors that one sentence can say.

YAML has traps that a benchmark cannot afford: a key given twice silently keeps the last value, and `1e-4`
is text while `1.0e-4` is a number. Both are errors here.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from core.errors import UserError, known

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER_AS_TEXT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class _StrictLoader(_Loader):
    """Safe YAML in which a repeated key is an error."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> Any:
    """Read one YAML document; raises UserError with the file and the line."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: {getattr(error, 'problem', None) or error}") from error
    _reject_numbers_as_text(value, path, ())
    return value


def _reject_numbers_as_text(value: Any, path: Path, trail: tuple[str, ...]) -> None:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        _reject_numbers_as_text(child, path, (*trail, str(key)))
    if isinstance(value, str) and _NUMBER_AS_TEXT.fullmatch(value):
        mantissa, exponent = re.split("[eE]", value)
        mantissa += "" if "." in mantissa else ".0"
        exponent = exponent if exponent[0] in "+-" else f"+{exponent}"
        raise UserError(f"{path}: {'.'.join(trail)} is text to YAML; write {mantissa}e{exponent}")


@functools.cache
def _validator(schema: Path) -> Any:
    from jsonschema import Draft202012Validator  # takes a tenth of a second: only when something is validated

    return Draft202012Validator(read_yaml(schema))


def validate(value: Any, schema: Path, name: str) -> None:
    """Check `value` (read from the file called `name`) against a JSON Schema; raises a one-sentence UserError."""
    errors = sorted(_validator(schema).iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        raise UserError(f"{name}: {_sentence(errors[0])}")


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        names = list(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in names)
        return f"{where + ': ' if where else ''}{known('key', unknown, names)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{where or 'the file'} lacks the key {missing!r}"
    return f"{where}: {error.message}" if where else error.message


def merged(base: Mapping[str, Any], difference: Mapping[str, Any], name: str, trail: str = "") -> dict[str, Any]:
    """`base` with a checked `difference` laid over it, mapping by mapping; both are left as they are.

    What is not replaced is shared with `base`, not copied (a workflow merges thousands of times): change neither.
    A difference may only name keys that the base has and keep their kind (mapping, text, number, truth
    value, list); null stands for any kind, and an empty mapping in the base takes any keys.
    """
    result = dict(base)
    for key, value in difference.items():
        path = f"{trail}{key}"
        if key not in base and (base or not trail):
            error = known("param", path, (f"{trail}{known_key}" for known_key in base))
            raise UserError(f"{name}: {error}")
        old = base.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merged(old, value, name, f"{path}.")
            continue
        if key in base and None not in (old, value) and _kind(old) != _kind(value):
            raise UserError(f"{name}: {path} is a {_kind(old)} in the base params, so {value!r} cannot replace it")
        result[key] = value
    return result


def _kind(value: Any) -> str:
    kinds = ((bool, "truth value"), ((int, float), "number"), (str, "text"), (Mapping, "mapping"), (list, "list"))
    return next((name for types, name in kinds if isinstance(value, types)), type(value).__name__)


def laid_over(base: Mapping[str, Any], difference: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `difference` laid over it, mapping by mapping, unchecked; the result is a copy of both."""
    result = copy.deepcopy(dict(base))
    for key, value in difference.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = laid_over(old, value) if both else copy.deepcopy(value)
    return result
