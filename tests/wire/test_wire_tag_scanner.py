"""Reasoning in tags is found at the beginning of a text alone, and the same however the text was cut.

For every text and every way to cut it: what the scanner returns for the pieces, joined, is what it returns for the
whole; and outside of tags and the blanks beside them no character is lost, doubled or moved.
"""

import re
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import tag_scanner
from proxy.wire.tag_scanner import Blocks, TagScanner

FENCED = "```\n<think>x</think>\n```"
TAGS = [
    pytest.param("<think>\nOkay.\n</think>\n\nHi.", "Okay.", "Hi.", id="G21"),
    pytest.param("Hi.", "", "Hi.", id="G22"),
    pytest.param("  <think>a</think> b", "a", "b", id="G23"),
    pytest.param("<think>\n\n</think>\n\nHi", "", "Hi", id="G24"),
    pytest.param("<think>a", "a", "", id="G25"),
    pytest.param("a<think>b</think>c", "", "a<think>b</think>c", id="G30"),
    pytest.param("<think>a</think>\n<think>b</think>\n\nc", "a\n\nb", "c", id="G31"),
    pytest.param("<think>x <think>y</think> z</think>w", "x <think>y", "z</think>w", id="G32"),
    pytest.param("<thinking>no</thinking>", "", "<thinking>no</thinking>", id="G33"),
    pytest.param("<thi", "", "<thi", id="G34"),
    pytest.param("r</think>c", "", "r</think>c", id="G35"),
    pytest.param(FENCED, "", FENCED, id="G36"),
    pytest.param(" \n ", "", " \n ", id="G37"),
    pytest.param("<think>a\n\n\nb  </think>  c  ", "a\n\n\nb", "c  ", id="G38"),
    pytest.param("<think>\nOkay, café 世界? 5 </thin k> no … done.\n</think>\n\nVoilà — 世界 😀.",
                 "Okay, café 世界? 5 </thin k> no … done.", "Voilà — 世界 😀.", id="G03"),
    pytest.param("<think>\nLet me count: 1, 2, 3 </th", "Let me count: 1, 2, 3 </th", "", id="G06"),
    pytest.param("", "", "", id="nothing"),
    pytest.param("<think>", "", "", id="an opening tag alone"),
    pytest.param("<think> \n", "", "", id="blanks in a block that is not closed"),
    pytest.param("<think> \n</th", "</th", "", id="the beginning of a closing tag alone"),
    pytest.param("<think>a \n</think", "a \n</think", "", id="blanks before the beginning of a closing tag"),
    pytest.param("<think>a <</think>b", "a <", "b", id="the first character of a tag before it"),
    pytest.param("<think>a</</think>b", "a</", "b", id="the beginning of a tag before it"),
    pytest.param("<think>a</think>\n <thi", "a", "<thi", id="the beginning of a tag behind a block"),
    pytest.param("<think>a</think>\n \t\r\n", "a", "", id="blanks behind a block"),
    pytest.param("<think></think><think>a</think><think> </think>b", "a", "b", id="empty blocks around one"),
    pytest.param("\xa0<think>a</think>b", "", "\xa0<think>a</think>b", id="a blank of another kind"),
    pytest.param("<THINK>a</THINK>b", "", "<THINK>a</THINK>b", id="capitals"),
]  # fmt: skip
PREFILLED = [
    pytest.param("I reason</think>\nAns", "I reason", "Ans", id="G26"),
    pytest.param("<think>\nI reason</think>\nAns", "I reason", "Ans", id="G27"),
    pytest.param("no close", "no close", "", id="G28"),
    pytest.param("The user greets me.\nReply briefly.\n</think>\n\nHello there.",
                 "The user greets me.\nReply briefly.", "Hello there.", id="G04"),
    pytest.param("</think>\nAns", "", "Ans", id="an empty block"),
    pytest.param(" \n</think>Ans", "", "Ans", id="blanks in the block"),
    pytest.param("<thi", "<thi", "", id="the beginning of an opening tag"),
    pytest.param(" <th</think>b", "<th", "b", id="the beginning of an opening tag in the block"),
    pytest.param("<think><think>a</think>b", "<think>a", "b", id="two opening tags"),
    pytest.param("a</think><think>b</think>c", "a\n\nb", "c", id="another block behind it"),
    pytest.param("", "", "", id="nothing"),
]  # fmt: skip
LEFT = [
    pytest.param("<think>a</think>b", "<think>a</think>b", False, id="a block"),
    pytest.param(" \n<thi", " \n<thi", False, id="the beginning of a tag"),
    pytest.param("Hi.", "Hi.", False, id="no block"),
    pytest.param("I reason</think>\nAns", "<think>I reason</think>\nAns", True, id="D4.11"),
    pytest.param(" <think>a</think>b", " <think>a</think>b", True, id="an opening tag that was written after all"),
    pytest.param("<thi", "<think><thi", True, id="the beginning of a tag in a block"),
    pytest.param("", "", True, id="nothing"),
]


