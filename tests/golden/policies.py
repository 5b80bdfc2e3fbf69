"""The policy half over minted claims: nothing here is random, so nothing is replaced."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.golden import product
from tests.golden.commands import code_names
from tests.golden.results import submod_lines
from tests.golden.text import Seen, command, document, flat, joined, section, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.golden.product import Json, Kind, PolicyScenario

_PINS = {
    "machine and configuration": (True, True),
    "machine": (True, False),
    "configuration": (False, True),
    "neither": (False, False),
}
# What a rule may say instead, if its field takes it: left open, empty, and weakened.
_SHORT = 40  # characters of a value
# Where members or types are wrong, the text is the JSON library's, and only the code is ours.
_OF_LIBRARY = (" - at `$", "Object missing required field")
_MALFORMED = ": MALFORMED"
_WORDS: tuple[object, ...] = ("any", [], {}, 0, "allow", "deny", "required", None)


def files() -> dict[str, str]:
    """Texts by name; they write policies into the current folder."""
    out = {
        "baseline.txt": joined(_baselines()),
        "conditions.txt": joined(_condition_fields()),
        "refusals.txt": joined(_refusals()),
        "devices-alone.txt": joined(_devices_alone()),
    }
    for name, kind in product.kinds().items():
        out[f"{name}.txt"] = joined(_kind(name, kind))
        out[f"{name}.defects.txt"] = joined(_defects(kind))
        out[f"{name}.words.txt"] = joined(_words(kind.scenario, whole=name == "sev-snp"))
    return out


# -- a kind of platform ---------------------------------------------------------------------------


def _kind(name: str, kind: Kind) -> Iterator[str]:
    scenario, seen = kind.scenario, Seen()
    release, client = product.release_document(scenario), product.client_document(scenario)
    yield from section("release policy", seen.new(document(release)))
    verbs = ("check", "explain", "show") if name == "sev-snp" else ("check", "explain")
    yield from _for_people(f"{name} release policy", release, verbs)
    yield from _for_programs(f"{name} release policy", release, seen)
    yield from _client(f"{name} client policy", client, release, seen)
    yield from section("verdict", product.verdict_sentences(scenario))
    yield from section("verdict of the client policy", product.client_sentences(scenario))
    yield from section("EAR", submod_lines(product.ear(scenario)))
    yield from section("what conditions see", flat(json.loads(_plain(scenario))))
    for title, (machine, config) in _PINS.items():
        name_ = f"{name} pinned to {title}"
        yield from _pinned(name_, scenario, seen, machine=machine, config=config)


def _plain(scenario: PolicyScenario) -> str:
    """Values of conditions as JSON; times in their own words."""
    return json.dumps(product.condition_values(scenario), default=str)


def _pinned(
    title: str, scenario: PolicyScenario, seen: Seen, *, machine: bool, config: bool
) -> Iterator[str]:
    try:
        release, client = product.pinned(scenario, machine=machine, config=config)
    except product.RegaliaError as refusal:
        yield from section(title, flat(refusal.as_dict()))
        return
    whole = machine and config
    yield from section(title, document(release) if whole else seen.new(document(release)))
    yield from _for_programs(title, release, seen)
    yield from _client(f"{title}, client's", client, release, seen)
    pinned = product.with_document(scenario, release)
    yield from section(f"{title}, verdict", product.verdict_sentences(pinned))


def _client(title: str, client: bytes, release: bytes, seen: Seen) -> Iterator[str]:
    """A client policy: where it differs from the release policy."""
    broker, theirs = json.loads(release), json.loads(client)
    differing = {
        name: theirs.get(name) for name in broker | theirs if broker.get(name) != theirs.get(name)
    }
    yield from section(title, [next(document(client)), *flat(differing)])
    yield from _for_programs(title, client, seen)


def _for_people(title: str, data: bytes, verbs: Sequence[str]) -> Iterator[str]:
    """The commands that show a policy. Its sentences are those for programs."""
    file = _written(title, data)
    body = command("policy", "explain", file, "--json").body
    says = [each["says"] for each in body["statements"]]
    for verb in verbs:
        answer = command("policy", verb, file)
        lines = answer.out.splitlines()
        if [line for line in lines if line in says] == says:
            at = lines.index(says[0])
            lines = [line for line in lines if line not in says]
            lines.insert(at, f"({len(says)} sentences, as for programs)")
        lines = [f"exit {answer.status}", *lines, *answer.err.splitlines()]
        yield from section(f"{title}: policy {verb}", lines)


def _for_programs(title: str, data: bytes, seen: Seen) -> Iterator[str]:
    answer = command("policy", "explain", _written(title, data), "--json")
    body = answer.body
    rows = [_row(each) for each in body.pop("statements")]
    lines = [f"exit {answer.status}", *flat(body), *seen.new(rows)]
    yield from section(f"{title}: policy explain --json", lines)


def _row(statement: Json) -> str:
    """One sentence. A long value that stands in it is not shown twice."""
    path, value, says = statement["path"], statement["value"], statement["says"]
    if len(value) > _SHORT and value in says:
        value = "as said"
    return f"{path} = {value} | {says}{_risk(statement['risk'])}"


def _risk(risk: str | None) -> str:
    return "" if risk is None else f" | {risk}"


def _written(title: str, data: bytes) -> str:
    file = f"{title.replace(' ', '-')}.json"
    Path(file).write_bytes(data)
    return file


def _defects(kind: Kind) -> Iterator[str]:
    """Findings of every defect: code, what, why, what would fix it."""
    seen = Seen()
    for name, (code, change) in kind.defects.items():
        broken = change(kind.scenario)
        release, client = product.verdict_sentences(broken), product.client_sentences(broken)
        result = product.ear(broken)
        lines = [f"deserves {code}", *release]
        lines += ["client: the same"] if client == release else ["client:", *client]
        lines += seen.new(submod_lines(result))
        yield from section(name, lines)


# -- words of single fields -----------------------------------------------------------------------


def _words(scenario: PolicyScenario, *, whole: bool) -> Iterator[str]:
    """Every field with other words in it: what they open, risk and deny.

    Args:
        scenario: whose release policy it is.
        whole: all of the policy, not only its platform section.
    """
    document: Json = json.loads(product.release_document(scenario))
    scenario = product.with_document(scenario, _canonical(document))  # members of tables in order
    known = product.said(scenario)
    for path in _leaves(document, ()):
        if path[0] != "platform" and not whole:
            continue
        name = ".".join(map(str, path))
        yield f"== {name}"
        refused: list[str] = []
        for word in _WORDS:
            changed = _with(document, path, word)
            if changed == document:
                continue
            (*lines,) = _worded(scenario, changed, word, known)
            if lines[0].endswith(_MALFORMED):
                refused.append(lines[0].removesuffix(_MALFORMED))
            else:
                yield from lines
        yield f"not well-formed: {', '.join(refused)}"


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - JSON
    """Paths of all fields that hold no record; and of records in lists."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        inner = list(enumerate(value))
    if path and not (isinstance(value, dict) and value):
        yield path
    for name, each in inner:
        yield from _leaves(each, (*path, name))


