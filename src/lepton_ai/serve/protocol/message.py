"""The message of a chat's answer that may reason and call tools, whole or as deltas."""

from __future__ import annotations

import secrets

from lepton_ai.text.answer_parser import Piece, PieceKind

Json = dict[str, object]


class DeltaWriter:
    """Pieces of one answer as the deltas of its message."""

    def __init__(self) -> None:
        self._num_calls = 0

    def delta(self, piece: Piece) -> Json:
        """What a piece adds. A call has its index in each of its deltas, and its name in the first alone."""
        match piece.kind:
            case PieceKind.TEXT:
                return {"content": piece.text}
            case PieceKind.REASONING:
                return {"reasoning_content": piece.text}
            case PieceKind.CALL:
                self._num_calls += 1
                return {"tool_calls": [{"index": self._num_calls - 1, **_call(piece.text, "")}]}
            case PieceKind.ARGUMENTS:
                return {"tool_calls": [{"index": self._num_calls - 1, "function": {"arguments": piece.text}}]}


class MessageWriter:
    """Pieces of one answer as its message."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[str, list[str]]] = []

    def add(self, piece: Piece) -> None:
        """The next piece."""
        match piece.kind:
            case PieceKind.TEXT:
                self._text.append(piece.text)
            case PieceKind.REASONING:
                self._reasoning.append(piece.text)
            case PieceKind.CALL:
                self._calls.append((piece.text, []))
            case PieceKind.ARGUMENTS:
                self._calls[-1][1].append(piece.text)

    def message(self) -> Json:
        """The message. Its content is null where there is none, but calls."""
        text = "".join(self._text)
        message: Json = {"role": "assistant", "content": text if text or not self._calls else None, "refusal": None}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = [_call(name, "".join(arguments)) for name, arguments in self._calls]
        return message


def _call(name: str, arguments: str) -> Json:
    call_id = f"call_{secrets.token_hex(12)}"
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
