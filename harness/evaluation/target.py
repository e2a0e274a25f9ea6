"""What a suite's test can ask of the model it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.evaluation.benchmark import Bench
from harness.evaluation.resolve import attack_of
from harness.results.records import Record


class Target:
    """The fixture ``target``: one target in one backend, measured when asked.

    Args:
        bench: Makes the data and the models.
        backend: Name of the backend.
        name: Name of the target.
        epsilons: Those selected, by backend, target and attack.
        save: Writes the run; called after each measurement, before it is judged.
    """

    def __init__(
        self,
        bench: Bench,
        backend: str,
        name: str,
        epsilons: Mapping[tuple[str, str, str], Sequence[float]],
        save: Callable[[], None],
    ) -> None:
        self._bench = bench
        self._epsilons = epsilons
        self._save = save
        self._subject = self._bench.subject(backend, name)
        self._sweeps: dict[str, dict[float | None, Record]] = {}
        self._occluded: dict[str, Record] = {}
        self._analysed: dict[str, Record] = {}
        self.backend = backend
        self.name = name

    def clean(self) -> Record:
        """Accuracy on the test images as they are."""
        return self._kept(self._subject.clean())

    def attacked(self, attack: str, epsilon: float) -> Record:
        """Accuracy under an attack; the first call measures all selected epsilons at once."""
        if attack not in self._sweeps:
            epsilons = self._epsilons[self.backend, self.name, attack]
            spec = self._bench.spec
            records = self._subject.attacked(
                attack_of(spec, attack), sorted(set(epsilons)), spec.attacks[attack].images
            )
            self._sweeps[attack] = {record.epsilon: record for record in records}
            self._save()
        return self._sweeps[attack][epsilon]

    def minimal_epsilon(self, method: str) -> Record:
        """The median of the smallest epsilons at which images fall, by ``fgsm`` or ``pgd``."""
        spec = self._bench.spec
        attack = attack_of(spec, method)
        return self._kept(self._subject.minimal_epsilon(method, spec.minimal, attack))

    def occluded(self, choice: str) -> Record:
        """Accuracy with the ``top``, ``random`` or ``least`` salient pixels covered.

        The random pixels are always measured too: the others are judged beside them.
        """
        spec = self._bench.spec
        for needed in ("random", choice):
            if needed not in self._occluded:
                record = self._subject.occluded(needed, spec.saliency, spec.seed)
                self._occluded[needed] = self._kept(record)
        return self._occluded[choice]

    def analysed(self, explainer: str, measure: str) -> Record:
        """One of ``analysis.MEASURES`` of a method's maps; the first call measures them all."""
        check = f"saliency/{explainer}/{measure}"
        if check not in self._analysed:
            spec = self._bench.spec
            records = self._subject.analysed(explainer, spec.saliency, spec.seed)
            self._analysed |= {record.check: record for record in records}
            self._save()
        return self._analysed[check]

    def sanity(self, explainer: str, rule: str) -> Record:
        """One check of whether a method's maps explain the model."""
        return self._kept(self._bench.sanity(self.backend, self.name, explainer, rule))

    def collapse(self) -> Record:
        """Whether the defence fools FGSM alone, as seen in its training."""
        return self._kept(self._bench.collapse(self.backend, self.name))

    def conformance(self, rule: str) -> Record:
        """One check of the protocol."""
        return self._kept(self._bench.conformance(self.backend, self.name, rule))

    def validity(self, rule: str) -> Record:
        """One check of whether the robustness numbers can be trusted."""
        return self._kept(self._bench.validity(self.backend, self.name, rule))

    def _kept(self, record: Record) -> Record:
        """The record, safe on disk: it is stored before it is judged."""
        self._save()
        return record
