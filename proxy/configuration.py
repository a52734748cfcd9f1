"""Reading the configuration: both files, `${NAME}` in their values, and overrides from the environment.

`load` returns everything or raises everything that is wrong; nothing is half taken. What a key may hold is said by the
models of `settings.py` and `catalog.py`, never here. The environment comes in as an argument.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from proxy.catalog import Catalog, CatalogFile
from proxy.mistakes import ConfigurationError, Mistake, Place, mistakes_in, near, quoted, write_place
from proxy.sections import ITEM, NAME, Section, Setting, settings_of
from proxy.settings import Settings
from proxy.yaml_file import read_mapping

PREFIX: Final = "AION_PROXY_"
# Variables with the prefix that are no overrides: other parts of the program read them.
RESERVED: Final = ("AION_PROXY_ADMIN_TOKEN", "AION_PROXY_API_KEY", "AION_PROXY_CONFIG", "AION_PROXY_VENV")
# What a container platform puts into the environment for a service that is called aion-proxy.
_SERVICE_LINK: Final = re.compile(r"(SERVICE_(HOST|PORT(_.*)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
_ENVIRONMENT: Final = "environment"
_FOR_TRACING: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_VARIABLE: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")

_Target = tuple[tuple[str, ...], Setting]
"""The keys down to a value that a variable may set, and what is known about it."""
_Model = TypeVar("_Model", bound=Section)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything the gateway was told, and the two files it was told in."""

    settings: Settings
    catalog: Catalog
    files: tuple[Path, Path]


def load(path: Path, env: Mapping[str, str]) -> Configuration:
    """Read the gateway's file at `path` and the catalog it names; ConfigurationError with all mistakes of both."""
    gateway = _Document.read(path, "must be given with --config, or copied from the project's config/gateway.yaml")
    gateway.override(env)
    gateway.substitute(env)
    settings = gateway.validate(Settings)
    catalog_name = gateway.tree.get("catalog", str(Settings.model_fields["catalog"].default))
    if not gateway.readable or not isinstance(catalog_name, str) or not catalog_name:
        raise ConfigurationError(tuple(gateway.mistakes))
    catalog_path = path.parent / catalog_name
    catalog = _Document.read(catalog_path, f"must be a file: `catalog` in {path} names it, relative to that file")
    catalog.substitute(env)
    providers = gateway.tree.get("providers")
    models = catalog.validate(CatalogFile, {"providers": providers if isinstance(providers, dict) else None})
    mistakes = (*gateway.mistakes, *catalog.mistakes, *_not_installed(settings, gateway.name))
    if settings is None or models is None or mistakes:
        raise ConfigurationError(mistakes)
    return Configuration(settings, models.catalog(), (path, catalog_path))


def _not_installed(settings: Settings | None, file: str) -> Iterator[Mistake]:
    """Yield what the configuration needs and this environment does not have."""
    if settings is not None and settings.tracing.enabled and not all(map(_can_import, _FOR_TRACING)):
        problem = "is true, and OpenTelemetry's packages are not installed"
        remedy = (
            "install them with `pip install --requirement requirements-otel.txt` (or aion-proxy[otel]), or set false"
        )
        yield Mistake(file, "tracing.enabled", problem, remedy)


