"""What every section of the configuration shares: the base model, and the list of all its keys.

The base model reports everything at once; the list of keys feeds both the reference in the documentation and the
overrides from the environment, so that neither can drift. No rule about any particular key belongs here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails

from proxy.mistakes import Place, Wrong, describe_value, nearest

NAME: Final = "<name>"
"""The step of a path that stands for any name of a mapping."""
ITEM: Final = "[]"
"""The step that stands for any item of a list."""

Conflict = tuple[Place, object, Wrong]
"""Where, what stands there, and which rule it breaks."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What the values of a type look like, in words, for the configuration reference; `show` writes a default."""

    words: str
    show: Callable[[Any], str] = str
    scalar: bool = True


class Section(BaseModel):
    """A mapping of the configuration: unknown keys are mistakes, values are frozen, no mistake hides another."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def conflicts(cls, _raw: Mapping[str, object]) -> Iterator[Conflict]:
        """Yield what keys say against each other; sees the section as written, so that it also works on a bad one."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _report_everything(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        found = [_line(*conflict) for conflict in cls.conflicts(data)] if isinstance(data, Mapping) else []
        try:
            section = handler(data)
        except ValidationError as error:
            lines = [cls._explain(line) for line in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(cls.__name__, lines + found) from None
        if found:
            raise ValidationError.from_exception_data(cls.__name__, found)
        return section

    @classmethod
    def _explain(cls, line: Any) -> InitErrorDetails:  # noqa: ANN401 - pydantic's own dictionary
        path: Place = line["loc"]
        if len(path) == 1:
            fields = {info.alias or name: info for name, info in cls.model_fields.items()}
            if line["type"] == "extra_forbidden":
                return _line(path, None, Wrong(nearest(str(path[0]), fields), "is not a known key"))
            if line["type"] == "missing":
                return _line(path, None, Wrong(f"must be given: {fields[str(path[0])].description}", "is missing"))
        return InitErrorDetails(type=line["type"], loc=path, input=line["input"], ctx=line.get("ctx", {}))


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the configuration, as the reference lists it; in `path`, NAME is any name and ITEM any item."""

    path: tuple[str, ...]
    type: str
    default: str
    what: str
    scalar: bool

    @property
    def name(self) -> str:
        """The path as people write it."""
        return ".".join(self.path).replace(".[]", "[]")


def settings_of(section: type[Section], above: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Yield every key below `section`, in the order of the models: the one source of the reference and of overrides."""
    for name, info in section.model_fields.items():
        steps, annotation, kind = _unwrap(info.annotation, info.metadata)
        path = (*above, info.alias or name, *steps)
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from settings_of(annotation, path)
        else:
            kind = kind or _plain_kind(annotation)
            yield Setting(path, kind.words, _default(info, kind), info.description or "", kind.scalar)


def _unwrap(annotation: object, marks: Sequence[object]) -> tuple[tuple[str, ...], object, Kind | None]:
    """Find what a field holds inside `| None`, mappings and lists of sections, and the steps down to there."""
    kind = next((mark for mark in marks if isinstance(mark, Kind)), None)
    origin = get_origin(annotation)
    inner = [argument for argument in get_args(annotation) if argument not in (NoneType, Ellipsis)]
    if kind is None and origin in (Union, UnionType):
        return _unwrap(inner[0], getattr(inner[0], "__metadata__", ()))
    if kind is None and origin is Mapping:
        steps, annotation, kind = _unwrap(inner[1], getattr(inner[1], "__metadata__", ()))
        return (NAME, *steps), annotation, kind
    if kind is None and origin is tuple and isinstance(inner[0], type) and issubclass(inner[0], Section):
        return (ITEM,), inner[0], None
    return (), annotation, kind


def _plain_kind(annotation: object) -> Kind:
    if annotation is bool:
        return Kind("true or false", describe_value)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return Kind(" | ".join(str(member.value) for member in annotation))
    if get_origin(annotation) is tuple:
        return Kind("list of text", lambda items: f"[{', '.join(items)}]", scalar=False)
    return Kind("text")


def _default(info: FieldInfo, kind: Kind) -> str:
    if info.is_required():
        return "required"
    if info.default_factory is not None:
        return "depends"
    return "none" if info.default is None or info.default == {} else kind.show(info.default)


def _line(path: Place, value: object, wrong: Wrong) -> InitErrorDetails:
    return InitErrorDetails(type="value_error", loc=path, input=value, ctx={"error": wrong})
