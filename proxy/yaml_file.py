"""Reading one YAML file into plain mappings, lists and scalars, with every trap of the format as a mistake in its line.

Keys given twice, keys that are no text, tags, anchors that contain or multiply themselves: what a plain loader takes or
crashes on is refused here. What the keys mean is not known in this file. Dates stay text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from proxy.mistakes import Mistake, quoted

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # built without libyaml: slower, otherwise the same
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

_TAG: Final = "tag:yaml.org,2002:"
_PLAIN_TAGS: Final = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge"))
_DEEPEST: Final = 32
# A catalog of a thousand models has some 40,000 values; aliases of aliases can mean billions.
_MOST_VALUES: Final = 200_000


class _Loader(_SafeLoader):
    """The safe loader without dates, which would turn a text that looks like one into something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class declares it so
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
        for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
    }


def read_mapping(path: Path, if_absent: str) -> tuple[dict[str, Any] | None, list[Mistake]]:
    """Return the file's mapping, None if unreadable, and what is wrong; `if_absent`: the remedy for a missing file."""
    text, mistakes = _read(path, if_absent)
    return (None, mistakes) if text is None else _parse(text, str(path))


def read_nodes(path: Path, if_absent: str) -> tuple[MappingNode | None, list[Mistake]]:
    """Return the file as the parser's nodes, which know their lines and the text of every scalar; else as
    `read_mapping`. Nothing is converted, and merge keys (`<<`) still stand there.
    """
    text, mistakes = _read(path, if_absent)
    if text is None:
        return None, mistakes
    check = _Check(str(path))
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            check.visit(node, ())
    except yaml.MarkedYAMLError as error:
        return None, [_syntax(error, str(path))]
    except yaml.YAMLError:
        return None, [Mistake(str(path), "", "holds control characters", "must be plain text")]
    finally:
        loader.dispose()
    if check.mistakes:
        return None, check.mistakes
    if not isinstance(node, MappingNode):
        return None, [Mistake(str(path), "", "is not a mapping", "must consist of lines such as `key: value`")]
    return node, []


def _read(path: Path, if_absent: str) -> tuple[str | None, list[Mistake]]:
    name = str(path)
    try:
        return path.read_bytes().decode("utf-8-sig"), []
    except FileNotFoundError:
        return None, [Mistake(name, "", "does not exist", if_absent)]
    except OSError as error:
        reason = error.strerror or "unknown reason"
        return None, [Mistake(name, "", f"cannot be read ({reason})", "must be a file that this user may read")]
    except UnicodeDecodeError as error:
        return None, [Mistake(name, "", f"is not UTF-8 text (byte {error.start})", "save it as UTF-8")]
    except ValueError:  # a null byte, or what the file system's encoding does not have
        return None, [Mistake(name, "", "cannot be the name of a file", if_absent)]


def _parse(text: str, name: str) -> tuple[dict[str, Any] | None, list[Mistake]]:
    check = _Check(name)
    try:
        tree = _built(_Loader(text), check)
    except yaml.MarkedYAMLError as error:
        check.mistakes.append(_syntax(error, name))
    except yaml.YAMLError:
        check.mistakes.append(Mistake(name, "", "holds control characters", "must be plain text"))
    except (ValueError, LookupError, ArithmeticError):  # what the loader's own conversions let through
        check.mistakes.append(Mistake(name, "", "holds a number that cannot be read", "write digits, or quote it"))
    else:
        if isinstance(tree, dict):
            return tree, check.mistakes
        if tree is None and not check.fatal:
            check.mistakes.append(Mistake(name, "", "is empty", "must hold a mapping, as the files in config/ do"))
        elif not check.fatal:
            check.mistakes.append(Mistake(name, "", "is not a mapping", "must consist of lines such as `key: value`"))
    return None, check.mistakes


def _built(loader: _Loader, check: "_Check") -> object:
    """Return the document, or None where there is none or `check` finds that building it would not be safe."""
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        check.visit(node, ())
        return None if check.fatal else loader.construct_document(node)
    finally:
        loader.dispose()


def _syntax(error: yaml.MarkedYAMLError, name: str) -> Mistake:
    # The parser's snippets and longer quotations are left out: the line may hold a credential.
    mark = error.problem_mark or error.context_mark
    problem = re.sub(r"'[^' ]{4,}'", "…", error.problem or "")
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
    return Mistake(
        name, where, f"is not YAML ({problem})" if problem else "is not YAML", "mend the line or the one above it"
    )


@dataclass(slots=True)
class _Check:
    """A walk over a document before it is built: collects mistakes, and whether building it would be safe."""

    name: str
    mistakes: list[Mistake] = field(default_factory=list)
    fatal: bool = False
    _sizes: dict[Node, int] = field(default_factory=dict)

    def visit(self, node: Node, above: tuple[Node, ...]) -> int:
        """Check `node` once and return how many values it stands for when written out."""
        if node in self._sizes:
            return self._sizes[node]
        if node in above:
            return self._refuse(node, "contains itself", "must not: write it out in place of the alias")
        if len(above) > _DEEPEST:
            return self._refuse(node, f"is nested more than {_DEEPEST} deep", "must be flatter")
        if node.tag not in _PLAIN_TAGS:
            return self._refuse(node, "holds a tag (a word after !)", "must be plain YAML without tags")
        if isinstance(node, MappingNode):
            self._check_keys(node)
        size = 1 + sum(self.visit(child, (*above, node)) for child in _children(node))
        self._sizes[node] = size
        if size > _MOST_VALUES and not self.fatal:
            self._refuse(node, f"stands for more than {_MOST_VALUES} values", "must use fewer aliases")
        return size

    def _check_keys(self, node: MappingNode) -> None:
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode) or key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                self._add(key, "has a key that is not text", "quote it")
            elif key.value in first and key.tag == f"{_TAG}str":
                allowed = f"must stand once (it is on line {first[key.value]} already)"
                self._add(key, f"has the key {quoted(key.value)} again", allowed)
            else:
                first[key.value] = key.start_mark.line + 1

    def _refuse(self, node: Node, problem: str, allowed: str) -> int:
        self.fatal = True
        self._add(node, problem, allowed)
        return 1

    def _add(self, node: Node, problem: str, allowed: str) -> None:
        self.mistakes.append(Mistake(self.name, f"line {node.start_mark.line + 1}", problem, allowed))


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, SequenceNode):
        yield from node.value
