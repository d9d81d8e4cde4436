import pytest

from lepton_ai.errors import InvalidModel
from lepton_ai.text.untrusted_json import Fields, parse_object


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b'{"a": 1, "a": 2}', "key 'a' stands there twice"),
        (b'{"x": {"a": 1, "a": 1}}', "key 'a' stands there twice"),
        (b'{"x": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"\\ud800": 1}', "half of a surrogate pair"),
        (b'{"a": \xff}', "file: expected JSON, got what is not"),
        (b'{"a": 1', "file: expected JSON, got what is not"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "file: expected JSON, got what is not"),
        (b"[]", "file: expected an object, got list"),
        (b"", "expected JSON"),
    ],
)
def test_what_is_no_object_is_refused(data: bytes, named: str) -> None:
    with pytest.raises(InvalidModel, match=named):
        parse_object(data, "file")


def test_fields_are_taken_once_and_by_type() -> None:
    fields = Fields({"n": 3, "flag": True, "none": None, "inner": {"s": "x"}, "null": None}, "file")
    assert fields.take("n", int) == 3
    assert fields.take("none", bool, False) is False
    assert fields.take("missing", str, "d") == "d"
    assert fields.take_fields("inner").take("s", str) == "x"
    assert "flag" in fields and "null" not in fields and "n" not in fields
    with pytest.raises(InvalidModel, match="file: expected no further field, got flag"):
        fields.refuse_rest()
    assert fields.take_any("flag") is True
    fields.refuse_rest()


@pytest.mark.parametrize(
    ("value", "kind", "named"),
    [
        (True, int, "file: x: expected int, got bool"),
        (1, bool, "expected bool, got int"),
        (None, str, "expected str, got NoneType"),
        ("\ud800", str, "without surrogates"),
        ("x" * (1 << 20) + "x", str, "text up to 1048576 characters"),
    ],
)
def test_another_type_is_refused(value: object, kind: type, named: str) -> None:
    with pytest.raises(InvalidModel, match=named):
        Fields({"x": value}, "file").take("x", kind)
