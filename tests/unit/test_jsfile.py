"""Reading the objects in a JavaScript file without running it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_push.jsfile import MAX_DEPTH, MAX_SIZE, JsFileError, JsObject, Path, Place, read


def the_object(text: str) -> JsObject:
    """Give the only object of a file."""
    [found] = read(text).objects.values()
    return found


def value(expression: str) -> Any:
    """Give the value of an expression that can be read."""
    found = the_object(f"settings = {{x: {expression}}};")
    assert not found.unread
    return found.values["x"]


def fault(text: str) -> str:
    with pytest.raises(JsFileError) as raised:
        read(text)
    return str(raised.value)


# --- What is read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'single'", "single"),
        ('"double"', "double"),
        ("`back`", "back"),
        ('"it\'s"', "it's"),
        (r"'\'\"\\\/\n\t\x41\u0042\u{1f600}\0'", "'\"\\/\n\tAB\U0001f600\0"),
        (r"'\ud83d\ude00'", "\U0001f600"),
        ("'two \\\nlines'", "two lines"),
        ("'a' + \"b\" +\n 'c'", "abc"),
        ("'// no comment' /* but this */", "// no comment"),
        ("8080", 8080),
        ("-1", -1),
        ("+1", 1),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("0x1F", 31),
        ("0b101", 5),
        ("0o17", 15),
        ("true", True),
        ("false", False),
        ("null", None),
        ("undefined", None),
        ("[]", []),
        ("[1, 'a', [true],]", [1, "a", [True]]),
        ("{}", {}),
        ("{a: {b: 1}, $c_: 2, 3: 4, 'd e': 5,}", {"a": {"b": 1}, "$c_": 2, "3": 4, "d e": 5}),
        ("1, y: 2, x: 3", 3),
    ],
)
def test_values(expression: str, expected: object) -> None:
    found = value(expression)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("settings = {a: 1};", ("settings",)),
        ("settings={a:1}", ("settings",)),
        ("\ufeff// first\n/* and ** this */\nvar settings = {a: 1}\n// last", ("settings",)),
        ("'use strict';\nmodule.exports = {a: 1};", ("module", "exports")),
        ("let x = 5, settings = {a: 1};", ("settings",)),
        ("export default {a: 1}", ()),
        ('{"a": 1}', ()),
        ("require('x')\nsettings\n=\n{a: 1}", ("settings",)),
        ("if (x) {\n  f('}');\n}\nsettings = {a: 1};", ("settings",)),
    ],
)
def test_an_object_has_the_name_it_is_assigned_to(text: str, name: Path) -> None:
    file = read(text)
    assert {each: dict(found.values) for each, found in file.objects.items()} == {name: {"a": 1}}


def test_one_object_may_have_several_names() -> None:
    file = read("exports.a = b = {x: 1};\nmodule.exports = b;")
    assert set(file.objects) == {("exports", "a"), ("b",), ("module", "exports")}
    assert len(set(map(id, file.objects.values()))) == 1
    assert not file.unread


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), json_values), st.booleans(), st.sampled_from([None, 1]))
def test_a_json_object_reads_as_json_does(
    given_value: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(given_value, ensure_ascii=ascii_only, indent=indent)
    if "Infinity" in text:  # No JSON, and a name for JavaScript.
        read(text)
        return
    found = the_object(text)
    assert found.values == json.loads(text) == given_value
    assert not found.unread


def test_a_json_number_may_be_too_large() -> None:
    assert value("1e999") == math.inf


# --- What would have to be run -------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        "process.env.PORT",
        "process.env.PORT || 8080",
        "8080 || process.env.PORT",
        "'http://' + host",
        "'a' + 1",
        "`http://${host}`",
        "'a'\n.toString()",
        "require('fs').readFileSync('/etc/key', {encoding: 'utf8'})",
        "function (a, b) { return '}'; }",
        "(a, b) => [a, b]",
        "[1, 2].join(',')",
        "{a: 1}.a",
        "!true",
        "-host",
        "(1)",
        "010",
        "1n",
        "1" * 2000,
        r"/[/'\]]'/g",
        "a ? {b: 1, c: 2} : [3, 4]",
        "`a` `b`",
    ],
)
def test_what_would_have_to_be_run_is_left_out(expression: str) -> None:
    found = the_object(f"settings = {{\n  before: 1,\n  x: {expression},\n  after: 2,\n}};")
    assert found.values == {"before": 1, "after": 2}
    assert dict(found.unread)["x",] == Place(3, 3)


@pytest.mark.parametrize(
    "member", ["x", "x() { return {}; }", "get x() { return 1; }", "...x", "[x]: 1", "async x() {}"]
)
def test_members_without_a_plain_value(member: str) -> None:
    found = the_object(f"settings = {{before: 1, {member}, after: 2}};")
    assert found.values == {"before": 1, "after": 2}
    assert len(found.unread) == 1


def test_items_that_cannot_be_read_leave_the_others() -> None:
    found = the_object("settings = {a: ['x', f(), 'y']};")
    assert found.values == {"a": ["x", "y"]}
    assert found.unread == {("a", "1"): Place(1, 22)}
    assert found.places["a", "2"] == Place(1, 27)


def test_the_last_of_a_name_counts() -> None:
    assert the_object("x = {a: 1, a: f()}").values == {}
    assert the_object("x = {a: f(), a: 1}").values == {"a": 1}
    assert not the_object("x = {a: f(), a: 1}").unread


@pytest.mark.parametrize(
    "statement",
    [
        "const fs = require('fs')",
        "settings.port = 1;",
        "if (a) { settings.port = 1; } else {\n settings.port = 2;\n}",
        "x += {a: 1};",
        "x = {a: 1}.a;",
        "x = {a: 1} + 1",
        "function f() { return `${1}`; }",
        "5",
        "(function () { x = {a: 1}; })();",
        "x = other",
    ],
)
def test_statements_that_are_passed_over_are_noted(statement: str) -> None:
    file = read(f"\n {statement}\nsettings = {{a: 1}};")
    assert set(file.objects) == {("settings",)}
    assert file.unread == (Place(2, 2),)


# --- What is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = {\n  a: 1\n  b: 2,\n}", "line 3, column 3: a comma or a closing bracket is missing"),
        ("x = {a: 'b' 'c'}", "line 1, column 13: a comma or a closing bracket is missing here"),
        ("x = {a: [1 2]}", "line 1, column 12: a comma or a closing bracket is missing here"),
        ("x = {a: 1)", "line 1, column 10: a comma or a closing bracket is missing here"),
        ("x = {port 80}", "line 1, column 11: a colon is missing here"),
        ("x = {a: }", "line 1, column 9: a value is missing here"),
        ("x = {a: [1,,2]}", "line 1, column 12: a value is missing here"),
        ("x = {a: 'b' + }", "line 1, column 15: a value is missing here"),
        ("x = {,}", "line 1, column 6: a key or } is missing here"),
        ("x = {{}}", "line 1, column 6: a key or } is missing here"),
        ("x = {a: 1", "line 1, column 5: this bracket is never closed"),
        ("x = {a: f(", "line 1, column 10: this bracket is never closed"),
        ("f(", "line 1, column 2: this bracket is never closed"),
        ("x = {a: f(]}", "line 1, column 11: this bracket closes none that is open"),
        ("x = {a: 1}}", "line 1, column 11: this bracket closes none that is open"),
        ("x = {a: 'b\n'}", "line 1, column 9: this string has no end on its line"),
        ('x = {a: "b', "line 1, column 9: this string has no end on its line"),
        ("x = {a: `b", "line 1, column 9: this template string has no end"),
        ("\r\n\r /* **", "line 3, column 2: this comment has no end"),
        (r"x = {a: '\u12'}", "line 1, column 9: this string has an escape that cannot be read"),
        (r"x = {a: '\u{110000}'}", "line 1, column 9: this string has an escape"),
        (r"x = {a: '\12'}", "line 1, column 9: this string has an escape that cannot be read"),
        ("x = {a: #}", "line 1, column 9: this character cannot stand here"),
        ("x = {a: \0}", "line 1, column 9: this character cannot stand here"),
        ("x = {a: /b\n/}", "line 1, column 9: this character cannot stand here"),
    ],
)
def test_faults_have_their_place(text: str, message: str) -> None:
    assert fault(text).startswith(message)


@pytest.mark.parametrize("opening", ["[", "{a:", "f(", "{a: f([{", "!["])
def test_nesting_has_a_limit(opening: str) -> None:
    assert f"nested deeper than {MAX_DEPTH} levels" in fault("x = {a: " + opening * 100_000)


def test_nesting_within_the_limit() -> None:
    depth = MAX_DEPTH - 1
    assert the_object("x = {a: " + "[" * depth + "]" * depth + "}").values


def test_the_size_has_a_limit() -> None:
    assert read(" " * MAX_SIZE).objects == {}
    assert fault(" " * (MAX_SIZE + 1)) == "line 1, column 1: the file is larger than 1 MiB"


def test_no_fault_shows_what_is_in_the_file() -> None:
    for text in ("x = {serviceKey: 's3cr3t", "x = {serviceKey: 's3cr3t' s3cr3t}", "x = {s3cr3t 1}"):
        assert "s3cr3t" not in fault(text)


pieces = st.sampled_from(
    [
        *"{}[](),:;=.+-/*'\"`\\$!?#\n\r ",
        "settings",
        "a",
        "1",
        "1e",
        "//",
        "/*",
        "*/",
        "${",
        "\u2028",
    ]
)


@settings(deadline=None)
@given(st.text() | st.lists(pieces, max_size=60).map("".join))
def test_any_text_is_read_or_refused_with_its_place(text: str) -> None:
    try:
        found = list(read(text).objects.values())
    except JsFileError as error:
        found, place = [], error.place
    else:
        place = Place(1, 1)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert 1 <= place.line <= len(lines)
    assert 1 <= place.column <= len(text) + 1
    assert all(set(each.unread) <= set(each.places) for each in found)