def _can_import(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def describe(section: type[Section] = Settings) -> list[tuple[str, str, str, str]]:
    """Return (path, type, default, what it is for) of every key of a file: of `Settings`, or of `CatalogFile`."""
    return [(setting.name, setting.type, setting.default, setting.what) for setting in settings_of(section)]


@dataclass(slots=True)
class _Document:
    """One file on its way from text to a model, with what has been wrong so far."""

    name: str
    readable: bool
    tree: dict[str, Any]
    mistakes: list[Mistake]
    _variables: dict[Place, str] = field(default_factory=dict)
    """Which variable set the value at a place."""
    _shown: dict[Place, str] = field(default_factory=dict)
    """What to print for a value that was put together from the environment: the text with `${NAME}` in it."""
    _blamed: set[Place] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path, if_absent: str) -> "_Document":
        """Read the file; a document that could not be read is empty and has the mistake that says why."""
        tree, mistakes = read_mapping(path, if_absent)
        return cls(str(path), tree is not None, tree or {}, mistakes)

    def override(self, env: Mapping[str, str]) -> None:
        """Set every scalar for which there is a variable; a variable that names none is a mistake."""
        if not self.readable:  # the names of its providers and plans are not known
            return
        known = _variables(self.tree)
        for variable in sorted(filter(_is_ours, env)):
            name = variable.upper().removeprefix(PREFIX)
            problem, allowed = _not_an_override(name, known)
            if problem:
                self.mistakes.append(Mistake(_ENVIRONMENT, variable, problem, allowed))
                continue
            [(place, _)] = known[name]
            self.tree = _with(self.tree, place, env[variable])
            self._variables[place] = variable

    def substitute(self, env: Mapping[str, str]) -> None:
        """Replace `${NAME}` in every text by the variable's value, and `$${` by `${`; drops keys that are no text."""
        self.tree = {key: self._substituted(value, (key,), env) for key, value in _text_keys(self.tree)}

    def validate(self, model: type[_Model], context: dict[str, Any] | None = None) -> _Model | None:
        """Return the document as `model`; None, with the mistakes added, if it is not one."""
        if not self.readable:
            return None
        try:
            return model.model_validate(self.tree, context=context)
        except ValidationError as error:
            self.mistakes += (
                self._origin(*found)
                for found in mistakes_in(error, self.name, self._shown)
                if found[0] not in self._blamed
            )
        return None

    def _origin(self, place: Place, mistake: Mistake) -> Mistake:
        variable = self._variables.get(place)
        return mistake if variable is None else Mistake(_ENVIRONMENT, variable, mistake.problem, mistake.allowed)

    def _substituted(self, value: object, place: Place, env: Mapping[str, str]) -> object:
        if isinstance(value, dict):
            return {key: self._substituted(inner, (*place, key), env) for key, inner in _text_keys(value)}
        if isinstance(value, list):
            return [self._substituted(inner, (*place, number), env) for number, inner in enumerate(value)]
        if not isinstance(value, str) or "${" not in value or place in self._variables:
            return value
        self._shown[place] = quoted(value)
        return _VARIABLE.sub(lambda match: self._looked_up(match, place, env), value)

    def _looked_up(self, match: re.Match[str], place: Place, env: Mapping[str, str]) -> str:
        if match[0] == "$${":
            return "${"
        if match[1] in env:
            return env[match[1]]
        if match[1] is not None and (file := env.get(f"{match[1]}_FILE")):
            try:
                return Path(file).read_text(encoding="utf-8").removesuffix("\n")
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is no text"
                problem = f"needs the file that {match[1]}_FILE names, which cannot be read: {why}"
                allowed = "must be a file that this user may read, or set the variable itself"
        elif match[1] is None:
            problem, allowed = "has a ${ without a variable's name", "must be ${NAME}, or $${ for a ${ as such"
        else:
            problem, allowed = f"needs the variable {match[1]}, which is not set", "must be set in the environment"
        self.mistakes.append(Mistake(self.name, write_place(place), problem, allowed))
        self._blamed.add(place)
        return match[0]


def _is_ours(variable: str) -> bool:
    upper = variable.upper()
    return upper.startswith(PREFIX) and upper not in RESERVED and not _SERVICE_LINK.fullmatch(upper, len(PREFIX))


def _text_keys(mapping: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in mapping.items() if isinstance(key, str))


def _variables(tree: Mapping[str, Any]) -> dict[str, list[_Target]]:
    """Return what each variable (without the prefix) sets, for every key there could be and every name in `tree`; what
    stands in a list has none.
    """
    known: dict[str, list[_Target]] = {}
    for setting in (setting for setting in settings_of(Settings) if ITEM not in setting.path):
        for place in _places(setting.path, tree):
            known.setdefault("__".join(place).upper().replace("-", "_"), []).append((place, setting))
    return known


def _places(path: tuple[str, ...], tree: object) -> Iterator[tuple[str, ...]]:
    if not path:
        yield ()
        return
    here = dict(_text_keys(tree)) if isinstance(tree, dict) else {}
    for name in here if path[0] == NAME else path[:1]:
        for rest in _places(path[1:], here.get(name)):
            yield (name, *rest)


def _not_an_override(name: str, known: Mapping[str, list[_Target]]) -> tuple[str, str]:
    """Return why the variable of this name sets nothing and what to do about it; empty texts if it does."""
    found = known.get(name, [])
    if not found:
        close = near(name, known)
        remedy = (
            "unset it, or name a key with __ between its levels"
            if close is None
            else f"did you mean `{PREFIX}{close}`?"
        )
        return "sets nothing", remedy
    if len(found) > 1:
        return f"could set {' or '.join(write_place(place) for place, _ in found)}", "must be set in the file"
    if not found[0][1].scalar:
        return f"stands for {found[0][1].type}, which no variable can hold", "must be set in the file"
    return "", ""


def _with(tree: dict[str, Any], place: tuple[str, ...], value: str) -> dict[str, Any]:
    """Return the tree with `value` at `place`; unchanged where something that is no mapping stands in the way."""
    name, rest = place[0], place[1:]
    inner = tree.get(name)
    if not rest:
        return {**tree, name: value}
    if inner is not None and not isinstance(inner, dict):
        return tree
    return {**tree, name: _with(inner or {}, rest, value)}
