"""What the attacks of the harness have in common: their fields are their options."""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.protocol import FloatArray, IntArray


class Own:
    """A base of dataclasses: an untargeted attack, unless ``goals`` says otherwise."""

    def goals(self, logits: FloatArray, labels: IntArray) -> IntArray | None:
        """See ``protocol.Attack``."""
        return None

    def options(self) -> dict[str, Any]:
        """See ``protocol.Attack``: every field but the name."""
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]  # of its subclasses
        return {field.name: _plain(getattr(self, field.name)) for field in fields
                if field.name != "name"}  # fmt: skip


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
