"""What the attacks of the harness have in common: their fields are their options."""

from __future__ import annotations

from typing import Any

from harness.making import fields_of
from harness.protocol import FloatArray, IntArray


class Own:
    """A base of dataclasses: an untargeted attack, unless ``goals`` says otherwise."""

    def goals(self, logits: FloatArray, labels: IntArray) -> IntArray | None:
        """See ``protocol.Attack``."""
        return None

    def options(self) -> dict[str, Any]:
        """See ``protocol.Attack``: every field but the name."""
        return fields_of(self)
