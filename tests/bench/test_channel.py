from __future__ import annotations

import io

import pytest
from bench.channel import Channel, ChannelClosed, Message


def sent(*messages: tuple[dict[str, object], bytes]) -> bytes:
    writer = io.BytesIO()
    for fields, payload in messages:
        Channel(io.BytesIO(), writer).send(fields, payload)
    return writer.getvalue()


def test_messages_arrive_as_they_were_sent() -> None:
    payload = bytes(range(256)) + b"\n{}\n"
    channel = Channel(io.BytesIO(sent(({"op": "a\nb"}, payload), ({}, b""))), io.BytesIO())
    assert channel.receive() == Message({"op": "a\nb"}, payload)
    assert channel.receive() == Message({})


@pytest.mark.parametrize("size", [0, 1, 10, 40])
def test_an_end_within_a_message_is_noticed(size: int) -> None:
    data = sent(({"op": "logits"}, b"x" * 16))
    with pytest.raises(ChannelClosed):
        Channel(io.BytesIO(data[:size]), io.BytesIO()).receive()


def test_fields_have_types() -> None:
    message = Message({"op": "decode", "num_tokens": 3, "seconds": 2, "prompts": [[1], [2]]})
    assert message.text("op") == "decode"
    assert message.integer("num_tokens") == 3
    assert message.number("seconds") == 2.0
    assert message.token_lists("prompts") == [[1], [2]]
    for read in (message.integer, message.number, message.token_lists):
        with pytest.raises(TypeError, match="op"):
            read("op")
    with pytest.raises(TypeError, match="seconds"):
        message.text("seconds")
    with pytest.raises(KeyError):
        message.text("absent")
