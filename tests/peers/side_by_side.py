"""The harness and a peer on one network: what the tests of this folder share."""

from harness.attacks import make_attack
from harness.attacks.sweep import sweep
from harness.maths.query import correct_count
from suites.speed.peers import PEERS
from suites.speed.plain_loops import COPIES

EPSILONS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
PAIRS = [(framework, name) for framework, peers in PEERS.items() for name in peers]
IDS = [f"{framework}-{name}" for framework, name in PAIRS]


def peer_of(framework, name, pretrained, model):
    """A library, ready to attack the network inside a model of the harness; in JAX a plain one."""
    net = COPIES["jax"](*pretrained[:2]) if framework == "jax" else model.net
    return PEERS[framework][name](net, pretrained.net.input_shape, pretrained.net.classes)


def our_counts(model, attack, pretrained, epsilons, **options):
    """How many of the images stay correct under our attack, at each epsilon."""
    made = make_attack(attack, options=options)
    x = pretrained.x.astype(model.numpy(model.asarray(pretrained.x[:1])).dtype)
    return [
        correct_count(found.predictions, pretrained.y)
        for found in sweep(model, made, x, pretrained.y, epsilons)
    ]