def scanner(*, prefilled: bool = False, blocks: Blocks = Blocks.TAKE) -> TagScanner:
    return TagScanner("<think>", "</think>", blocks, prefilled=prefilled)


def scan(pieces: list[str], machine: TagScanner) -> tuple[str, str]:
    parts = [machine.feed(piece) for piece in pieces] + [machine.flush()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


def cut(text: str, places: list[int]) -> list[str]:
    return [text[start:end] for start, end in pairwise([0, *sorted(places), len(text)])]


def every_cut(text: str) -> list[list[str]]:
    places = range(len(text) + 1)
    return [[text], *(cut(text, list(chosen)) for size in (1, 2) for chosen in combinations(places, size)), list(text)]


@pytest.mark.parametrize(("text", "reasoning", "content"), TAGS)
def test_tags_part_a_text_however_it_is_cut(text: str, reasoning: str, content: str):
    for pieces in every_cut(text):
        assert scan(pieces, scanner()) == (reasoning, content), pieces


@pytest.mark.parametrize(("text", "reasoning", "content"), PREFILLED)
def test_a_text_that_begins_inside_a_block_is_parted_however_it_is_cut(text: str, reasoning: str, content: str):
    for pieces in every_cut(text):
        assert scan(pieces, scanner(prefilled=True)) == (reasoning, content), pieces


@pytest.mark.parametrize(("text", "content", "prefilled"), LEFT)
def test_blocks_that_stay_keep_their_tags_and_get_the_one_that_is_missing(text: str, content: str, prefilled: bool):
    for pieces in every_cut(text):
        assert scan(pieces, scanner(prefilled=prefilled, blocks=Blocks.LEAVE)) == ("", content), pieces


@pytest.mark.parametrize("text", ["<think>a</think>b", " <think>a", "Hi.", "<thi", "<think>a</think><think>b</think>"])
def test_blocks_that_could_only_repeat_what_came_elsewhere_stay_if_nothing_did(text: str):
    for pieces in every_cut(text):
        assert scan(pieces, scanner(blocks=Blocks.AWAIT)) == ("", text), pieces


@pytest.mark.parametrize("text", ["<think>a</think>b", " <think>a", "Hi.", "<thi", "</think>", " ", ""])
@pytest.mark.parametrize("prefilled", [False, True])
def test_tags_that_mean_nothing_are_text_as_it_comes(text: str, prefilled: bool):
    for pieces in every_cut(text):
        machine = scanner(blocks=Blocks.IGNORE, prefilled=prefilled)
        assert [machine.feed(piece) for piece in pieces] == [("", piece) for piece in pieces]
        machine.repeats()
        assert machine.flush() == machine.close() == ("", "")
        assert machine.done is bool(text)


MIRROR = " <think>\nmirror</think> <think>of it</think>\n b"
BEGUN = {Blocks.AWAIT: MIRROR.index("b"), Blocks.TAKE: MIRROR.index("m"), Blocks.LEAVE: MIRROR.index("m")}
"""Where something of the text has left: up to there it can still be a repetition."""


@pytest.mark.parametrize("blocks", BEGUN)
@pytest.mark.parametrize("prefilled", [False, True])
def test_a_block_that_repeats_what_came_elsewhere_is_parted_from_the_text(blocks: Blocks, prefilled: bool):
    for at in range(BEGUN[blocks] + 1):
        machine = scanner(blocks=blocks, prefilled=prefilled)
        assert machine.feed(MIRROR[:at]) == ("", "")
        machine.repeats()
        _, content = scan([MIRROR[at:]], machine)
        assert content == "b"


@pytest.mark.parametrize("text", ["\nthe answer", "</think>the answer", " \n</think> <think>a</think>b", "\n<th"])
@pytest.mark.parametrize("blocks", [Blocks.TAKE, Blocks.LEAVE])
def test_a_text_beside_reasoning_that_came_elsewhere_does_not_begin_inside_a_block(text: str, blocks: Blocks):
    for at in range(len(text) + 1):
        machine = scanner(prefilled=True, blocks=blocks)
        if machine.feed(text[:at]) != ("", ""):
            break
        machine.repeats()
        assert scan([text[at:]], machine) == ("", text)


@pytest.mark.parametrize(("blocks", "rest"), [(Blocks.TAKE, "x"), (Blocks.LEAVE, "x"), (Blocks.AWAIT, "x")])
def test_a_block_that_was_ended_is_not_begun_again_by_a_repetition(blocks: Blocks, rest: str):
    machine = scanner(blocks=blocks)
    held = machine.feed("<think>"), machine.close()
    assert "".join(content for _, content in held) == ("" if blocks is Blocks.TAKE else "<think>")
    machine.repeats()
    assert scan([rest], machine) == ("", rest)


@pytest.mark.parametrize(
    ("text", "closed", "then", "rest"),
    [
        ("<think>plan", ("", ""), "x", ("", "x")),
        ("<think>plan \n", ("", ""), "x", ("", "x")),
        ("<think>plan </th", (" </th", ""), "ink>x", ("", "ink>x")),
        ("<think>plan</think>\n", ("", ""), "x", ("", "x")),
        ("<think>plan</think>\n<th", ("", "<th"), "ink>x", ("", "ink>x")),
        (" <thi", ("", " <thi"), "nk>x", ("", "nk>x")),
        ("", ("", ""), "<think>a</think>b", ("a", "b")),
    ],
)
def test_what_is_no_text_ends_an_open_block(text: str, closed: tuple[str, str], then: str, rest: tuple[str, str]):
    machine = scanner()
    machine.feed(text)
    assert machine.close() == closed
    assert scan([then], machine) == rest


@pytest.mark.parametrize(
    ("blocks", "text", "said"),
    [
        (Blocks.TAKE, "x</think>", ("", "x</think>")),
        (Blocks.TAKE, "\n<think>x</think> y", ("x", "y")),
        (Blocks.LEAVE, "x</think>", ("", "x</think>")),
        (Blocks.LEAVE, "\n<think>x</think> y", ("", "\n<think>x</think> y")),
    ],
)
def test_what_is_no_text_ends_the_block_that_a_text_began_in(blocks: Blocks, text: str, said: tuple[str, str]):
    machine = scanner(prefilled=True, blocks=blocks)
    assert machine.close() == ("", "")
    assert scan([text], machine) == said


@pytest.mark.parametrize("end", ["close", "flush"])
@pytest.mark.parametrize("blocks", [Blocks.LEAVE, Blocks.AWAIT])
def test_blocks_stay_behind_what_is_no_text_too(end: str, blocks: Blocks):
    machine = scanner(blocks=blocks)
    assert getattr(machine, end)() == ("", "")
    assert scan(["<think>a</think>b"], machine) == ("", "<think>a</think>b")


def test_a_tag_is_known_as_soon_as_it_is_whole_and_text_is_not_kept_longer_than_it_must():
    machine = scanner()
    assert [machine.feed(piece) for piece in ("<think>", "\n", "a b", " ", "c</", "b", "</think>", "\n\n", "d ")] == [
        ("", ""), ("", ""), ("a b", ""), ("", ""), (" c", ""), ("</b", ""), ("", ""), ("", ""), ("", "d "),
    ]  # fmt: skip
    assert machine.done


def test_a_blank_shows_that_what_was_held_back_is_no_tag():
    assert [scan_one.feed(" ") for scan_one in held_back("<thi", "<think>a</thi", "<think>a</think><thi")] == [
        ("", "<thi "), ("</thi", ""), ("", "<thi "),
    ]  # fmt: skip


def held_back(*texts: str) -> list[TagScanner]:
    """Machines that hold back the ends of these texts."""
    machines = [scanner() for _ in texts]
    for machine, text in zip(machines, texts, strict=True):
        machine.feed(text)
    return machines


def test_it_says_whether_there_was_a_block():
    for text, found in {"<think></think>a": True, "a<think></think>": False, "<thi": False}.items():
        machine = scanner()
        scan([text], machine)
        assert machine.found is found


@pytest.mark.parametrize(("opening", "closing"), [("[R]", "[/R]"), ("<", ">"), ("a", "b"), ("\n--\n", "\n==\n")])
def test_any_pair_of_tags_will_do(opening: str, closing: str):
    text = f"{opening}x{closing}y"
    for pieces in every_cut(text):
        assert scan(pieces, TagScanner(opening, closing, Blocks.TAKE, prefilled=False))[0] == "x"


PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<thi", "nk>", "</", "<", " ", "\n", "\t", "a", "é", "<th</think>"]),
    max_size=12,
)
MACHINES = st.tuples(st.sampled_from(Blocks), st.booleans())


