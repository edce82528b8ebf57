"""Which classes a network knows by name, by the list of labels that it is published with."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from edgetpu_retrain.errors import UserError

_BACKGROUND = "background"
_WORD = re.compile(r"[^\W\d_]+")
# The ends of words that are taken for plurals or look like them, and of their singulars.
_ENDINGS = {
    "ies": "y",
    "sses": "ss",
    "ches": "ch",
    "shes": "sh",
    "xes": "x",
    "ss": "ss",
    "us": "us",
    "is": "is",
    "s": "",
}
_Words = tuple[str, ...]


def labels_path(workflow: str | Path, backbone: str) -> Path:
    """Returns where the labels of a backbone in the catalogue are stored once downloaded.

    Args:
        workflow: the folder of the Snakefile.
        backbone: name of the backbone.
    """
    return Path(workflow, "resources", "labels", f"{backbone}.txt")


def check_labels(path: str | Path) -> None:
    """Checks that a file is a list of labels.

    Raises:
        UserError: it is not; a proxy may have answered with a page of its own.
    """
    lines = _read(path)
    if 2 * sum(bool(re.match(r"[^()<>]+\(.*\)$", line)) for line in lines) <= len(lines):
        raise UserError("this is not a list of labels, such as Turdus merula (Common Blackbird)")


def find_known(classes: Iterable[str], paths: Mapping[str, str | Path]) -> dict[str, list[str]]:
    """Returns the classes that networks know by name: for each network, those among its labels.

    A label is a Latin name with a common one: ``Turdus merula (Common Blackbird)``. A class is
    among the labels if it is the Latin name or the first part of it, such as the genus, or the
    common name or the last part of it: blackbird, but not common. Case, digits and punctuation do
    not matter, nor does a simple plural.

    Args:
        classes: names of classes.
        paths: files of labels, by the names of the networks. One that cannot be read knows nothing.

    Returns:
        The known classes in the given order, by network, the network that knows most first.
        Networks that know none are left out.
    """
    classes = list(classes)
    known = {}
    for network, path in paths.items():
        names = {name for label in _read(path) for name in _names_in(label)}
        known[network] = [one for one in classes if not names.isdisjoint(_names_of(one))]
    by_number = sorted(known, key=lambda network: -len(known[network]))
    return {network: known[network] for network in by_number if known[network]}


def _read(path: str | Path) -> list[str]:
    try:
        text = Path(path).read_text("utf-8", "replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def _names_in(label: str) -> Iterator[_Words]:
    """Yields the names that a label answers to.

    >>> list(_names_in("Parus major (Great Tits)"))
    [('parus',), ('parus', 'major'), ('great', 'tits'), ('great', 'tit'), ('tits',), ('tit',)]
    """
    if label == _BACKGROUND:
        return
    latin, common, *_ = *map(_words, re.split(r"[()]", label)), ()
    yield from (latin[:i] for i in range(1, len(latin) + 1))
    for i in range(len(common)):
        yield common[i:]
        yield _singular(common[i:])


def _names_of(name: str) -> set[_Words]:
    """Returns the names that a class can have; it may be written as labels are."""
    parts = [words for part in re.split(r"[()]", name) if (words := _words(part))]
    return {*parts, *map(_singular, parts)}


def _words(text: str) -> _Words:
    text = unicodedata.normalize("NFKC", text).casefold()
    return tuple(_WORD.findall(re.sub("['\u2019]", "", text)))


def _singular(words: _Words) -> _Words:
    """Returns words with the last one in the singular, if its plural is a simple one.

    >>> _singular(("barn", "swallows")), _singular(("finches",)), _singular(("turdus",))
    (('barn', 'swallow'), ('finch',), ('turdus',))
    """
    *before, last = words
    ending = next((one for one in _ENDINGS if last.endswith(one) and len(last) > len(one) + 1), "")
    return (*before, last.removesuffix(ending) + _ENDINGS.get(ending, ""))
