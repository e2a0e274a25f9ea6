"""A dataset."""

from harness.data import digits


class Copies:
    """The digits of scikit-learn, under another name."""

    def prepare(self):
        return []

    def load(self):
        return digits.load()


COPIES = Copies()