@given(pieces=PIECES, places=st.lists(st.integers(0, 100), max_size=8), machine=MACHINES)
def test_the_result_never_depends_on_the_cuts(pieces: list[str], places: list[int], machine: tuple[Blocks, bool]):
    blocks, prefilled = machine
    prefilled = prefilled and blocks is not Blocks.AWAIT
    text = "".join(pieces)
    whole = scan([text], scanner(blocks=blocks, prefilled=prefilled))
    cut_up = cut(text, [place % (len(text) + 1) for place in places])
    for parts in (pieces, list(text), cut_up):
        assert scan(parts, scanner(blocks=blocks, prefilled=prefilled)) == whole


def bare(text: str) -> str:
    return re.sub(r"[ \t\r\n]", "", text)


@given(PIECES)
def test_nothing_but_tags_and_blanks_is_lost_doubled_or_moved(pieces: list[str]):
    text = "".join(pieces)
    reasoning, content = scan(pieces, scanner())
    assert text.endswith(content)
    before = text[: len(text) - len(content)]
    blocks = re.fullmatch(
        r"\s*(?:<think>(?:(?!</think>).)*</think>\s*)*(?:<think>(?:(?!</think>).)*)?", before, re.DOTALL
    )
    assert blocks or not before
    inside = re.findall(r"<think>((?:(?!</think>).)*)(?:</think>|\Z)", before, re.DOTALL)
    assert bare(reasoning) == bare("".join(inside))
    assert reasoning == "\n\n".join(found for part in inside if (found := part.strip(" \t\r\n")))