def _with(document: Json, path: tuple[Any, ...], word: object) -> Json:
    """A copy of the document with another word in one place; None takes the member away."""
    changed = copy.deepcopy(document)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    if word is None:
        del place[path[-1]]
    else:
        place[path[-1]] = copy.deepcopy(word)
    return changed


def _canonical(document: Json) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _worded(
    scenario: PolicyScenario, changed: Json, word: object, known: Mapping[str, object]
) -> Iterator[str]:
    shown = "absent" if word is None else json.dumps(word)
    try:
        other = product.with_document(scenario, _canonical(changed))
    except product.RegaliaError as refusal:
        text = str(refusal)
        library = any(part in text for part in _OF_LIBRARY)
        yield f"{shown}: {refusal.code.name if library else text}"
        return
    before = product.open_rules(scenario)
    opened = [path for path in product.open_rules(other) if path not in before]
    codes = other.codes()
    yield f"{shown}: {', '.join(codes) or 'allowed'}{f', opens {opened}' if opened else ''}"
    for path, (value, says, risk) in product.said(other).items():
        if known.get(path) != (value, says, risk):
            yield f"  {path}: {shorten(says)}{_risk(risk)}"


# -- what is not of one kind ----------------------------------------------------------------------


def _baselines() -> Iterator[str]:
    seen = Seen()
    for name, words in product.baselines().items():
        yield from section(name, seen.new(document(product.baseline_document(words))))
        rows = [
            f"{path} = {value} | {says} | {risk}"
            for path, (value, says, risk) in product.baseline_open(words).items()
        ]
        yield from section(f"{name}, left open", seen.new(rows))


def _condition_fields() -> Iterator[str]:
    """Names and types of what conditions may speak of."""
    for name, fields in (("client", product.CLIENT_FIELDS), ("release", product.RELEASE_FIELDS)):
        yield from section(f"{name} policies", _types(fields, ""))


def _types(fields: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - records within records
    for name, kind in fields.items():
        if isinstance(kind, str):
            yield f"{path}{name}: {kind}"
        else:
            yield from _types(kind, f"{path}{name}.")


def _refusals() -> Iterator[str]:
    """What a refusal with each code does to the trustworthiness vector."""
    spoiled: dict[str, list[str]] = {}
    for code in ("", *code_names()):
        body = product.refused_ear(code)
        vector = body["ear_trustworthiness_vector"]
        shown = {name: value for name, value in vector.items() if value}
        spoiled.setdefault(f"{body['ear_status']} {json.dumps(shown)}", []).append(code)
    for vector_text, codes in sorted(spoiled.items()):
        yield from section(vector_text, codes)


def _devices_alone() -> Iterator[str]:
    for machine in (True, False):
        yield from section(f"pinned, {machine=}", document(product.pinned_devices(machine=machine)))
    yield from section("EAR of one GPU", flat(product.device_ear()))