@pytest.mark.parametrize(("first", "rest"), [("<think>x", " \n"), (" ", "\t"), ("<think>x</think>", " ")])
def test_blanks_that_wait_are_not_looked_at_again_with_every_piece(first: str, rest: str):
    scanner = TagScanner("<think>", "</think>", Blocks.TAKE, prefilled=False)
    scanner.feed(first)
    for _ in range(10):
        assert scanner.feed(rest) == ("", "")
    assert len(scanner._held) >= 9


def test_an_open_block_that_may_only_repeat_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tag_scanner, "MOST_AWAITED", 50)
    scanner = TagScanner("<think>", "</think>", Blocks.AWAIT, prefilled=False)
    pieces = ["<think>", *["word "] * 30]
    assert "".join(content for piece in pieces for content in scanner.feed(piece)) == "".join(pieces)


class Counted(str):
    """A text that counts the characters that are looked at or copied, its own and those of its pieces."""

    __slots__ = ("looked_at",)
    looked_at: list[int]

    @classmethod
    def of(cls, text: str, looked_at: list[int]) -> "Counted":
        made = cls(text)
        made.looked_at = looked_at
        return made

    def _piece(self, text: str) -> "Counted":
        self.looked_at[0] += len(text)
        return Counted.of(text, self.looked_at)

    def __getitem__(self, place: object) -> "Counted":
        return self._piece(super().__getitem__(place))

    def __radd__(self, other: str) -> "Counted":
        return self._piece(str(other) + str(self))

    def __getattribute__(self, name: str) -> object:
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found

        def counted(*given: object) -> object:
            result = found(*given)
            start = given[1] if len(given) > 1 else 0
            self.looked_at[0] += {
                "find": (result if isinstance(result, int) and result >= 0 else len(self)) - start,
                "startswith": len(str(given[0])),
            }.get(name, len(self))
            if isinstance(result, str):
                return Counted.of(result, self.looked_at)
            return tuple(map(self._piece, result)) if isinstance(result, tuple) else result

        return counted


@pytest.mark.parametrize("begin", ["", "<think>"])
@pytest.mark.parametrize("block", ["<think>a</think>", "<think></think>", " <think> </think>\n", "<", "</think", " <t"])
@pytest.mark.parametrize("machine", [(Blocks.TAKE, False), (Blocks.TAKE, True), (Blocks.LEAVE, False),
                                     (Blocks.AWAIT, False)], ids=str)  # fmt: skip
def test_the_work_for_a_text_grows_with_its_size_alone(begin: str, block: str, machine: tuple[Blocks, bool]):
    def work(times: int) -> float:
        counted = Counted.of(begin + block * times + "x", [0])
        scan([counted], scanner(blocks=machine[0], prefilled=machine[1]))
        return counted.looked_at[0] / times

    assert 0 < work(2000) < 1.1 * work(200)
